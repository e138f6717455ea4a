"""Removing a range of mappings (do_vmi_munmap; vms_gather_munmap_vmas since 6.12)."""

from __future__ import annotations

from errno import ENOMEM, EPERM

from vmastore.mm.flags import PMD_SHIFT, PMD_SIZE, VM_SEALED
from vmastore.mm.merge.split import split_vma_unchecked
from vmastore.mm.mm import Mm, VmaIterator
from vmastore.mm.vma import Vma

API = "do_vmi_munmap"


def do_vmi_munmap(vmi: VmaIterator, start: int, end: int, *, late_errno: int = 0) -> int:
    """Unmap [start, end); holes are fine. Returns 0, -ENOMEM, -EPERM (sealed) or -EINVAL.

    An error after the first edge was split leaves that split. late_errno: what the kernel answered when
    it came to the end of the range, where the trace knows of no VMA. Source: do_vmi_munmap().
    """
    error, vmas = gather(vmi.mm, start, end)
    if error or late_errno:
        return error or -late_errno
    complete(vmi.mm, start, end, vmas)
    return 0


def gather(mm: Mm, start: int, end: int) -> tuple[int, list[Vma]]:
    """Split the edges of [start, end) and list the VMAs inside, still mapped (vms_gather_munmap_vmas)."""
    vma = mm.cached
    if not vma.prev.vm_end <= start < vma.vm_end:
        vma = mm.find_vma(start)
    if vma.vm_start >= end:
        return 0, []
    if mm.rules.mseal and not mm.rules.seal_check_in_loop and _any_sealed(vma, end):
        return -EPERM, []
    if vma.vm_start < start:
        if end < vma.vm_end and mm.map_count >= mm.config.max_map_count:
            return -ENOMEM, []
        if vma.attrs.vm_flags & VM_SEALED:
            return -EPERM, []
        new = split_vma_unchecked(mm, vma, start, True, API)
        if isinstance(new, int):
            return new, []
    vmas: list[Vma] = []
    while vma.vm_start < end:
        if vma.attrs.vm_flags & VM_SEALED:
            return -EPERM, []
        if vma.vm_end > end:
            new = split_vma_unchecked(mm, vma, end, False, API)
            if isinstance(new, int):
                return new, []
        vmas.append(vma)
        vma = vma.next
    return 0, vmas


def _any_sealed(vma: Vma, end: int) -> bool:
    while vma.vm_start < end:
        if vma.attrs.vm_flags & VM_SEALED:
            return True
        vma = vma.next
    return False


def complete(mm: Mm, start: int, end: int, vmas: list[Vma]) -> None:
    """Take the gathered VMAs out, and the page tables that nobody else uses (free_pgtables)."""
    if not vmas:
        return
    prev, nxt = vmas[0].prev, vmas[-1].next
    mm.remove_run(vmas)
    if mm.guards:
        mm.guards.drop(start, end)
    if mm.pmds:
        # the hole reaches from prev to nxt: nobody else can use a page table in it
        first, free = vmas[0].vm_start >> PMD_SHIFT, (prev.vm_end + PMD_SIZE - 1) >> PMD_SHIFT
        first = free if free > first else first
        last, free = (vmas[-1].vm_end - 1) >> PMD_SHIFT, (nxt.vm_start >> PMD_SHIFT) - 1
        last = free if free < last else last
        if last < first:
            return
        if last - first > len(mm.pmds):
            mm.pmds.difference_update([r for r in mm.pmds if first <= r <= last])
        else:
            mm.pmds.difference_update(range(first, last + 1))
