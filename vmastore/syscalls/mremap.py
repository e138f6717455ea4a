"""mremap in all its modes. Sources: mm/mremap.c of 6.1, 6.12 (checks late) and 6.18 (checks first)."""

from __future__ import annotations

from errno import EAGAIN, EFAULT, EINVAL, ENOMEM, EPERM
from typing import Final

from vmastore.mm.flags import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PMD_SIZE,
    TASK_SIZE,
    U64,
    VM_ACCOUNT,
    VM_DONTEXPAND,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MAYSHARE,
    VM_PFNMAP,
    VM_SEALED,
)
from vmastore.mm.merge import vma_merge_extend
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma
from vmastore.syscalls.common import page_align, unseen
from vmastore.syscalls.fault import mm_populate
from vmastore.syscalls.mmap import place
from vmastore.syscalls.move import move_vma
from vmastore.syscalls.munmap import sys_munmap
from vmastore.syscalls.uapi import MAP_FIXED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE

_KNOWN: Final = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP
_NEW_ADDR: Final = MREMAP_FIXED | MREMAP_DONTUNMAP


def sys_mremap(mm: Mm, addr: int, old_len: int, new_len: int, flags: int, new_addr: int | None) -> int:
    """Returns the address or -errno. Before 6.17 a failing MREMAP_FIXED may have unmapped its target.

    new_addr: None where the trace does not show the hint of a MREMAP_DONTUNMAP; it may then be what the
    kernel answered EINVAL to.
    """
    first = mm.rules.mremap_checks_first
    if new_addr is None:
        new_addr = addr if flags & MREMAP_DONTUNMAP and mm.fails(EINVAL) else 0  # the source itself overlaps
    if not first and flags & MREMAP_DONTUNMAP and old_len != new_len:
        return -EINVAL  # compared before rounding
    old_len, new_len = page_align(old_len), page_align(new_len)
    error = _params(mm, addr, old_len, new_len, flags, new_addr, first)
    if error:
        return -error
    if mm.rules.mremap_map_count_early:
        room = 4 + bool(flags & MREMAP_DONTUNMAP)
        if mm.map_count + room > mm.config.max_map_count:
            return -ENOMEM
    if first and mm.rules.mremap_multi_vma and flags & MREMAP_FIXED and old_len == new_len:
        return _move_many(mm, addr, old_len, flags, new_addr)
    vma = mm.vma_lookup(addr)
    if vma is None:
        return -(mm.expect_errno if mm.expect_errno and unseen(mm, addr, addr + 1) else EFAULT)
    if vma.attrs.vm_flags & VM_SEALED and (first or mm.rules.seal_check_in_loop):
        return -EPERM
    if vma.attrs.vm_flags & VM_HUGETLB:
        old_len, new_len = _huge_align(old_len), _huge_align(new_len)
        if addr % PMD_SIZE or (flags & _NEW_ADDR and new_addr % PMD_SIZE) or new_len > old_len:
            return -EINVAL
    if first:
        error = _check_prep(mm, vma, addr, old_len, new_len, flags)
        if error:
            return -error
    if flags & _NEW_ADDR:
        result = _mremap_to(mm, addr, old_len, new_len, flags, new_addr)
    elif old_len >= new_len:
        result = _shrink(mm, addr, old_len, new_len)
    else:
        result = _grow(mm, vma, addr, old_len, new_len, flags)
    if result >= 0 and new_len > old_len:
        grown = mm.vma_lookup(result)
        if grown is not None and grown.attrs.vm_flags & VM_LOCKED:
            mm_populate(mm, result + old_len, result + new_len)
    return result


