"""Merging while the program runs gives what merging afterwards does."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.recorder import tape
from vmastore.recorder.feed import Feed
from vmastore.recorder.loglines import LogLine, Quiet
from vmastore.recorder.marks import Passed
from vmastore.recorder.perf import Layout, Mode
from vmastore.recorder.spool import Shot
from vmastore.recorder.trace import RecordedTrace

RECORDED = Path(__file__).parent.parent / "data" / "recordings"  # what the live part gave for three programs
HEADER = TraceHeader("x", "x", "record", config={"thp": "madvise"})


def recorded(name: str) -> list[tape.Message]:
    """The messages of a recording."""
    return list(tape.messages(io.BytesIO(gzip.decompress((RECORDED / f"{name}.tape.gz").read_bytes()))))


def merged(messages: list[tape.Message]) -> tuple[list[Event], list[FileInfo], tuple[int, int, int], int]:
    """Events, files and counts, and how many lists the events came in."""
    trace = RecordedTrace(iter(messages), HEADER)
    batches = list(trace._merged())  # as they are made, before they are collected for the store
    events = [event for batch in batches for event in batch]
    return events, trace.files, trace.faults, len(batches)


def whole(messages: list[tape.Message]) -> list[tape.Message]:
    """All there is at once: nothing of when it came is left, but where in the log an observation stands."""
    clocks, others, shots, marks, log = [], [], [], b"", b""
    for kind, data in messages:
        if kind == tape.LOG:
            log += data
        elif kind == tape.MARKS:
            marks += data
        elif kind == tape.CLOCK:
            clocks.append((kind, tape.Clock.unpack(data)._replace(passed_ns=0, quiet=False).pack()))
        elif kind in (tape.SHOT, tape.MISSED):
            shots.append((kind, data))
        else:
            others.append((kind, data))
    return [*clocks, *others, *shots, (tape.MARKS, marks), (tape.LOG, log)]


def cut(messages: list[tape.Message], rng: random.Random) -> Iterator[tape.Message]:
    """The same, but the log comes in other pieces, records later, and less is said of how far it has come."""
    passed = 0
    held: list[bytes] = []
    for kind, data in messages:
        if kind == tape.LOG:
            places = sorted(rng.sample(range(len(data) + 1), min(len(data), rng.choice((0, 1, 5, 40)))))
            for begin, end in zip([0, *places], [*places, len(data)], strict=True):
                yield kind, data[begin:end]
        elif kind == tape.MARKS:
            held += records(data)
        elif kind == tape.CLOCK:
            clock = tape.Clock.unpack(data)
            if rng.random() < 0.7:
                for record in held:
                    yield tape.MARKS, record
                held, passed = [], clock.passed_ns if rng.random() < 0.7 else passed
            yield kind, clock._replace(passed_ns=passed, quiet=clock.quiet and rng.random() < 0.7).pack()
        else:
            yield kind, data
    for record in held:
        yield tape.MARKS, record


def records(data: bytes) -> Iterator[bytes]:
    """The single records of a piece."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("=H", data, at + 6)
        yield data[at : at + size]
        at += size


@pytest.mark.parametrize("name", ["pages", "tree", "race"])
def test_merging_on_the_way_gives_what_merging_at_the_end_does(name: str) -> None:
    """Events, files and counts are the same wherever the messages are cut and however little is known how far."""
    messages = recorded(name)
    events, files, counts, lists = merged(whole(messages))
    assert len(events) > 40 and counts[1] > 10 and [event.seq for event in events] == list(range(1, len(events) + 1))
    live = merged(messages)
    assert live[:3] == (events, files, counts) and live[3] >= lists
    rng = random.Random(5)
    for _ in range(4 if name == "race" else 25):
        assert merged(list(cut(messages, rng)))[:3] == (events, files, counts)


