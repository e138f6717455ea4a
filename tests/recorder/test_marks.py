"""The stream of faults and locks."""

from __future__ import annotations

from collections.abc import Iterator

from vmastore.importers.faults import Fault, Locked
from vmastore.recorder.marks import NEVER, Mark, Marks, Passed

GIVEN = [Fault(1, 7, 7, 0, "w", "user"), Locked(2, 7, 8), Locked(3, 7, 7), Fault(4, 7, 7, 0, "w", "user")]


def test_looking_ahead_loses_nothing() -> None:
    """A lock is found by its thread and time, and all marks still come in their order."""
    marks = Marks(GIVEN)
    assert marks.first(1) is None and marks.first(2) == GIVEN[0]
    assert marks.lock_of(7, 3) is None, "it is not before that"
    assert marks.lock_of(7, 4) == 3
    assert marks.lock_of(9, NEVER) is None
    taken = []
    while marks.first(NEVER) is not None:
        taken.append(marks.pop())
    assert taken == GIVEN
    assert Marks([]).first(NEVER) is None and Marks([]).lock_of(1, NEVER) is None


def test_no_more_is_read_than_is_asked_for() -> None:
    """Where it is known that all marks before a time were given, nothing later is waited for."""

    def source() -> Iterator[Mark | Passed]:
        yield GIVEN[0]
        yield Passed(2)
        raise AssertionError("read too far")

    marks = Marks(source())
    assert marks.lock_of(7, 2) is None
    assert marks.pop() == GIVEN[0] and marks.first(2) is None and marks.first(1) is None
