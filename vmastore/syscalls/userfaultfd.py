"""userfaultfd: register, unregister, and the last close. Source: fs/userfaultfd.c, mm/userfaultfd.c."""

from __future__ import annotations

from errno import EAGAIN, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, EPERM
from typing import Final

from vmastore.mm.flags import (
    PAGE_SIZE,
    PMD_SIZE,
    TASK_SIZE,
    U64,
    VM_DROPPABLE,
    VM_HUGETLB,
    VM_MAYWRITE,
    VM_SHARED,
    VM_UFFD_FLAGS,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
)
from vmastore.mm.merge import vma_modify_uffd
from vmastore.mm.mm import Mm
from vmastore.mm.unknown import UNSURE
from vmastore.mm.vma import UffdCtx, Vma
from vmastore.syscalls import uapi
from vmastore.syscalls.common import unknown_fs, unseen, write_uffd
from vmastore.syscalls.fault import anon_vma_prepare


def uffd_ctx(mm: Mm, file: int) -> UffdCtx:
    """The context of an open file description, made at first sight; it watches the mm of that moment."""
    found = mm.env.uffds.get(file)
    if found is None:
        found = mm.env.uffds[file] = UffdCtx(file, mm=mm.number)
    return found


def inherited_ctx(mm: Mm, file: int) -> UffdCtx:
    """uffd_ctx() of a register or unregister: a description without UFFDIO_API is one that a fork event handed out.

    Such events are read in the order of the forks, so the oldest that nobody named is taken.
    """
    env = mm.env
    if file not in env.uffds and env.forked_uffds:
        ctx = env.forked_uffds.pop(0)
        ctx.file = file
        env.uffds[file] = ctx
    return uffd_ctx(mm, file)


def uffdio_api(mm: Mm, file: int, features: int) -> int:
    """UFFDIO_API: fixes the features that matter later (EVENT_FORK, EVENT_REMAP)."""
    if mm.observed and mm.expect_errno:
        return -mm.expect_errno
    uffd_ctx(mm, file).features = features
    return 0


def uffdio_register(mm: Mm, ctx: UffdCtx, start: int, length: int, mode: int) -> int:
    """Returns 0 or -errno; everything but a failing split is checked before any change."""
    known = uapi.UFFDIO_REGISTER_MODE_MISSING | uapi.UFFDIO_REGISTER_MODE_WP | uapi.UFFDIO_REGISTER_MODE_MINOR
    if not mode or mode & ~known:
        return -EINVAL
    asked = VM_UFFD_MISSING if mode & uapi.UFFDIO_REGISTER_MODE_MISSING else 0
    asked |= VM_UFFD_WP if mode & uapi.UFFDIO_REGISTER_MODE_WP else 0
    asked |= VM_UFFD_MINOR if mode & uapi.UFFDIO_REGISTER_MODE_MINOR else 0
    if not _range_valid(mm, start, length):
        return -EINVAL
    end = start + length
    first = mm.find_vma_intersection(start, end)
    if (first is None or mm.expect_errno) and unseen(mm, start, end):
        return -mm.expect_errno
    if first is None or (first.attrs.vm_flags & VM_HUGETLB and start % PMD_SIZE):
        return -EINVAL
    error = _check(mm, first, start, end, ctx, asked)
    if error:
        return -error
    return _walk(mm, first, start, end, ctx, asked)


def uffdio_fill(mm: Mm, ctx: UffdCtx, addr: int | None, length: int | None) -> None:
    """UFFDIO_COPY, _ZEROPAGE, _MOVE, _POISON, _CONTINUE: a private VMA gets its anon_vma, also where they fail late.

    addr, length: None where the trace does not show the target: any VMA of the context may be it.
    """
    errno = mm.expect_errno if mm.observed else 0
    if addr is None or length is None:
        if not errno or errno in _LATE or errno in _AT_ANY_TIME:
            for any_vma in mm.vmas():
                if any_vma.attrs.uffd is ctx and _fills(any_vma):
                    any_vma.unsure |= UNSURE
        return
    vma = mm.vma_lookup(addr)
    if vma is None or vma.attrs.vm_flags & VM_SHARED or not _range_valid(mm, addr, length):
        return
    if errno == ENOENT and not mm.rules.uffd_fill_prepares_first:
        return
    if not errno or errno in _LATE:
        anon_vma_prepare(mm, vma)
        mm.note_page_tables(addr, min(addr + length, vma.vm_end))
    elif errno in _AT_ANY_TIME and _fills(vma):
        vma.unsure |= UNSURE


FILLING: Final = {"UFFDIO_COPY", "UFFDIO_ZEROPAGE", "UFFDIO_MOVE", "UFFDIO_POISON", "UFFDIO_CONTINUE"}
_LATE: Final = {ENOENT, EEXIST, EFAULT, EBUSY}
_AT_ANY_TIME: Final = {EINVAL, EAGAIN, ENOMEM}  # the mode, or what the VMA is; its space is changing, or was


