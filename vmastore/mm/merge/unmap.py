"""Removing a range of mappings (do_vmi_munmap; vms_gather_munmap_vmas since 6.12)."""

from __future__ import annotations

from errno import ENOMEM, EPERM
from typing import Final

from vmastore.mm.flags import PMD_SHIFT, PMD_SIZE, VM_SEALED
from vmastore.mm.merge.split import split_vma_unchecked
from vmastore.mm.mm import Mm, VmaIterator
from vmastore.mm.vma import Vma

API: Final = "do_vmi_munmap"


def do_vmi_munmap(vmi: VmaIterator, start: int, end: int, *, late_errno: int = 0) -> int:
    """Unmap [start, end); holes are fine. Returns 0, -ENOMEM, -EPERM (sealed) or -EINVAL.

    An error after the first edge was split leaves that split. late_errno: what the kernel answered when
    it came to the end of the range, where the trace knows of no VMA. Source: do_vmi_munmap().
    """
    mm = vmi.mm
    vma = mm.find_vma(start)
    if vma.vm_start >= end:
        return -late_errno
    vmas = gather(mm, vma, start, end)
    if isinstance(vmas, int):
        return vmas
    if late_errno:
        return -late_errno
    first, last = vmas[0], vmas[-1]
    free_pgtables(mm, start, end, first.prev.vm_end, last.next.vm_start, first.vm_start, last.vm_end)
    mm.remove_run(vmas)
    return 0


def gather(mm: Mm, vma: Vma, start: int, end: int) -> list[Vma] | int:
    """Split the edges of [start, end) and list the VMAs inside, still mapped (vms_gather_munmap_vmas).

    vma: the first that ends above start, and it begins below end. Returns at least one VMA, or -errno.
    """
    if mm.env.seals_first and _any_sealed(vma, end):
        return -EPERM
    if vma.vm_start < start:
        if end < vma.vm_end and mm.map_count >= mm.config.max_map_count:
            return -ENOMEM
        if vma.attrs.vm_flags & VM_SEALED:
            return -EPERM
        part = split_vma_unchecked(mm, vma, start, True, API)
        if isinstance(part, int):
            return part
    vmas: list[Vma] = []
    while True:
        if vma.attrs.vm_flags & VM_SEALED:
            return -EPERM
        vmas.append(vma)
        if vma.vm_end >= end:
            break
        vma = vma.next
        if vma.vm_start >= end:
            return vmas
    if vma.vm_end > end:
        part = split_vma_unchecked(mm, vma, end, False, API)
        if isinstance(part, int):
            return part
    return vmas


def _any_sealed(vma: Vma, end: int) -> bool:
    while vma.vm_start < end:
        if vma.attrs.vm_flags & VM_SEALED:
            return True
        vma = vma.next
    return False


def free_pgtables(mm: Mm, start: int, end: int, floor: int, ceiling: int, low: int, high: int) -> None:
    """Take away the guard pages of [start, end), and the page tables that nobody else uses (free_pgtables).

    low, high: where the VMAs that were in there begin and end. floor, ceiling: where the VMA below them ends and
    the one above begins: nobody else can use a page table in that hole.
    """
    if mm.guards.starts:
        mm.guards.drop(start, end)
    if floor >> PMD_SHIFT == ceiling >> PMD_SHIFT or not mm.pmds:
        return
    first, free = low >> PMD_SHIFT, (floor + PMD_SIZE - 1) >> PMD_SHIFT
    first = free if free > first else first
    last, free = (high - 1) >> PMD_SHIFT, (ceiling >> PMD_SHIFT) - 1
    last = free if free < last else last
    if last < first:
        return
    if last - first > len(mm.pmds):
        mm.pmds.difference_update([r for r in mm.pmds if first <= r <= last])
    else:
        mm.pmds.difference_update(range(first, last + 1))
