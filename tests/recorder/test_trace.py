"""A finished recording as a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vmastore.events.types import TraceHeader
from vmastore.recorder.perf import Perf
from vmastore.recorder.spool import Shot, Spool
from vmastore.recorder.trace import RecordedTrace

LOG = b"""\
7 1.0 execve("/bin/x", ["x"], 0x7f /* 1 var */) = 0 (DELAYED) <0.5>
7 3.0 openat(AT_FDCWD, "/lib/x.so", O_RDONLY) = 3 <0.1>
7 4.0 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0000000000 <0.1>
7 5.0 +++ exited with 0 +++
"""
STACK = b"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]\nAnonymous: 0 kB\nVmFlags: rd wr mr mw me gd ac\n"
HEADER = TraceHeader("x", "x", "record", config={"thp": "madvise"}, faults="recorded", note="as it was")


class Recorded(Perf):
    """Faults at hand, in the wall clock's time."""

    def __init__(self, *lines: bytes) -> None:
        super().__init__(Path("/nonexistent"))
        self._given = lines

    def lines(self) -> Iterator[bytes]:
        yield from self._given


def _trace(tmp_path: Path, *lines: bytes) -> RecordedTrace:
    spool = Spool(str(tmp_path))
    spool.write(LOG)
    place = (1_600_000_000, LOG.index(b"7 3.0"), [], [])
    spool.add_shot(Shot("exec", 7, 7, *place, steady=True, start_brk=0, begin=0, length=0), STACK)
    spool.read_clocks()
    spool.finish()
    return RecordedTrace(spool, Recorded(*lines), HEADER)


def test_the_events_come_once_and_the_folder_goes(tmp_path: Path) -> None:
    """Calls, faults and observations in one order; afterwards nothing is left on disk."""
    trace = _trace(tmp_path, b"7/7 3.5: exceptions:page_fault_user: address=0x7ffc00001000 ip=0x1 error_code=0x6\n")
    assert not trace.ordered
    events = list(trace.events())
    assert [event.call for event in events] == ["execve", "maps", "openat", "fault", "mmap", "exit", "note"]
    assert [event.source_offset for event in events if event.source_offset is not None] == [
        0,
        *(LOG.index(line) for line in (b"7 3.0", b"7 4.0", b"7 5.0")),
    ]
    assert trace.files[0].path == "/lib/x.so" and trace.skips() == []
    assert list(tmp_path.iterdir()) == []


def test_the_header_tells_what_merging_found_out(tmp_path: Path) -> None:
    """Lost records make the faults partial; an end that was not observed is counted in the note."""
    trace = _trace(tmp_path, b"x 7 [0] 3.5: PERF_RECORD_LOST lost 12\n")
    assert trace.header == HEADER
    list(trace.events())
    assert trace.header.faults == "partial"
    note = str(trace.header.note)
    assert "as it was" in note and "12 page fault records were lost" in note and "1 address spaces ended" in note


def test_reading_that_stops_half_way_leaves_nothing(tmp_path: Path) -> None:
    """Whoever takes only some events, or none, can let go of the rest."""
    events = _trace(tmp_path).events()
    next(events)
    events.close()  # type: ignore[attr-defined]
    _trace(tmp_path).close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StopIteration):
        next(events)
