"""brk. Source: SYSCALL_DEFINE1(brk)."""

from __future__ import annotations

from vmastore.mm.flags import PAGE_SIZE, TASK_SIZE, VM_ACCOUNT, VM_DATA_DEFAULT_FLAGS, VM_EXEC, VM_LOCKED
from vmastore.mm.merge import do_brk_flags, do_vmi_munmap
from vmastore.mm.mm import Mm
from vmastore.syscalls.address import start_gap
from vmastore.syscalls.common import page_align
from vmastore.syscalls.fault import becomes_writable, mm_populate
from vmastore.syscalls.uapi import READ_IMPLIES_EXEC


def sys_brk(mm: Mm, brk: int) -> int:
    """Returns the new break, or the current one on any failure (never an errno)."""
    if mm.observed and not mm.brk and mm.expect_result is not None:
        mm.brk = mm.start_brk = mm.expect_result  # the first sight of the heap
    if mm.observed and not mm.complete and mm.expect_result is not None:
        _correct(mm, brk, mm.expect_result)
    if brk < mm.start_brk or brk == mm.brk:
        return mm.brk
    if mm.observed and mm.expect_result == mm.brk:
        return mm.brk  # refused: RLIMIT_DATA, or whatever the trace cannot show
    newbrk, oldbrk = page_align(brk), page_align(mm.brk)
    if newbrk != oldbrk and not (_shrink(mm, newbrk, oldbrk) if brk <= mm.brk else _grow(mm, oldbrk, newbrk)):
        return mm.brk
    mm.brk = brk
    if newbrk > oldbrk:
        if mm.def_flags & VM_LOCKED:
            mm_populate(mm, oldbrk, newbrk)
        vma = mm.vma_lookup(oldbrk)
        if vma is not None and vma.anon_vma is None:
            becomes_writable(mm, vma)
    return brk


def _correct(mm: Mm, brk: int, got: int) -> None:
    """What an answer shows of a heap that the trace did not see begin, or that has changed unseen."""
    mm.start_brk = min(mm.start_brk, got)
    if got not in (brk, mm.brk):
        mm.brk = got


def _shrink(mm: Mm, newbrk: int, oldbrk: int) -> bool:
    vma = mm.find_vma(newbrk)
    if vma.vm_start >= oldbrk:
        return mm.observed and not mm.complete  # of that heap no event has shown
    return do_vmi_munmap(mm.vmi, newbrk, oldbrk) == 0


def _grow(mm: Mm, oldbrk: int, newbrk: int) -> bool:
    if newbrk > TASK_SIZE:
        return False
    nxt = mm.find_vma(oldbrk)
    if nxt is not mm.tail and newbrk + PAGE_SIZE > start_gap(mm, nxt):
        return False
    flags = VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT | mm.def_flags
    if mm.persona & READ_IMPLIES_EXEC:
        flags |= VM_EXEC
    return do_brk_flags(mm.vmi, oldbrk, newbrk - oldbrk, flags) >= 0