def test_no_more_is_read_than_is_needed() -> None:
    """When an event is given, only a part of a recording has been read: what is not read need not be kept."""
    messages = recorded("race")
    total = sum(kind == tape.LOG for kind, _ in messages)
    read = 0

    def told() -> Iterator[tape.Message]:
        nonlocal read
        for message in messages:
            read += message[0] == tape.LOG
            yield message

    places = []
    for batch in RecordedTrace(told(), HEADER)._merged():
        if batch:
            places.append(read / total)
    assert len(places) > 5 and places[0] < 0.3
    assert max(after - before for before, after in pairwise(places)) < 0.4


def test_faults_are_given_while_the_log_is_silent() -> None:
    """A program that touches memory without a call has its faults merged before its next call is known."""
    at = 0

    def told() -> Iterator[tape.Message]:
        nonlocal at
        for message in recorded("pages"):
            at += message[0] == tape.LOG
            yield message

    trace = RecordedTrace(told(), HEADER)
    seen: dict[int, set[int]] = {}
    for _ in trace._merged():
        seen.setdefault(at, set()).add(trace.faults[0])
    assert any(len(counts) > 1 for at, counts in seen.items() if at < max(seen))


def clock(monotonic: int, wall: int, passed: int, *, quiet: bool = False) -> tape.Message:
    return tape.CLOCK, tape.Clock(monotonic, wall, passed, quiet).pack()


def fault(time_ns: int, addr: int) -> tape.Message:
    return tape.MARKS, struct.pack("=IHHIIQQ", 9, 0, 32, 7, 7, time_ns, addr)


def layout(*, monotonic: bool) -> tape.Message:
    mode = Mode("page-faults", tells_writes=False, monotonic=monotonic)
    return tape.LAYOUT, json.dumps([Layout(mode, {}).to_json(), None, 5]).encode()


def test_marks_come_in_order_and_in_the_wall_clocks_time() -> None:
    """Those of several processors are sorted when all of a time are there; one that is late is counted."""
    feed = Feed(
        iter(
            [
                clock(0, 1000, 0),
                layout(monotonic=True),
                fault(30, 1),
                fault(10, 2),
                clock(100, 1200, 20),
                fault(15, 3),
                fault(50, 4),
                clock(200, 1300, 90),
            ]
        )
    )
    found = list(feed.marks())
    assert [mark if isinstance(mark, Passed) else (mark.time_ns, mark.addr) for mark in found] == [
        (1020, 2),  # between the readings the difference is interpolated
        Passed(1040),
        (1030, 3),
        (1060, 1),
        (1100, 4),
        Passed(1180),
    ]
    assert feed.late == 1 and feed.begin_ns == 1000 and feed.strace_pid == 5


def test_a_quiet_place_tells_of_the_line_that_has_begun() -> None:
    """Its thread and time if it is a call's; where it cannot be told what it is, the place is none."""
    for rest, quiet in (
        (b"", Quiet(50)),
        (b"7 0.000000040 wait4(", Quiet(50, 7, 40)),
        (b"7 0.0000", None),
    ):
        log = (tape.LOG, b"8 0.000000030 brk(NULL) = 0x5 <0.000000001>\n" + rest)
        feed = Feed(iter([clock(0, 0, 0), layout(monotonic=False), log, clock(50, 50, 40, quiet=True)]))
        lines = list(feed.lines())
        assert isinstance(lines[0], LogLine) and lines[0].tid == 8
        assert [line for line in lines if isinstance(line, Quiet)] == ([] if quiet is None else [quiet])


def test_observations_stand_before_the_lines_behind_them() -> None:
    """When a line is given, each observation made before its end is there."""
    shot = Shot("check", 7, 7, 5, 4, [], [], True, 0)
    text = (tape.SHOT, json.dumps(shot).encode() + b"\nmaps")
    feed = Feed(iter([layout(monotonic=False), (tape.LOG, b"one\ntw"), text, (tape.LOG, b"o\n")]))
    lines = feed.lines()
    next(lines)
    line = next(lines)
    assert isinstance(line, LogLine) and feed.shots.next_offset < line.end and feed.shots.pop() == (shot, b"maps")
