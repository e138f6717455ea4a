"""The VMAs of an address space as columns, by address, and back: what a snapshot is made of."""

from __future__ import annotations

from typing import Final, NamedTuple

from vmastore.mm.mm import Mm
from vmastore.mm.vma import AnonVma, BaseAnon, Vma, VmaAttrs

OWN: Final = 1  # for a chain: the VMA's own anon_vma alone
Chain = tuple[AnonVma, ...]


class VmaColumns(NamedTuple):
    """One entry a VMA in each list; labels and bases have (place, value) of those VMAs that have one.

    edges: start and end of each in turn, bytes.
    """

    edges: list[int]
    attrs: list[VmaAttrs]
    anons: list[AnonVma | None]
    chains: list[Chain]
    unsure: list[int]
    labels: list[tuple[int, str]]
    bases: list[tuple[int, BaseAnon]]


def columns_of(mm: Mm) -> VmaColumns:
    """The columns of all VMAs of `mm`."""
    starts, vmas = mm.index.columns()
    edges = [0] * (2 * len(vmas))
    edges[0::2] = starts
    edges[1::2] = [v.vm_end for v in vmas]
    return VmaColumns(
        edges,
        [v.attrs for v in vmas],
        [v.anon_vma for v in vmas],
        [v.chain for v in vmas],
        [v.unsure for v in vmas],
        [(n, v.label) for n, v in enumerate(vmas) if v.label is not None],
        [(n, v.base) for n, v in enumerate(vmas) if v.base is not None],
    )


def vmas_of(
    edges: list[int],
    attrs: list[VmaAttrs],
    anon_of: list[int],
    chain_of: list[int],
    anons: list[AnonVma],
    chains: list[Chain],
) -> list[Vma]:
    """New VMAs, by address, not linked.

    edges: start and end of each in turn. anon_of: numbers in `anons` from 1 on, 0: none. chain_of: 0 none, OWN, or
    numbers in `chains` from 2 on.
    """
    starts, ends = edges[0::2], edges[1::2]
    if not any(anon_of) and not any(chain_of):
        return [Vma(start, end, each) for start, end, each in zip(starts, ends, attrs, strict=True)]
    anon: list[AnonVma | None] = [None, *anons]
    own: list[Chain] = [(), *[(each,) for each in anons]]  # the chain of its own anon_vma alone
    many: list[Chain] = [(), (), *chains]
    return [
        Vma(start, end, each, anon[n], own[n] if kind == OWN else many[kind])
        for start, end, each, n, kind in zip(starts, ends, attrs, anon_of, chain_of, strict=True)
    ]
