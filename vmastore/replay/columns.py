"""The VMAs of an address space as columns, by address, and back: what a snapshot is made of."""

from __future__ import annotations

from typing import NamedTuple

from vmastore.mm.mm import Mm
from vmastore.mm.vma import AnonVma, BaseAnon, Vma, VmaAttrs

OWN = 1  # for a chain: the VMA's own anon_vma alone
Chain = tuple[AnonVma, ...]


class VmaColumns(NamedTuple):
    """One entry a VMA in each list; labels and bases have (place, value) of those VMAs that have one.

    starts, ends: bytes. chains: 0 none, OWN, or the chain itself.
    """

    starts: list[int]
    ends: list[int]
    attrs: list[VmaAttrs]
    anons: list[AnonVma | None]
    chains: list[int | Chain]
    unsure: list[int]
    labels: list[tuple[int, str]]
    bases: list[tuple[int, BaseAnon]]


def columns_of(mm: Mm) -> VmaColumns:
    """The columns of all VMAs of `mm`."""
    vmas = list(mm.vmas())
    anons = [v.anon_vma for v in vmas]
    chains: list[int | Chain] = [
        0 if not v.chain else OWN if len(v.chain) == 1 and v.chain[0] is v.anon_vma else v.chain for v in vmas
    ]
    return VmaColumns(
        [v.vm_start for v in vmas],
        [v.vm_end for v in vmas],
        [v.attrs for v in vmas],
        anons,
        chains,
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
