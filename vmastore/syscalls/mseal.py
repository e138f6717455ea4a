"""mseal. Source: do_mseal()."""

from __future__ import annotations

from errno import EINVAL, ENOMEM, ENOSYS

from vmastore.mm.flags import PAGE_SIZE, U64, VM_SEALED
from vmastore.mm.merge import vma_modify_flags
from vmastore.mm.mm import Mm
from vmastore.syscalls.common import covered, page_align, write_flags


def sys_mseal(mm: Mm, start: int, length_in: int, flags: int) -> int:
    """Returns 0 or -errno; a hole anywhere is found before anything is sealed."""
    if not mm.rules.mseal:
        return -ENOSYS
    if flags or start & (PAGE_SIZE - 1):
        return -EINVAL
    length = page_align(length_in)
    if length_in and not length:
        return -EINVAL
    end = start + length
    if end > U64:
        return -EINVAL
    if end == start:
        return 0
    if not covered(mm, start, end):
        return -ENOMEM
    vma = mm.find_vma(start)
    prev = vma if start > vma.vm_start else vma.prev
    while vma.vm_start < end:
        new = vma.attrs.vm_flags | VM_SEALED
        if new != vma.attrs.vm_flags:
            low, high = max(start, vma.vm_start), min(end, vma.vm_end)
            changed = vma_modify_flags(mm.vmi, prev, vma, low, high, new)
            if isinstance(changed, int):
                return changed
            write_flags(mm, changed, new)
            vma = changed
        prev = vma
        vma = vma.next
    return 0
