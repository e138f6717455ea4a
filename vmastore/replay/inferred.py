"""VMAs that must have existed though no event of the trace made them: a call on them succeeded."""

from __future__ import annotations

from typing import Final

from vmastore.events import Event
from vmastore.mm.flags import PAGE_SIZE, VM_ACCOUNT, VM_DATA_DEFAULT_FLAGS, VM_GROWSDOWN
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Decision, assumed
from vmastore.mm.unknown import UNSURE, UNSURE_BASE
from vmastore.mm.vma import BaseAnon, Vma
from vmastore.syscalls import uapi
from vmastore.syscalls.common import page_align
from vmastore.syscalls.fault import grow_stack
from vmastore.syscalls.shm import segment_reaches

NEEDS_RANGE: Final = {
    "mprotect", "pkey_mprotect", "mlock", "mlock2", "munlock", "madvise", "mseal", "mremap", "mbind", "prctl",
}  # fmt: skip
_NOTHING: Final = {"none", "gap"}  # codes of reasons: no VMA is known to touch the range


def prepare(mm: Mm, event: Event) -> None:
    """Insert what must have existed: a call succeeded on a range that no event of the trace mapped.

    munmap succeeds over holes, so it infers nothing; nor does an mremap that did not need its whole source, an mbind
    to the default policy, or a prctl other than PR_SET_VMA.
    Below a VMA that grows downwards, faults that the trace does not show made it grow.
    Assumes: a call of NEEDS_RANGE.
    """
    first, length = event.args[:2]
    if event.call == "prctl":
        if first != uapi.PR_SET_VMA:
            return
        first, length = event.args[2:4]
    elif event.call == "mbind" and not event.args[2] & ~uapi.MPOL_MODE_FLAGS:  # MPOL_DEFAULT passes over holes
        return
    if not isinstance(first, int) or _is_mapped(mm, first, length):
        return
    start = first & -PAGE_SIZE
    end = start + page_align(length + (first - start))
    if event.call == "mremap":
        start, end = _mremap_source(mm, start, end, event)
    elif event.call in ("mprotect", "pkey_mprotect") and event.args[2] & uapi.PROT_GROWSDOWN:
        above = mm.find_vma(start)
        if above.vm_start >= end and not mm.complete:  # a stack that no event has shown
            fill_holes(mm, start, end, VM_GROWSDOWN)
            return
        start = max(start, min(end, above.vm_start))  # a hole below a stack is passed over
    if mm.env.faults != "recorded":
        _grow(mm, start, end)
    if not mm.complete:
        _lengthen(mm, start, end)
        fill_holes(mm, start, end)


def _is_mapped(mm: Mm, start: int, length: int) -> bool:
    """Whether VMAs without a hole hold all of [start, start+length): the call itself will look up the first."""
    vma = mm.index.find(start)
    if length < 0 or vma.vm_start > start:
        return False
    end = start + length
    while vma.vm_end < end:
        nxt = vma.next
        if nxt.vm_start != vma.vm_end:
            return False
        vma = nxt
    return True


def _grow(mm: Mm, start: int, end: int) -> None:
    while start < end:
        vma = mm.find_vma(start)
        hole = start < vma.vm_start
        if hole and not (vma.vm_flags & VM_GROWSDOWN and grow_stack(mm, vma, start, sure=True)):
            return
        start = vma.vm_end


def _lengthen(mm: Mm, start: int, end: int) -> None:
    """What begins in a segment of unknown length, and went beyond what is known of it, shows more of it."""
    while start < end:
        vma = mm.find_vma(start)
        if vma.vm_start > start:  # a hole, perhaps behind such a segment
            if vma.prev.vm_end == start:
                segment_reaches(mm, vma.prev, min(end, vma.vm_start))
            return
        start = vma.vm_end


def below_heap(mm: Mm, decisions: list[Decision]) -> list[Decision]:
    """The decisions, those assumed that found nothing below the heap's first page, where no call shows what is.

    The program's data may end there (always without address randomisation). brk itself never looks below start_brk.
    """
    edge = (mm.start_brk + PAGE_SIZE - 1) & -PAGE_SIZE
    for n, decision in enumerate(decisions):
        if decision[2] != edge:  # vm_start, the way that costs least
            continue
        reason = decision.reason_prev
        if reason is not None and reason.code in _NOTHING and decision.api != "do_brk_flags":
            decisions[n] = assumed(decision)
    return decisions


def _mremap_source(mm: Mm, start: int, end: int, event: Event) -> tuple[int, int]:
    """The range that must have been mapped for an mremap of [start, end) to succeed.

    Growing needs one VMA from `start` to `end`. Shrinking unmaps the tail, holes and all: its VMA need
    hold the first page only; nor need a move of several VMAs (6.17), which keeps the gaps. What is
    inferred there is as much as the call was to keep.
    """
    new, flags = page_align(event.args[2]), event.args[3]
    moves = flags & (uapi.MREMAP_FIXED | uapi.MREMAP_DONTUNMAP)
    if new > end - start:
        return start, max(end, start + PAGE_SIZE)
    kept = start + new
    one_vma = moves and not (new == end - start and flags & uapi.MREMAP_FIXED and mm.rules.mremap_multi_vma)
    if one_vma or mm.vma_lookup(start) is None:
        return start, kept if one_vma else min(kept, max(mm.find_vma(start).vm_start, start + PAGE_SIZE))
    return start, start


def fill_holes(mm: Mm, start: int, end: int, more: int = 0) -> None:
    """Map every hole of [start, end) with an inferred anonymous VMA. more: flags besides those of all data."""
    while start < end:
        vma = mm.find_vma(start)
        if vma.vm_start > start:
            hole_end = min(end, vma.vm_start)
            inferred = Vma(start, hole_end, mm.env.table.get(VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT | more))
            inferred.unsure, inferred.base = UNSURE | UNSURE_BASE, BaseAnon(False)
            mm.insert_after(vma.prev, inferred)
            mm.inferred += 1
            mm.env.inferred += 1
            start = hole_end
        else:
            start = vma.vm_end
