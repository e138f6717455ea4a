"""munmap. Source: do_vmi_munmap()."""

from __future__ import annotations

from errno import EINVAL

from vmastore.mm.flags import PAGE_MASK, PAGE_SIZE, TASK_SIZE, U64
from vmastore.mm.merge import do_vmi_munmap
from vmastore.mm.mm import Mm


def sys_munmap(mm: Mm, addr: int, length: int) -> int:
    """Returns 0, -EINVAL, -ENOMEM (map limit) or -EPERM (sealed)."""
    if addr & (PAGE_SIZE - 1) or addr > TASK_SIZE or length > TASK_SIZE - addr:
        return -EINVAL
    end = addr + ((length + PAGE_SIZE - 1) & PAGE_MASK & U64)
    if end == addr:
        return -EINVAL
    return do_vmi_munmap(mm.vmi, addr, end)
