"""munmap. Source: do_vmi_munmap()."""

from __future__ import annotations

from errno import EINVAL, EPERM

from vmastore.mm.flags import PAGE_MASK, PAGE_SIZE, TASK_SIZE, U64
from vmastore.mm.merge import do_vmi_munmap
from vmastore.mm.mm import Mm
from vmastore.syscalls.common import unseen


def sys_munmap(mm: Mm, addr: int, length: int, *, may_hit_unknown: bool = True) -> int:
    """Returns 0, -EINVAL, -ENOMEM (map limit) or -EPERM (sealed).

    may_hit_unknown: the EINVAL that the kernel answered may come from here: an edge of the range lies in
    a mapping that cannot be split ([vdso], huge pages) and that no event of the trace made.
    """
    if addr & (PAGE_SIZE - 1) or not 0 <= addr <= TASK_SIZE or length > TASK_SIZE - addr:
        return -EINVAL
    end = addr + ((length + PAGE_SIZE - 1) & PAGE_MASK & U64)
    if end == addr:
        return -EINVAL
    if may_hit_unknown and mm.fails(EINVAL) and not mm.complete:
        if _unknown(mm, addr):
            return -EINVAL
        if _unknown(mm, end - 1):
            return do_vmi_munmap(mm.vmi, addr, end, late_errno=EINVAL)
    if mm.fails(EPERM) and unseen(mm, addr, end):
        return -EPERM  # sealed
    return do_vmi_munmap(mm.vmi, addr, end)


def _unknown(mm: Mm, addr: int) -> bool:
    return mm.vma_lookup(addr) is None
