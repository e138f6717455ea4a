"""What a recording leaves on disk, and that it does not stay there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from vmastore.errors import RecordError
from vmastore.recorder.spool import Shot, Spool


def test_observations_come_back_with_their_texts(tmp_path: Path) -> None:
    """Log, places and texts are read as they were written, in order."""
    spool = Spool(str(tmp_path))
    spool.write(b"one\n")
    first = Shot("exec", 1, 1, 5, spool.size, [], [2], True, 0, 0, 0)
    spool.add_shot(first, b"maps of one")
    spool.add_shot(first._replace(kind="exit"), b"two")
    spool.finish()
    assert spool.log_path.read_bytes() == b"one\n" and spool.size == 4 and spool.shots == 2
    got = list(spool.read_shots())
    assert [(shot.kind, shot.doubtful, text) for shot, text in got] == [
        ("exec", [2], b"maps of one"),
        ("exit", [2], b"two"),
    ]
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


def test_the_clocks_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    spool = Spool(str(tmp_path))
    spool.read_clocks()
    end = 1090 + 1007 + 1002
    assert spool.clock == [(end - 501, 1_000_000 + end)]
    spool.close()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """No folder, or no space in it, raises RecordError that names it."""
    with pytest.raises(RecordError, match="nowhere"):
        Spool(str(tmp_path / "nowhere"))