def _huge_align(length: int) -> int:
    return -(-length // PMD_SIZE) * PMD_SIZE


def _params(mm: Mm, addr: int, old_len: int, new_len: int, flags: int, new_addr: int, first: bool) -> int:
    """check_mremap_params(), or as much of it as releases before 6.17 checked at the start."""
    if flags & ~_KNOWN or addr & (PAGE_SIZE - 1) or not new_len:
        return EINVAL
    if flags & _NEW_ADDR and not flags & MREMAP_MAYMOVE:
        return EINVAL
    if flags & MREMAP_DONTUNMAP and old_len != new_len:
        return EINVAL
    if first:
        if new_len > TASK_SIZE:
            return EINVAL
        if flags & _NEW_ADDR:
            return _target_error(mm, addr, old_len, new_len, new_addr)
    return 0


def _target_error(mm: Mm, addr: int, old_len: int, new_len: int, new_addr: int) -> int:
    if new_addr & (PAGE_SIZE - 1) or new_len > TASK_SIZE or new_addr > TASK_SIZE - new_len:
        return EINVAL
    if (addr + old_len) & U64 > new_addr and new_addr + new_len > addr:
        return EINVAL
    if not mm.rules.mremap_map_count_early and mm.map_count + 2 >= mm.config.max_map_count - 3:
        return ENOMEM
    return 0


def _check_prep(mm: Mm, vma: Vma, addr: int, old_len: int, new_len: int, flags: int) -> int:
    """check_prep_vma(): everything about the VMA, before anything is unmapped (6.17)."""
    if not flags & _NEW_ADDR and new_len <= old_len:
        return 0
    if old_len > new_len:
        old_len = new_len  # a shrink may cross the end of the VMA
    return _to_resize(mm, vma, addr, old_len, new_len, flags)


def _to_resize(mm: Mm, vma: Vma, addr: int, old_len: int, new_len: int, flags: int) -> int:
    """vma_to_resize() up to 6.16, the second half of check_prep_vma() since."""
    vm_flags = vma.attrs.vm_flags
    fixed_size = VM_DONTEXPAND | VM_PFNMAP
    if not old_len and not vm_flags & VM_MAYSHARE:
        return EINVAL
    if flags & MREMAP_DONTUNMAP and vm_flags & fixed_size:
        return EINVAL
    if old_len > vma.vm_end - addr:
        return EFAULT
    if new_len == old_len:
        return 0
    pgoff = vma.vm_pgoff + ((addr - vma.vm_start) >> PAGE_SHIFT)
    if pgoff + (new_len >> PAGE_SHIFT) > U64:
        return EINVAL
    if vm_flags & fixed_size:
        return EFAULT
    return EAGAIN if vm_flags & VM_LOCKED and mm.fails(EAGAIN) else 0


def _source_error(mm: Mm, addr: int, old_len: int, new_len: int, flags: int) -> int:
    vma = mm.vma_lookup(addr)
    return EFAULT if vma is None else _to_resize(mm, vma, addr, old_len, new_len, flags)


def _mremap_to(mm: Mm, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
    first = mm.rules.mremap_checks_first
    if not first:
        error = _target_error(mm, addr, old_len, new_len, new_addr)
        if error:
            return -error
    if flags & MREMAP_FIXED:
        # before 6.17 the source is looked at afterwards, and the EINVAL that was answered may be its own
        late = not first and _source_error(mm, addr, min(old_len, new_len), new_len, flags) == EINVAL
        failed = sys_munmap(mm, new_addr, new_len, may_hit_unknown=not late)
        if failed:
            return failed
        if first and mm.vma_lookup(addr) is None:
            return -EFAULT
    if old_len > new_len:
        failed = sys_munmap(mm, addr + new_len, old_len - new_len)
        if failed:
            return failed
        old_len = new_len
    vma = mm.vma_lookup(addr)
    if vma is None:
        return -EFAULT
    if not first:
        error = _to_resize(mm, vma, addr, old_len, new_len, flags)
        if error:
            return -error
    target = _new_address(mm, vma, new_len, new_addr, flags)
    if target < 0:
        return target
    return move_vma(mm, vma, addr, old_len, new_len, target, flags)


def _new_address(mm: Mm, vma: Vma, new_len: int, hint: int, flags: int) -> int:
    map_flags = MAP_FIXED if flags & MREMAP_FIXED else 0
    return place(mm, hint, new_len, vma.vm_pgoff, map_flags, vma.attrs.vm_file)


def _shrink(mm: Mm, addr: int, old_len: int, new_len: int) -> int:
    if old_len == new_len:
        return addr
    return sys_munmap(mm, addr + new_len, old_len - new_len) or addr


def _grow(mm: Mm, vma: Vma, addr: int, old_len: int, new_len: int, flags: int) -> int:
    """In place if the space behind is free, else moved (MREMAP_MAYMOVE), else ENOMEM."""
    if not mm.rules.mremap_checks_first:
        error = _to_resize(mm, vma, addr, old_len, new_len, flags)
        if error:
            return -error
    delta = new_len - old_len
    if old_len == vma.vm_end - addr and _expandable(mm, vma, delta) and not _taken(mm, vma, addr, delta):
        if vma.attrs.vm_flags & VM_ACCOUNT and mm.fails(ENOMEM):
            return -ENOMEM
        return addr if vma_merge_extend(mm.vmi, vma, delta, below=addr - vma.vm_start) is not None else -ENOMEM
    if not flags & MREMAP_MAYMOVE:
        return -ENOMEM
    target = _new_address(mm, vma, new_len, 0, flags)
    if target < 0:
        return target
    return move_vma(mm, vma, addr, old_len, new_len, target, flags)


def _expandable(mm: Mm, vma: Vma, delta: int) -> bool:
    """vma_expandable()."""
    end = vma.vm_end + delta
    return end <= TASK_SIZE and vma.next.vm_start >= end


def _taken(mm: Mm, vma: Vma, addr: int, delta: int) -> bool:
    """Whether what is free behind a VMA, as far as the trace shows, was not: the kernel did not grow it there."""
    failed = mm.expect_errno == ENOMEM or (not mm.expect_errno and mm.expect_result != addr)
    return failed and unseen(mm, vma.vm_end, vma.vm_end + delta)


def _move_many(mm: Mm, addr: int, length: int, flags: int, new_addr: int) -> int:
    """Move every VMA of the range, gaps kept; a failure leaves those before it moved (remap_move)."""
    end = addr + length
    if not length:
        vma = mm.vma_lookup(addr)
        return -EFAULT
    result = -EFAULT
    target, last_end = new_addr, 0
    vma = mm.find_vma(addr)
    while vma.vm_start < end:
        if not last_end and addr < vma.vm_start:
            return -EFAULT
        low, high = max(vma.vm_start, addr), min(end, vma.vm_end)
        offset = vma.vm_start - last_end if last_end else 0
        vma_end = vma.vm_end
        if (vma.attrs.uffd is not None or not multi_allowed(vma)) and (last_end or vma_end < end):
            return -EFAULT
        if vma.attrs.vm_flags & VM_SEALED:
            return -EPERM
        error = _to_resize(mm, vma, low, high - low, high - low, flags)
        if error:
            return -error
        moved = _mremap_to(mm, low, high - low, high - low, flags, target + offset)
        if moved < 0:
            return moved
        result = result if last_end else moved
        last_end = vma_end
        target = moved + high - low
        if high >= end:
            break
        vma = mm.find_vma(high)
    return result


def multi_allowed(vma: Vma) -> bool:
    """vma_multi_allowed(): files whose own get_unmapped_area could move the target go alone."""
    file = vma.attrs.vm_file
    return file is None or file.kind not in ("device", "zero", "shm", "io_uring", "unknown")
