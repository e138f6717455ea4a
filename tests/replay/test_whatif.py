"""An edited replay differs by the edit and nothing else; the trace stays as it is."""

from __future__ import annotations

import pytest
from traces import BASE, NONE, PAGE, anon, protect, trace, write

from vmastore.errors import InputError
from vmastore.mm.rules import preset
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.whatif import WhatIf, dropping, edited_pairs, ignoring, in_order, replacing, whatif

NEW = preset("6.18")


def compared(
    made: MemoryTrace, *edits: object, reorder: str | None = None, kernel: str = "6.18", limit: int | None = None
) -> WhatIf:
    before = list(made.events)
    pairs = edited_pairs(made.events, edits, reorder)  # type: ignore[arg-type]
    found = whatif(made.world(NEW), made.world(preset(kernel), max_map_count=limit), pairs, 1)
    assert made.events == before
    return found


def curve(found: WhatIf) -> tuple[int, int, int, int]:
    return found.original.peak, found.original.end, found.edited.peak, found.edited.end


def name(page: int, text: str) -> tuple[object, ...]:
    return "prctl", 0x53564D41, 0, BASE + page * PAGE, PAGE, 0, text


def test_no_edit_no_difference() -> None:
    """The same trace: the same curve, nothing changed, no first difference."""
    found = compared(trace(anon(0, 8), protect(1, 1, NONE), write(3)))
    assert curve(found) == (3, 3, 3, 3) and found.changed == 0 and found.first is None


def test_ignoring() -> None:
    """Names, policies and advice that are never given cost nothing."""
    made = trace(anon(0, 3), name(0, "a"), name(1, "b"), name(2, "c"), anon_name=True)
    assert curve(compared(made, ignoring("names"))) == (3, 3, 1, 1)
    made = trace(anon(0, 3), ("mbind", BASE, PAGE, 2, 1, 8, 0), ("madvise", BASE + 2 * PAGE, PAGE, 15))
    assert curve(compared(made, ignoring("policy"))) == (3, 3, 2, 2)
    assert compared(made, ignoring("madvise")).changed == 1
    assert compared(made, ignoring("madvise:DONTDUMP")).changed == 0


def test_guards_instead_of_mprotect() -> None:
    """Ten guard pages: 20 VMAs with mprotect, one with MADV_GUARD_INSTALL; the first difference is named."""
    made = trace(anon(0, 100), *(protect(10 * n, 1, NONE) for n in range(10)))
    found = compared(made, replacing("mprotect(NONE)=guard"))
    assert curve(found) == (20, 20, 1, 1)
    assert found.first is not None and found.first[0] == 2 and found.first[2:] == (2, 1)


def test_dropping() -> None:
    """By number, range and call."""
    made = trace(anon(0, 8), protect(1, 1, 1), protect(3, 1, 1), protect(5, 1, 1))
    assert curve(compared(made, dropping("2"))) == (7, 7, 5, 5)
    assert curve(compared(made, dropping("2-3"))) == (7, 7, 3, 3)
    assert curve(compared(made, dropping("mprotect"))) == (7, 7, 1, 1)


def test_commits_in_order_of_address() -> None:
    """Commits with faults between them, out of order, leave VMAs apart; in order they merge."""
    calls = [c for n in (2, 0, 3, 1) for c in (protect(4 * n, 4, 3), write(4 * n))]
    found = compared(trace(anon(0, 16, NONE), *calls), reorder="mprotect")
    assert found.original.end > found.edited.end == 1
    seqs = [event.seq for event in in_order(trace(*calls).events, "mprotect")]
    assert seqs == list(range(1, 9))


def test_another_limit_and_another_kernel() -> None:
    """A higher limit lets calls succeed that failed; an older kernel merges less."""
    made = trace(anon(0, 8), protect(1, 1, 1), protect(3, 1, 1), max_map_count=4)
    found = compared(made, limit=100)
    assert (found.original.failed, found.edited.failed) == (1, 0) and curve(found) == (4, 4, 5, 5)
    made = trace(anon(0, 4), protect(0, 2, 7), write(2), protect(2, 2, 7))
    assert curve(compared(made, kernel="6.12")) == (2, 1, 2, 2)


@pytest.mark.parametrize(
    ("make", "word"), [(ignoring, "colours"), (ignoring, "madvise:x"), (replacing, "a=b"), (dropping, "3-")]
)
def test_bad_words(make: object, word: str) -> None:
    with pytest.raises(InputError):
        make(word)  # type: ignore[operator]
