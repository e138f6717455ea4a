"""Every decision names the first reason why not, for either side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from layout import at, flag_bits, layout
from operations import Op, brk, modify, new
from process import RW, Process

from vmastore.mm.flags import VM_DONTEXPAND, VM_HUGEPAGE, VM_LOCKED, VM_WRITE
from vmastore.mm.merge import why_not_one
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Decision, Reason
from vmastore.mm.vma import File, Mempolicy, UffdCtx, VmaAttrs

FILE, OTHER = File(1, "regular", "a"), File(2, "regular", "a")
GAP, NO_VMA, INSIDE = "not adjacent", "no VMA there", "the range does not reach that edge of its VMA"
APART = "anon_vma: both written, at different times"


def _last(mm: Mm) -> Decision:
    return mm.decisions[-1]


def _texts(decision: Decision) -> tuple[str, str]:
    return tuple(why.text if why else "merged" for why in (decision.reason_prev, decision.reason_next))


@pytest.mark.parametrize(
    ("drawing", "shading", "forked", "op", "want"),
    [
        ("", "", "", new(3, 6), (NO_VMA, NO_VMA)),
        ("PP     NN", "ww     ww", "", new(3, 6), (GAP, GAP)),
        ("PPP   NNN", "rrr   xxx", "", new(3, 6), ("flags differ: wr ac", "flags differ: ex")),
        ("PPP   NNN", "www   xxx", "", new(3, 6), ("merged", "flags differ: ex")),
        ("PPP   NNN", "rrr   www", "", new(3, 6), ("flags differ: wr ac", "merged")),
        ("PPP   NNN", "WWW   WWW", "", new(3, 6), ("merged", "anon_vma: the two neighbours were written apart")),
        ("PPP   ", "WWW   ", "P", new(3, 6), ("anon_vma: inherited through fork while written", NO_VMA)),
        ("PPP   NNN", "www   www", "", brk(3, 6), ("merged", "brk never looks at the next VMA")),
        ("CCCCCCCCC", "rrrrrrrrr", "", modify(3, 6, "w"), (INSIDE, INSIDE)),
        ("   CCC", "   rrr", "", modify(3, 6, "w"), (NO_VMA, NO_VMA)),
        ("PP CCC NN", "ww rrr ww", "", modify(3, 6, "w"), (GAP, GAP)),
        ("PPPCCC", "WWWRRR", "", modify(3, 6, "w"), (APART, NO_VMA)),
        (
            "PPPCCC",
            "wwwRRR",
            "C",
            modify(3, 6, "w"),
            ("anon_vma: the range was inherited through fork while written", NO_VMA),
        ),
    ],
)
def test_reasons(drawing: str, shading: str, forked: str, op: Op, want: tuple[str, str]) -> None:
    """A decision says of each side that it merged, or the first thing in the way."""
    mm = layout(drawing, shading, forked=forked)
    mm.start_brk = at(0)
    op(mm)
    assert _texts(_last(mm)) == want


def test_unwritten_neighbour_of_a_written_range() -> None:
    """Before 6.16 the neighbour's own state is the reason."""
    mm = layout("PPPCCC", "wwwRRR", rules="6.12")
    modify(3, 6, "w")(mm)
    assert _texts(_last(mm)) == ("anon_vma: written range, unwritten neighbour", NO_VMA)


CHANGES: dict[str, tuple[Callable[[VmaAttrs], VmaAttrs], str]] = {
    "policy": (lambda a: a.with_policy(Mempolicy(2, 0, 1, 1)), "memory policy differs"),
    "flags": (lambda a: a.with_flags(a.vm_flags | VM_LOCKED | VM_HUGEPAGE), "flags differ: lo hg"),
    "file": (lambda a: a.table.get(a.vm_flags, OTHER), "another open file description"),
    "uffd": (lambda a: a.with_uffd(a.vm_flags, UffdCtx(3)), "userfaultfd context differs"),
    "name": (lambda a: a.with_name("cache"), "anonymous name differs"),
    "pgoff": (lambda a: a.with_delta(7), "page offset not contiguous"),
    "anon_pgoff": (lambda a: a.with_delta(0, 3), "anonymous page offset not contiguous"),
    "special": (lambda a: a.with_flags(a.vm_flags | VM_DONTEXPAND), "VM_SPECIAL mappings never merge"),
    "none": (lambda a: a, ""),
}


