"""The VMAs of an address space as columns, by address: what a snapshot is made of."""

from __future__ import annotations

from typing import NamedTuple

from vmastore.mm.mm import Mm
from vmastore.mm.vma import AnonVma, BaseAnon, VmaAttrs

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
