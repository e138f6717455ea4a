"""The stream of observations."""

from __future__ import annotations

from vmastore.recorder.shots import NOWHERE, Shots
from vmastore.recorder.spool import Shot

PLAIN = Shot("check", 7, 7, 1, 10, [], [], True, 0)
EXEC = PLAIN._replace(kind="exec", tid=8, offset=20)


def test_looking_ahead_loses_nothing() -> None:
    """The baseline of a thread's exec is found, and all observations still come in their order."""
    given = [(PLAIN, b"a"), (EXEC, b"b"), (PLAIN._replace(offset=30), b"c")]
    shots = Shots(given)
    assert shots.next_offset == 10 and shots.next == PLAIN
    assert shots.baseline_of(7) is None
    assert shots.baseline_of(8) == EXEC
    assert [shots.pop() for _ in range(3)] == given
    assert shots.next_offset == NOWHERE and shots.baseline_of(8) is None


def test_a_baseline_is_waited_for_until_it_is_there_or_missed() -> None:
    """What comes meanwhile is kept; a missed one is not taken for that of the thread's next exec."""
    shots: Shots
    script = [
        lambda: shots.add(PLAIN, b"a"),
        lambda: shots.miss(8),
        lambda: shots.add(EXEC, b"b"),
    ]
    asked: list[int] = []

    def more() -> bool:
        if not script:
            return False
        asked.append(1)
        script.pop(0)()
        return True

    shots = Shots(more=more)
    assert shots.baseline_of(8) is None and len(asked) == 2
    assert shots.baseline_of(8) == EXEC and len(asked) == 3
    shots = Shots([(PLAIN, b"a")])
    shots.miss(8)
    shots.add(EXEC, b"b")
    assert [shots.baseline_of(8), shots.baseline_of(8)] == [None, EXEC], "the same when all is there from the start"
    shots.miss(8)
    assert shots.baseline_of(8) == EXEC, "that one was missed later"


def test_an_observation_made_before_its_line_was_read_stands_where_it_belongs() -> None:
    """By its place in the log, before those that have come earlier."""
    shots = Shots([(PLAIN, b"a"), (PLAIN._replace(offset=30), b"c")])
    shots.add(EXEC, b"b")
    assert [shots.pop()[1] for _ in range(3)] == [b"a", b"b", b"c"]