@pytest.mark.parametrize("code", CHANGES)
def test_why_two_vmas_are_not_one(code: str) -> None:
    """For each field that two touching VMAs may differ in, that field is the reason."""
    mm = layout("AAABBB", files={"A": FILE, "B": FILE})
    low, high = mm.vmas()
    change, text = CHANGES[code]
    high.attrs = change(high.attrs)
    why = why_not_one(mm, low, high)
    assert (why.code, why.text) == (code, text) if why else code == "none"


def test_the_first_reason_is_the_kernels_first() -> None:
    """Where several fields differ, the one that the kernel looks at first is named."""
    mm = layout("AAABBB", "WWWWWW")
    low, high = mm.vmas()
    order = ["anon_vma", "name", "uffd", "file", "flags", "policy"]
    named = []
    for code in order:
        if code in CHANGES:
            changed = CHANGES[code][0](high.attrs)
            high.attrs = changed.table.get(
                changed.vm_flags,
                changed.vm_file,
                changed.vm_policy or high.vm_policy,
                changed.uffd or high.attrs.uffd,
                changed.anon_name or high.anon_name,
            )
        why = why_not_one(mm, low, high)
        assert why is not None
        named.append(why.code)
    assert named == order


def test_close_hook_is_named() -> None:
    """A fragment with a close hook that would be removed says so."""
    shm = File(1, "shm", "/SYSV00000000")
    mm = layout("PPPCCC", "wwwrrr", files={"P": shm, "C": shm})
    modify(3, 6, "w")(mm)
    assert _texts(_last(mm))[0] == "vm_ops->close: it may not be removed"


@pytest.mark.parametrize(
    ("kernel", "prev", "want"), [("6.1", "close", "close"), ("6.8", "pgoff", "close"), ("6.12", "pgoff", "pgoff")]
)
def test_close_hook_and_page_offset(kernel: str, prev: str, want: str) -> None:
    """Of two fragments out of order the close hook is named where it matters, else the page offset."""
    shm = File(1, "shm", "/SYSV00000000")
    mm = layout("PPPCCCNNN", "wwwrrrwww", rules=kernel, files={"P": shm, "C": shm, "N": shm})
    middle = list(mm.vmas())[1]
    middle.attrs = middle.attrs.with_delta(20)
    modify(3, 6, "w")(mm)
    why = _last(mm)
    assert why.reason_prev and why.reason_next
    assert (why.reason_prev.code, why.reason_next.code) == (prev, want)


def test_uffd_move_is_named() -> None:
    """On 7.3 a moved VMA whose context has no EVENT_REMAP is not merged, for that reason."""
    p = Process("7.3")
    uffd = p.userfaultfd()
    p.mmap(0, 1), p.mmap(10, 1), p.register(uffd, 0, 1), p.register(uffd, 10, 1), p.move(10, 1, 1)
    moved = next(d for d in p.mm.decisions if d.api == "vma_merge_new_vma")
    assert _texts(moved)[0] == "userfaultfd context differs: the moved VMA's context has no EVENT_REMAP"


def test_decisions_tell_what_became_of_the_range() -> None:
    """A merge names its survivor and what it removed, a split where it cut."""
    mm = layout("PPPCCCNNN", "wwwrrrwww")
    modify(3, 6, "w")(mm)
    merge = _last(mm)
    assert (merge.api, merge.case, merge.survivor, merge.removed) == ("vma_modify_flags", "6", (at(0), at(9)), 2)
    assert (merge.vm_start, merge.vm_end) == (at(3), at(6))
    mm = layout("CCCCCCCCC", "rrrrrrrrr")
    modify(3, 6, "w")(mm)
    assert [(d.action, d.case, d.at) for d in mm.decisions] == [("split", "below", at(3)), ("split", "above", at(6))]
    assert [(d.vm_start, d.vm_end) for d in mm.decisions] == [(at(0), at(9)), (at(3), at(9))]


def test_unknown_bits_are_shown_as_a_number() -> None:
    """Flags that have no letters appear in hexadecimal."""
    assert Reason("flags", bits=VM_WRITE).text == "flags differ: wr"
    assert Reason("flags", bits=1 << 60).text == f"flags differ: {1 << 60:#x}"
    assert flag_bits("w") & VM_WRITE
    assert RW == 3
