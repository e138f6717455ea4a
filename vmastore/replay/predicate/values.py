"""The numbers and yes/no tests that the predicate language knows."""

from __future__ import annotations

from collections.abc import Callable

from vmastore.mm.flags import VM_EXEC, VM_WRITE, perms, vmflags_letters
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import REASON_CODES
from vmastore.replay.predicate.moment import Moment, Test
from vmastore.replay.why import why_apart

Value = Callable[[Moment], int]


def _bytes(flags: int) -> Value:
    return lambda at: sum(v.vm_end - v.vm_start for v in at.mm.vmas() if v.vm_flags & flags == flags)


def count_lost_merges(mm: Mm, code: str | None = None) -> int:
    """How many adjacent VMAs are not one, as the view `lost_merges`; `code`: for this first reason only."""
    count = 0
    for vma in mm.vmas():
        nxt = vma.next
        if vma.vm_end == nxt.vm_start and (code is None or why_apart(mm, vma, nxt).code == code):
            count += 1
    return count


# name -> (what it counts, the number)
VALUES: dict[str, tuple[str, Value]] = {
    "map_count": ("VMAs of the address space", lambda at: at.mm.map_count),
    "lost_merges": ("adjacent VMAs that are not one", lambda at: count_lost_merges(at.mm)),
    "largest_vma": ("bytes", lambda at: max((v.vm_end - v.vm_start for v in at.mm.vmas()), default=0)),
    "bytes_mapped": ("bytes", _bytes(0)),
    "bytes_writable": ("bytes", _bytes(VM_WRITE)),
    "bytes_executable": ("bytes", _bytes(VM_EXEC)),
    "wx": ("bytes both writable and executable", _bytes(VM_WRITE | VM_EXEC)),
    "seq": ("number of the event", lambda at: at.outcome.seq),
    "merges": ("merges of the event", lambda at: at.outcome.merges),
    "splits": ("splits of the event", lambda at: at.outcome.splits),
    "errno": ("errno of the event, 0 if it succeeded", lambda at: at.outcome.errno),
}
OF_EVENT = {"merges", "splits", "errno"}  # not told by the state alone
ALONE = {"wx", "errno", "merges", "splits", "lost_merges"}  # may stand without a comparison: more than 0


def lost_merges_of(code: str) -> Value:
    """The lost merges whose first reason is `code`, one of REASON_CODES."""
    return lambda at: count_lost_merges(at.mm, code)


def reason_codes() -> list[str]:
    """The codes that two adjacent VMAs can have."""
    return [code for code in REASON_CODES if code not in ("none", "gap", "inside", "expand_only")]


def split_at(addr: int) -> Test:
    """A VMA begins at addr, and another ends there."""

    def test(at: Moment) -> bool:
        vma = at.mm.vma_lookup(addr)
        return vma is not None and vma.vm_start == addr and vma.prev.vm_end == addr

    return test


def mapped(start: int, end: int) -> Test:
    """Every byte of [start, end) is mapped."""

    def test(at: Moment) -> bool:
        vma, reached = at.mm.find_vma(start), start
        while reached < end and vma.vm_start <= reached:
            reached = vma.vm_end
            vma = vma.next
        return reached >= end

    return test


def has_perms(addr: int, wanted: str) -> Test:
    """The perms column of the VMA at addr begins like `wanted`, where `?` is any letter."""

    def test(at: Moment) -> bool:
        vma = at.mm.vma_lookup(addr)
        if vma is None:
            return False
        return all(want in ("?", have) for want, have in zip(wanted, perms(vma.vm_flags), strict=False))

    return test


def has_flags(addr: int, letters: tuple[str, ...]) -> Test:
    """The VmFlags of the VMA at addr have all of these two-letter names."""

    def test(at: Moment) -> bool:
        vma = at.mm.vma_lookup(addr)
        return vma is not None and set(letters) <= set(vmflags_letters(vma.vm_flags).split())

    return test


def merged(a: int, b: int) -> Test:
    """Both addresses lie in one VMA."""

    def test(at: Moment) -> bool:
        vma = at.mm.vma_lookup(a)
        return vma is not None and vma.vm_start <= b < vma.vm_end

    return test
