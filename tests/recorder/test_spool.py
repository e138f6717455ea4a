"""What a recording leaves on disk, and that it does not stay there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vmastore.errors import RecordError
from vmastore.recorder import tape
from vmastore.recorder.spool import Shot, Spool, clock_pair, read_shot
from vmastore.recorder.watch import Point


def test_observations_come_back_with_their_texts(tmp_path: Path) -> None:
    """Log, observations and what was missed are read as they were written, in order."""
    spool = Spool(str(tmp_path))
    spool.write(b"one\n")
    first = Shot("exec", 1, 1, 5, spool.size, [], [2], True, 0)
    spool.add_shot(first, b"maps\nof one")
    spool.miss(Point("exec", 3))
    spool.add_shot(first._replace(kind="exit"), b"two")
    spool.finish()
    assert spool.size == 4 and spool.shots == 2
    log, one, missed, two = spool.messages()
    assert log == (tape.LOG, b"one\n") and missed == (tape.MISSED, b'["exec", 3]')
    assert read_shot(one[1]) == (first, b"maps\nof one")
    assert read_shot(two[1]) == (first._replace(kind="exit"), b"two")
    spool.close()


def test_nothing_stays_behind(tmp_path: Path) -> None:
    """Closing deletes the folder, and so does forgetting about it."""
    spool = Spool(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1
    spool.close()
    spool.close()
    assert list(tmp_path.iterdir()) == []
    forgotten = Spool(str(tmp_path))
    del forgotten
    assert list(tmp_path.iterdir()) == []


def test_the_clocks_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several readings that pair is kept which took the shortest time; its moment is the middle."""
    took = iter((90, 7, 2, 30, 8))
    now = 0

    def monotonic_ns() -> int:
        return now

    def time_ns() -> int:
        nonlocal now
        now += 1000 + next(took)
        return 1_000_000 + now

    monkeypatch.setattr("vmastore.recorder.spool.time", SimpleNamespace(monotonic_ns=monotonic_ns, time_ns=time_ns))
    end = 1090 + 1007 + 1002
    assert clock_pair() == (end - 501, 1_000_000 + end)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """No folder, or no space in it, raises RecordError that names it."""
    with pytest.raises(RecordError, match="nowhere"):
        Spool(str(tmp_path / "nowhere"))