def _fills(vma: Vma) -> bool:
    return not vma.attrs.vm_flags & VM_SHARED and vma.anon_vma is None and not vma.unsure


def _range_valid(mm: Mm, start: int, length: int) -> bool:
    """validate_range()."""
    if (start | length) & (PAGE_SIZE - 1) or not length:
        return False
    return mm.config.mmap_min_addr <= start < TASK_SIZE and length <= TASK_SIZE - start and length <= U64


def _check(mm: Mm, vma: Vma, start: int, end: int, ctx: UffdCtx, asked: int) -> int:
    while vma.vm_start < end:
        flags = vma.attrs.vm_flags
        if not can_userfault(mm, vma, asked):
            return EINVAL
        if not flags & VM_MAYWRITE:
            return EPERM
        if flags & VM_HUGETLB and end <= vma.vm_end and end % PMD_SIZE:
            return EINVAL
        if vma.attrs.uffd is not None and vma.attrs.uffd is not ctx:
            return EBUSY
        vma = vma.next
    return 0


def can_userfault(mm: Mm, vma: Vma, asked: int) -> bool:
    """vma_can_userfault(): anonymous, shmem or hugetlb; no MINOR on anonymous memory.

    SysV shared memory is none of them: vma_is_shmem() looks at vm_ops, and ipc/shm.c has its own.
    """
    file = vma.attrs.vm_file
    if vma.attrs.vm_flags & VM_DROPPABLE and mm.rules.uffd_refuses_droppable:
        return False
    zero = file is not None and file.kind == "zero" and bool(vma.attrs.vm_flags & VM_SHARED)
    shmem = file is not None and file.kind != "shm" and (file.is_shmem or zero)
    huge = bool(vma.attrs.vm_flags & VM_HUGETLB)
    if file is not None and unknown_fs(mm, file) and mm.observed and not mm.expect_errno:
        return True  # the kernel registered it: tmpfs
    if asked & VM_UFFD_MINOR and not (shmem or huge):
        return False
    return shmem or huge or vma.is_anonymous


def _walk(mm: Mm, vma: Vma, start: int, end: int, ctx: UffdCtx, asked: int) -> int:
    prev = vma if vma.vm_start < start else vma.prev
    while vma.vm_start < end:
        flags = vma.attrs.vm_flags
        if not (vma.attrs.uffd is ctx and flags & asked == asked):
            start = max(start, vma.vm_start)
            new = flags & ~VM_UFFD_FLAGS | asked
            changed = vma_modify_uffd(mm.vmi, prev, vma, start, min(end, vma.vm_end), new, ctx)
            if isinstance(changed, int):
                return changed
            write_uffd(mm, changed, new, ctx)
            vma = changed
        prev = vma
        start = vma.vm_end
        vma = vma.next
    return 0


def uffdio_unregister(mm: Mm, ctx: UffdCtx, start: int, length: int) -> int:
    """Returns 0 or -errno."""
    if not _range_valid(mm, start, length):
        return -EINVAL
    end = start + length
    first = mm.find_vma_intersection(start, end)
    if (first is None or mm.expect_errno) and unseen(mm, start, end):
        return -mm.expect_errno
    if first is None or (first.attrs.vm_flags & VM_HUGETLB and start % PMD_SIZE):
        return -EINVAL
    vma = first
    while vma.vm_start < end:
        if not can_userfault(mm, vma, vma.attrs.vm_flags):
            return -EINVAL
        foreign = vma.attrs.uffd is not None and vma.attrs.uffd is not ctx
        if foreign and mm.rules.uffd_unregister_own_ctx:
            return -EINVAL
        vma = vma.next
    return _clear(mm, first, start, end, None)


def _clear(mm: Mm, vma: Vma, start: int, end: int, only: UffdCtx | None) -> int:
    """Take [start, end) out of its context, VMA by VMA (userfaultfd_clear_vma)."""
    prev = vma if vma.vm_start < start else vma.prev
    while vma.vm_start < end:
        if vma.attrs.uffd is not None:
            start = max(start, vma.vm_start)
            new = vma.attrs.vm_flags & ~VM_UFFD_FLAGS
            changed = vma_modify_uffd(mm.vmi, prev, vma, start, min(end, vma.vm_end), new, None)
            if isinstance(changed, int):
                return changed
            write_uffd(mm, changed, new, None)
            vma = changed
        prev = vma
        start = vma.vm_end
        vma = vma.next
    return 0


def userfaultfd_release(mm: Mm, ctx: UffdCtx) -> None:
    """The last reference is gone: every VMA of the context is cleared whole, merging as it may."""
    ctx.released = True
    prev, vma = mm.head, mm.head.next
    while vma is not mm.tail:
        if vma.attrs.uffd is ctx:
            new = vma.attrs.vm_flags & ~VM_UFFD_FLAGS
            changed = vma_modify_uffd(mm.vmi, prev, vma, vma.vm_start, vma.vm_end, new, None)
            if not isinstance(changed, int):
                write_uffd(mm, changed, new, None)
                vma = changed
        prev = vma
        vma = vma.next
