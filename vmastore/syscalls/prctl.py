"""prctl, as far as it touches VMAs. Sources: prctl_set_vma(), madvise_set_anon_name(), ksm_enable_merge_any()."""

from __future__ import annotations

from errno import EAGAIN, EBADF, EINVAL, ENOMEM, EPERM
from typing import Final

from vmastore.mm.flags import PAGE_SIZE, U64, VM_MERGEABLE
from vmastore.mm.ksm import ksm_compatible
from vmastore.mm.mm import Mm
from vmastore.mm.vma import SEALED, File, Vma
from vmastore.syscalls import uapi
from vmastore.syscalls.common import page_align, unknown_fs
from vmastore.syscalls.madvise import update_vma, walk

_NAME_MAX: Final = 80  # bytes, with the NUL
_REFUSED: Final = set("\\`$[]")


def sys_prctl(mm: Mm, option: int, arg2: int, arg3: int, arg4: int, arg5: int, name: str | None) -> int:
    """Returns what the kernel returned for options without effect on VMAs, else 0 or -errno."""
    if option == uapi.PR_SET_VMA:
        built_in = mm.config.anon_name
        if built_in is None:
            built_in = not mm.fails(EINVAL)
        return _set_anon_name(mm, arg2, arg3, arg4, arg5, name) if built_in else -EINVAL
    if option == uapi.PR_SET_MEMORY_MERGE and mm.rules.prctl_memory_merge and mm.config.ksm:
        return _memory_merge(mm, arg2, arg3 or arg4 or arg5)
    if option == uapi.PR_SET_MDWE and mm.rules.mdwe and not (mm.observed and mm.expect_errno):
        mm.mdwe = bool(arg2 & 1)
        return 0
    if option == uapi.PR_SET_MM and not (mm.observed and mm.expect_errno):
        if arg2 == uapi.PR_SET_MM_START_BRK:
            mm.start_brk = arg3
        elif arg2 == uapi.PR_SET_MM_BRK:
            mm.brk = arg3
        return 0
    if option in (uapi.PR_SET_MEMORY_MERGE, uapi.PR_SET_MDWE) and not mm.observed:
        return -EINVAL  # not in this release, or not built in
    return as_observed(mm)


def as_observed(mm: Mm) -> int:
    """The kernel's own answer, for calls that do nothing to VMAs."""
    if not mm.observed:
        return 0
    return -mm.expect_errno if mm.expect_errno else (mm.expect_result or 0)


def _set_anon_name(mm: Mm, opt: int, start: int, length_in: int, name_ptr: int, name: str | None) -> int:
    if opt != uapi.PR_SET_VMA_ANON_NAME:
        return -EINVAL
    if name is not None and (len(name.encode("utf-8", "surrogateescape")) >= _NAME_MAX or not _name_valid(name)):
        return -EINVAL
    if start & (PAGE_SIZE - 1):
        return -EINVAL
    length = page_align(length_in)
    if length_in and not length:
        return -EINVAL
    end = start + length
    if end > U64:
        return -EINVAL
    if end == start:
        return 0

    def visit(vma: Vma, prev: Vma, low: int, high: int) -> Vma | int:
        file = vma.attrs.vm_file
        if file is not None and vma.has_file and not (mm.rules.anon_name_shmem and _anon_shmem(mm, file)):
            return -EBADF
        changed = update_vma(mm, vma, prev, low, high, vma.attrs.vm_flags, name)
        return -EAGAIN if changed == -ENOMEM else changed

    error = walk(mm, start, end, visit)
    return error


def _anon_shmem(mm: Mm, file: File) -> bool:
    """vma_is_anon_shmem(): shared anonymous memory, a memfd, an unlinked file of tmpfs."""
    if unknown_fs(mm, file) and mm.observed:
        return mm.expect_errno != EBADF
    return file.kind in ("shmem", "memfd", SEALED)


def _name_valid(name: str) -> bool:
    """is_valid_name_char()."""
    return all(" " <= c <= "~" and c not in _REFUSED for c in name)


def _memory_merge(mm: Mm, on: int, rest: int) -> int:
    """ksm_enable_merge_any() and ksm_disable_merge_any(): in place, without merging."""
    if rest:
        return -EINVAL
    if mm.fails(EPERM) or mm.fails(ENOMEM):
        return -mm.expect_errno
    if mm.merge_any == bool(on):
        return 0  # also where madvise has told single VMAs otherwise since
    mm.merge_any = bool(on)
    for vma in mm.vmas():
        flags = vma.attrs.vm_flags
        new = flags | VM_MERGEABLE if on else flags & ~VM_MERGEABLE
        if new != flags and ksm_compatible(flags, vma.attrs.vm_file):
            vma.attrs = vma.attrs.with_flags(new)
            mm.touch(vma)
    return 0
