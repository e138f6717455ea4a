"""validate_mm: every address space can check itself."""

from __future__ import annotations

from vmastore.mm.flags import PAGE_SIZE, perms
from vmastore.mm.mm import Mm


class InvalidMm(AssertionError):
    """The address space is not one; the message shows its layout."""


def validate_mm(mm: Mm) -> None:
    """Assert: sorted, disjoint, non-empty, page-aligned, index and links agree, map_count right.

    Not "no mergeable neighbours": the kernel does not promise that. Source: validate_mm().
    """
    vmas = list(mm.vmas())
    end = 0
    for vma in vmas:
        where = f"{vma.vm_start:#x}-{vma.vm_end:#x}"
        _require(vma.vm_start < vma.vm_end, mm, f"{where} is empty")
        _require(vma.vm_start % PAGE_SIZE == 0, mm, f"{where} is not page-aligned")
        _require(vma.vm_end % PAGE_SIZE == 0, mm, f"{where} is not page-aligned")
        _require(vma.vm_start >= end, mm, f"{where} overlaps the VMA before it")
        _require(vma.next.prev is vma, mm, f"{where} is not linked back")
        _require((vma.anon_vma is None) == (not vma.chain), mm, f"{where}: anon_vma and chain disagree")
        end = vma.vm_end
    _require(mm.map_count == len(vmas), mm, f"map_count is {mm.map_count}, VMAs are {len(vmas)}")
    indexed = list(mm.index.items())
    _require(indexed == [(v.vm_start, v) for v in vmas], mm, "the index disagrees with the links")


def _require(holds: bool, mm: Mm, what: str) -> None:
    if not holds:
        lines = [f"{v.vm_start:012x}-{v.vm_end:012x} {perms(v.vm_flags)}" for v in mm.vmas()]
        raise InvalidMm("\n".join([what, *lines]))
