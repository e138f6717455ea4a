"""The stream of faults and locks."""

from __future__ import annotations

from vmastore.importers.faults import Fault, Locked
from vmastore.recorder.marks import NEVER, Marks


def test_looking_ahead_loses_nothing() -> None:
    """A lock is found by its thread and time, and all marks still come in their order."""
    given = [Fault(1, 7, 7, 0, "w", "user"), Locked(2, 7, 8), Locked(3, 7, 7), Fault(4, 7, 7, 0, "w", "user")]
    marks = Marks(given)
    assert marks.next_ns == 1
    assert marks.lock_of(7, 3) is None, "it is not before that"
    assert marks.lock_of(7, 4) == 3
    assert marks.lock_of(9, NEVER) is None
    taken = []
    while marks.next_ns != NEVER:
        taken.append(marks.pop())
    assert taken == given
    assert Marks([]).next_ns == NEVER and Marks([]).lock_of(1, NEVER) is None
