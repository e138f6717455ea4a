"""The stream of observations."""

from __future__ import annotations

from vmastore.recorder.shots import NOWHERE, Shots
from vmastore.recorder.spool import Shot


def test_looking_ahead_loses_nothing() -> None:
    """The baseline of a thread's exec is found near, and all observations still come in their order."""
    plain = Shot("check", 7, 7, 1, 10, [], [], True, 0, 0, 0)
    given = [
        (plain, b"a"),
        (plain._replace(kind="exec", tid=8, offset=20), b"b"),
        (plain._replace(offset=30), b"c"),
    ]
    shots = Shots(given)
    assert shots.next_offset == 10 and shots.next == plain
    assert shots.baseline_of(7) is None
    assert shots.baseline_of(8) == given[1][0]
    assert [shots.pop() for _ in range(3)] == given
    assert shots.next_offset == NOWHERE and shots.baseline_of(8) is None
