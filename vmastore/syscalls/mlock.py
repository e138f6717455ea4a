"""mlock, mlock2, munlock, mlockall, munlockall. Sources: do_mlock(), apply_vma_lock_flags()."""

from __future__ import annotations

from errno import EAGAIN, EINVAL, ENOMEM, EPERM

from vmastore.mm.flags import (
    PAGE_MASK,
    PAGE_SIZE,
    TASK_SIZE,
    U64,
    VM_ACCESS_FLAGS,
    VM_DROPPABLE,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
    VM_SPECIAL,
)
from vmastore.mm.merge import vma_modify_flags
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma
from vmastore.syscalls.common import covered, over_memlock, page_align, write_flags
from vmastore.syscalls.fault import may_fault, mm_populate
from vmastore.syscalls.uapi import MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT


def sys_mlock(mm: Mm, start: int, length: int, flags: int = 0) -> int:
    """mlock and mlock2. Returns 0 or -errno; VMAs before a hole are locked, then ENOMEM."""
    if flags & ~MLOCK_ONFAULT:
        return -EINVAL
    vm_flags = VM_LOCKED | (VM_LOCKONFAULT if flags else 0)
    if mm.fails(EPERM):
        return -EPERM
    length = page_align(length + (start & (PAGE_SIZE - 1)) & U64)
    start &= PAGE_MASK & U64
    if (mm.fails(ENOMEM) or not mm.observed) and over_memlock(mm, start, length):
        return -ENOMEM
    if mm.fails(ENOMEM) and not mm.config.privileged and _only_the_limit(mm, start, start + length):
        return -ENOMEM
    error = _apply(mm, start, length, vm_flags)
    if error or not length:
        return error
    if not mm_populate(mm, start, start + length, ignore_errors=False, failed=mm.fails(ENOMEM)):
        return -ENOMEM  # -EFAULT as POSIX has it
    return -EAGAIN if mm.fails(EAGAIN) else 0


def _only_the_limit(mm: Mm, start: int, end: int) -> bool:
    """Whether RLIMIT_MEMLOCK alone, which is looked at first, explains that [start, end) could not be locked."""
    if not covered(mm, start, end) or mm.map_count + 2 >= mm.config.max_map_count:
        return False
    vma = mm.find_vma(start)
    while vma.vm_start < end:
        if vma.attrs.vm_file is not None or not vma.attrs.vm_flags & VM_ACCESS_FLAGS or may_fault(mm, vma):
            return False  # faulting it in may fail too, when it is locked
        vma = vma.next
    return True


def sys_munlock(mm: Mm, start: int, length: int) -> int:
    """Returns 0 or -errno, with the same partial effects as mlock."""
    length = page_align(length + (start & (PAGE_SIZE - 1)) & U64)
    return _apply(mm, start & PAGE_MASK & U64, length, 0)


def _apply(mm: Mm, start: int, length: int, lock: int) -> int:
    end = start + length
    if end > U64:
        return -EINVAL
    if end == start:
        return 0
    vma = mm.vma_lookup(start)
    if vma is None:
        return -ENOMEM
    prev = vma if start > vma.vm_start else vma.prev
    nstart, reached = start, vma.vm_start
    while vma.vm_start < end:
        if vma.vm_start != reached:
            return -ENOMEM
        new = vma.attrs.vm_flags & ~VM_LOCKED_MASK | lock
        fixed = _fixup(mm, prev, vma, nstart, min(vma.vm_end, end), new)
        if isinstance(fixed, int):
            return fixed
        prev = fixed
        nstart = reached = fixed.vm_end
        vma = fixed.next
    return -ENOMEM if reached < end else 0


def _fixup(mm: Mm, prev: Vma, vma: Vma, start: int, end: int, new: int) -> Vma | int:
    """mlock_fixup(): special, hugetlb, droppable and secret mappings are passed over in silence."""
    old = vma.attrs.vm_flags
    file = vma.attrs.vm_file
    if new == old or old & (VM_SPECIAL | VM_HUGETLB | VM_DROPPABLE):
        return vma
    if file is not None and file.kind in ("secretmem", "dax"):
        return vma
    changed = vma_modify_flags(mm.vmi, prev, vma, start, end, new)
    if not isinstance(changed, int):
        write_flags(mm, changed, new)
    return changed


def sys_mlockall(mm: Mm, flags: int) -> int:
    """Returns 0, -EINVAL, -EPERM or -ENOMEM. MCL_CURRENT may merge VMAs all over the address space."""
    if not flags or flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) or flags == MCL_ONFAULT:
        return -EINVAL
    if mm.fails(EPERM):
        return -EPERM
    if mm.fails(ENOMEM):
        return -ENOMEM
    apply_mlockall_flags(mm, flags)
    if flags & MCL_CURRENT:
        mm_populate(mm, 0, TASK_SIZE)
    return 0


def sys_munlockall(mm: Mm) -> int:
    """Returns 0."""
    apply_mlockall_flags(mm, 0)
    return 0


def apply_mlockall_flags(mm: Mm, flags: int) -> None:
    """Set def_flags, and lock or unlock every VMA whole; individual errors are ignored."""
    onfault = VM_LOCKONFAULT if flags & MCL_ONFAULT else 0
    mm.def_flags &= ~VM_LOCKED_MASK
    if flags & MCL_FUTURE:
        mm.def_flags |= VM_LOCKED | onfault
        if not flags & MCL_CURRENT:
            return
    lock = VM_LOCKED | onfault if flags & MCL_CURRENT else 0
    prev, vma = mm.head, mm.head.next
    while vma is not mm.tail:
        new = vma.attrs.vm_flags & ~VM_LOCKED_MASK | lock
        fixed = _fixup(mm, prev, vma, vma.vm_start, vma.vm_end, new)
        prev = vma if isinstance(fixed, int) else fixed
        vma = prev.next
