"""The search step by step, as git has it: marks in, the next event to test or the result out.

Pure: nothing here replays, stores or prints. States are told by event number: state N is what event
N left behind, 0 what was before the first. A state is `old` (good) or `new` (bad); the search is for
the first event whose state is new.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from vmastore.errors import InputError

Verdict = Literal["old", "new", "skip"]


class Mark(NamedTuple):
    """What was said of the states first to last (one, but for `skip`).

    source: `user`, or `run` where a command was asked.
    """

    verdict: Verdict
    first: int
    last: int
    source: str = "user"


class Ask(NamedTuple):
    """Test state `seq`. left: states that may still have to be tested; steps: about how often."""

    seq: int
    left: int
    steps: int


class Back(NamedTuple):
    """No old state is known: test state `seq`, further back each time."""

    seq: int


class Found(NamedTuple):
    """Event `seq` is the first new one."""

    seq: int


class Suspects(NamedTuple):
    """Only skipped states are left: one of the events first to last is the first new one."""

    first: int
    last: int


class Never(NamedTuple):
    """No state is old, back to the first that can be tested."""

    seq: int


class Waiting(NamedTuple):
    """A new state must be named before anything can be tested; old: whether an old one is known."""

    old: bool


Step = Ask | Back | Found | Suspects | Never | Waiting


def bounds(marks: Iterable[Mark]) -> tuple[int | None, int | None]:
    """(the last old state, the first new one), None where none is known."""
    marks = list(marks)
    old = max((m.first for m in marks if m.verdict == "old"), default=None)
    new = min((m.first for m in marks if m.verdict == "new"), default=None)
    return old, new


def check(marks: Iterable[Mark], good: str, bad: str) -> None:
    """Raise InputError if an old state is not before every new one. good, bad: the terms."""
    old, new = bounds(marks)
    if old is not None and new is not None and old >= new:
        raise InputError(
            f"event {old} is marked {good} and event {new} {bad}: {good} events must come before {bad} ones",
            hint=f"maybe {good} and {bad} were mistaken for each other: `vmastore bisect log` shows the marks",
        )


def next_step(marks: Iterable[Mark]) -> Step:
    """What to do next. Assumes marks that `check` accepts."""
    marks = list(marks)
    old, new = bounds(marks)
    if new is None:
        return Waiting(old is not None)
    skipped = _ranges(marks)
    if old is None:
        return _back(max(m.first for m in marks if m.verdict == "new"), new, skipped)
    if new == old + 1:
        return Found(new)
    free = new - old - 1 - sum(min(b, new - 1) - max(a, old + 1) + 1 for a, b in skipped if a < new and b > old)
    seq = _nearest((old + new) // 2, old + 1, new - 1, skipped)
    if seq is None:
        return Suspects(old + 1, new)
    return Ask(seq, free // 2, (free // 2).bit_length())


def _back(highest: int, new: int, skipped: list[tuple[int, int]]) -> Step:
    """Twice as far back from the highest new state as the lowest known one, and at least one event."""
    if new == 0:
        return Never(0)
    seq: int | None = max(0, highest - max(1, 2 * (highest - new)))
    for first, last in reversed(skipped):
        if seq is not None and first <= seq <= last:
            seq = first - 1 if first else None
    if seq is None:
        seq = _nearest(0, 0, new - 1, skipped)
    return Never(new) if seq is None else Back(seq)


def _nearest(wanted: int, low: int, high: int, skipped: list[tuple[int, int]]) -> int | None:
    """The state of [low, high] nearest to `wanted` that is not skipped."""
    choices = []
    for seq, by in ((wanted, -1), (wanted, 1)):
        for first, last in reversed(skipped) if by < 0 else skipped:
            if first <= seq <= last:
                seq = first - 1 if by < 0 else last + 1
        if low <= seq <= high:
            choices.append(seq)
    return min(choices, key=lambda seq: abs(seq - wanted), default=None)


def _ranges(marks: list[Mark]) -> list[tuple[int, int]]:
    """What was skipped, as ranges that neither meet nor overlap, in order."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted((m.first, m.last) for m in marks if m.verdict == "skip"):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
