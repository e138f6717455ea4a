"""The search step by step: it ends at the first new state, in few steps, whatever is skipped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmastore.errors import InputError
from vmastore.replay.bisect.steps import Ask, Back, Found, Mark, Never, Step, Suspects, Waiting, check, next_step


def drive(marks: list[Mark], change: int, bad: set[int]) -> tuple[Step, list[int]]:
    """Answer truly: state n is new from `change` on; those in `bad` cannot be tested. Returns the end, the tests."""
    asked: list[int] = []
    while isinstance(step := next_step(marks), Ask | Back):
        assert step.seq not in asked, "nothing is asked twice"
        asked.append(step.seq)
        verdict = "skip" if step.seq in bad else "new" if step.seq >= change else "old"
        marks = [*marks, Mark(verdict, step.seq, step.seq)]
        check(marks, "good", "bad")
    return step, asked


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.data())
def test_finds_the_first_new_state(last: int, data: st.DataObject) -> None:
    """Between a known old and a known new state, in no more steps than halving needs."""
    change = data.draw(st.integers(1, last))
    step, asked = drive([Mark("old", 0, 0), Mark("new", last, last)], change, set())
    assert step == Found(change)
    assert len(asked) <= (last - 1).bit_length()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.data())
def test_skipped_states(last: int, data: st.DataObject) -> None:
    """With states that cannot be tested the result is the event, or the least range that can be told."""
    change = data.draw(st.integers(1, last))
    bad = set(data.draw(st.lists(st.integers(1, last), max_size=20))) - {last}
    step, _ = drive([Mark("old", 0, 0), Mark("new", last, last)], change, bad)
    low = max(n for n in range(change) if n not in bad)
    high = min(n for n in range(change, last + 1) if n not in bad)
    assert step == (Found(high) if high == low + 1 else Suspects(low + 1, high))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.data())
def test_a_skipped_range(last: int, data: st.DataObject) -> None:
    """A whole range is passed over, and nothing in it is asked."""
    change = data.draw(st.integers(1, last))
    first = data.draw(st.integers(1, last))
    until = data.draw(st.integers(first, last))
    marks = [Mark("old", 0, 0), Mark("new", last, last), Mark("skip", first, until)]
    step, asked = drive(marks, change, set())
    assert not [seq for seq in asked if first <= seq <= until]
    if first <= change <= until and until < last:
        assert step == (Found(change) if first == until + 1 else Suspects(first, until + 1))
    elif isinstance(step, Found):
        assert step.seq == change
    else:
        assert isinstance(step, Suspects) and step.first <= change <= step.last


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 100_000), st.data())
def test_looks_back_for_an_old_state(last: int, data: st.DataObject) -> None:
    """With only a new state known, the search goes back twice as far each time, then halves."""
    change = data.draw(st.integers(0, last))
    step, asked = drive([Mark("new", last, last)], change, set())
    assert step == (Found(change) if change else Never(0))
    distance = last - change + 1
    assert len(asked) <= 2 * distance.bit_length() + 2
    way = [last - (1 << n) for n in range(distance.bit_length()) if last - (1 << n) >= change]
    assert asked[: len(way)] == way  # 1, 2, 4, 8 … events back, as long as the state is new


def test_going_back_over_skipped_states() -> None:
    """What is skipped on the way back is passed; where nothing else is left, that is said."""
    assert next_step([Mark("new", 100, 100)]) == Back(99)
    assert next_step([Mark("new", 100, 100), Mark("skip", 90, 99)]) == Back(89)
    assert next_step([Mark("new", 100, 100), Mark("skip", 0, 99)]) == Never(100)
    assert next_step([Mark("new", 100, 100), Mark("new", 3, 3), Mark("skip", 0, 1)]) == Back(2)


def test_what_is_waited_for() -> None:
    """Without a new state nothing can be tested."""
    assert next_step([]) == Waiting(False)
    assert next_step([Mark("old", 5, 5)]) == Waiting(True)


@pytest.mark.parametrize("marks", [[("old", 9), ("new", 9)], [("new", 3), ("old", 9)], [("old", 1), ("new", 0)]])
def test_marks_that_contradict(marks: list[tuple[str, int]]) -> None:
    """An old state at or after a new one is an error that names both."""
    with pytest.raises(InputError, match="must come before"):
        check([Mark(v, n, n) for v, n in marks], "good", "bad")  # type: ignore[arg-type]


def test_steps_are_told_as_git_tells_them() -> None:
    """1351 states between the two: 675 left to test after this one, roughly 10 steps."""
    assert next_step([Mark("old", 0, 0), Mark("new", 1352, 1352)]) == Ask(676, 675, 10)
