"""MADV_POPULATE_READ and MADV_POPULATE_WRITE. Sources: madvise_populate(), faultin_page_range()."""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOMEM

from vmastore.mm.flags import PMD_SIZE, VM_IO, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE
from vmastore.mm.mm import MOST_NOTED, Mm
from vmastore.mm.vma import Vma
from vmastore.syscalls.fault import access_page, file_end, may_fault


def madvise_populate(mm: Mm, start: int, end: int, write: bool) -> int:
    """Fault [start, end) in. Returns 0, -ENOMEM (a hole), -EINVAL (not permitted), -EFAULT."""
    hole = False
    while start < end:
        vma = mm.find_vma(start)
        if vma.vm_start > start:
            if not mm.rules.populate_walks_vmas:
                return -ENOMEM
            hole, start = True, vma.vm_start
            continue
        if _refused(vma, write):
            return -EINVAL
        high = min(vma.vm_end, end)
        guard = mm.guards.first(start, high)
        if start < guard:
            _access(mm, vma, start, guard, write)
        if guard < high or high > file_end(vma) or (mm.fails(EFAULT) and may_fault(mm, vma)):
            return -EFAULT
        start = high
    return -ENOMEM if hole else 0


def _refused(vma: Vma, write: bool) -> bool:
    """check_vma_flags() without FOLL_FORCE."""
    flags = vma.attrs.vm_flags
    if flags & (VM_IO | VM_PFNMAP):
        return True
    return not flags & (VM_WRITE if write else VM_READ)


def _access(mm: Mm, vma: Vma, start: int, end: int, write: bool) -> None:
    """One access a page matters only while the VMA has no anon_vma."""
    flags = vma.attrs.vm_flags
    if not flags & VM_SHARED and (vma.anon_vma is None or vma.unsure):
        addr = start
        while addr < end and (vma.anon_vma is None or vma.unsure):
            access_page(mm, vma, addr, write)
            addr = (addr + PMD_SIZE) & ~(PMD_SIZE - 1) if end - start <= MOST_NOTED else end
    mm.note_page_tables(start, end)
