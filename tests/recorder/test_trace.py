"""A finished recording as a trace."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from vmastore.events.types import TraceHeader
from vmastore.recorder import tape
from vmastore.recorder.perf import Layout, Mode
from vmastore.recorder.result import Cost, Result
from vmastore.recorder.spool import Shot, Spool
from vmastore.recorder.trace import UNFINISHED, RecordedTrace

LOG = b"""\
7 1.0 execve("/bin/x", ["x"], 0x7f /* 1 var */) = 0 (DELAYED) <0.5>
7 3.0 openat(AT_FDCWD, "/lib/x.so", O_RDONLY) = 3 <0.1>
7 4.0 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0000000000 <0.1>
7 5.0 +++ exited with 0 +++
"""
STACK = b"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]\nAnonymous: 0 kB\nVmFlags: rd wr mr mw me gd ac\n"
HEADER = TraceHeader("x", "x", "record", config={"thp": "madvise"}, faults="partial")


RESULT = Result(0, None, False, "recorded", ["as it was"], True, Cost(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))


def _trace(tmp_path: Path, records: bytes = b"", *, ended: bool = True) -> RecordedTrace:
    """A recording with faults at hand, in the wall clock's time."""
    spool = Spool(str(tmp_path))
    out = spool.tape
    out.put(tape.CLOCK, tape.Clock(0, 1_000_000_000, 0, False).pack())
    layout = Layout(Mode("page-faults", tells_writes=False, monotonic=False), {})
    out.put(tape.LAYOUT, json.dumps([layout.to_json(), None, 5]).encode())
    spool.write(LOG)
    place = (1_600_000_000, LOG.index(b"7 3.0"), [], [])
    spool.add_shot(Shot("exec", 7, 7, *place, steady=True, start_brk=0), STACK)
    if records:
        out.put(tape.MARKS, records)
    if ended:
        out.put(tape.END, json.dumps(RESULT.to_json()).encode())
    spool.finish()
    return RecordedTrace(spool.messages(), HEADER, close=spool.close)


def test_the_events_come_once_and_the_folder_goes(tmp_path: Path) -> None:
    """Calls, faults and observations in one order; afterwards nothing is left on disk."""
    trace = _trace(tmp_path, struct.pack("=IHHIIQQ", 9, 0, 32, 7, 7, 3_500_000_000, 0x7FFBFFFFF008))
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
    trace = _trace(tmp_path, struct.pack("=IHHQQ", 2, 0, 24, 1, 12))
    assert trace.header.note == UNFINISHED and trace.result is None
    list(trace.events())
    assert trace.result == RESULT
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


def test_a_recording_that_was_cut_off_says_so(tmp_path: Path) -> None:
    """Without its last message the trace holds what there was, and its note tells that it did not end."""
    trace = _trace(tmp_path, ended=False)
    assert [event.call for event in trace.events()][-2:] == ["exit", "note"]
    assert trace.result is None and UNFINISHED in str(trace.header.note)
