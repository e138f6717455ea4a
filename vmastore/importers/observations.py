"""Saved maps and smaps put into a log: ``[PID=]FILE[@LINE|@TIME]``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vmastore.errors import InputError
from vmastore.events.types import Event, ObservedVma
from vmastore.importers.beside import EXECS, FORKS, Spaces
from vmastore.importers.maps_file import process_of, read_maps

_PID = re.compile(r"(?P<pid>[1-9]\d{0,6})=(?P<rest>.+)\Z", re.DOTALL)
_EPOCH = re.compile(r"\d{9,10}(?:\.\d{1,9})?\Z")
_DAY = re.compile(r"(\d{1,3}):(\d\d):(\d\d)(?:\.(\d{1,9}))?\Z")
_LINE = re.compile(r"[1-9]\d{0,8}\Z")
_FIRST_EPOCH = 10**17  # ns: before 1973; a time of day is less
_HINT = "Write [PID=]FILE, [PID=]FILE@LINE, or [PID=]FILE@TIME with a time as the log prints it."


class Observation(NamedTuple):
    """One saved address space, and where it belongs. Neither line nor time: to the log's beginning."""

    source: str
    lines: list[ObservedVma]
    line: int | None = None  # made when the log's line had been written
    time_ns: int | None = None  # on the log's scale
    pid: int | None = None  # None: the log's first process

    @property
    def initial(self) -> bool:
        """Whether it was made before the log's first line."""
        return self.line is None and self.time_ns is None


def parse_observation(text: str) -> Observation:
    """Read one ``[PID=]FILE[@LINE|@TIME]``. Raises InputError.

    A whole number of up to 8 digits is a line, one of 9 or 10 seconds since the epoch; times of day are HH:MM:SS.
    """
    named = _PID.match(text) if not Path(text).exists() else None
    pid, rest = (int(named["pid"]), named["rest"]) if named else (None, text)
    file, sign, where = rest.rpartition("@")
    if not sign or Path(rest).is_file():
        return Observation(rest, read_maps(rest), pid=pid or process_of(rest))
    place = _place(where)
    if place is None:
        raise InputError(f"--maps {text!r}: {where!r} is neither a line nor a time", hint=_HINT)
    line, time_ns = place
    if not file:
        raise InputError(f"--maps {text!r}: names no file", hint=_HINT)
    return Observation(file, read_maps(file), line, time_ns, pid or process_of(file))


def _place(where: str) -> tuple[int | None, int | None] | None:
    """(line, None) or (None, time)."""
    day = _DAY.match(where)
    if day:
        seconds = int(day[1]) * 3600 + int(day[2]) * 60 + int(day[3])
        return None, seconds * 10**9 + int((day[4] or "0").ljust(9, "0"))
    if _EPOCH.match(where):
        seconds_text, _, fraction = where.partition(".")
        return None, int(seconds_text) * 10**9 + int(fraction.ljust(9, "0"))
    return (int(where), None) if _LINE.match(where) else None


class Observing:
    """The stage that puts observations between a log's events.

    The first of an address space whose state is not known is its baseline, the others are checks. One
    without a place stands before the first event of its process.
    """

    def __init__(self, observations: Sequence[Observation]) -> None:
        self._start = [one for one in observations if one.initial]
        placed = [one for one in observations if not one.initial]
        self._by_line = sorted((one for one in placed if one.line is not None), key=lambda one: one.line or 0)
        self._by_time = sorted((one for one in placed if one.time_ns is not None), key=lambda one: one.time_ns or 0)
        self._spaces = Spaces()
        self._based: set[int] = set()
        self._brk: set[int] = set()  # address spaces whose break the log has shown
        self._last: Event | None = None
        self._notes: list[str] = []

    @property
    def note(self) -> str | None:
        """Where an observation could not be put."""
        return "; ".join(self._notes) or None

    def events(self, stream: Iterator[Event]) -> Iterator[Event]:
        """The events with the observations between them."""
        for event in stream:
            if self._last is None:
                self._check_times(event)
            yield from self._before(event)
            yield from self._initial(event)
            yield event
            self._follow(event)
        yield from self._rest()

    def _follow(self, event: Event) -> None:
        self._spaces.follow(event)
        self._last = event
        call, args = event.call, event.args
        if call in FORKS and event.result and args[1] != event.mm and event.mm in self._based:
            self._based.add(args[1])
        elif call == "brk":
            self._brk.add(event.mm)

    def _before(self, event: Event) -> Iterator[Event]:
        """Those that were made before the event."""
        line, time_ns = event.source_line, event.ts_ns
        while self._by_line and line is not None and line > (self._by_line[0].line or 0):
            yield from self._put(self._by_line.pop(0))
        while self._by_time and time_ns is not None and time_ns > (self._by_time[0].time_ns or 0):
            yield from self._put(self._by_time.pop(0))

    def _check_times(self, first: Event) -> None:
        """Raise InputError where the log's times are not of the kind that was asked for."""
        for one in self._by_time:
            if first.ts_ns is None:
                raise InputError(f"--maps {one.source}: the log prints no times", hint=_HINT)
            if ((one.time_ns or 0) < _FIRST_EPOCH) != (first.ts_ns < _FIRST_EPOCH):
                shown = "times of day" if first.ts_ns < _FIRST_EPOCH else "seconds since the epoch"
                raise InputError(f"--maps {one.source}: the log prints {shown}", hint=_HINT)

    def _initial(self, event: Event) -> Iterator[Event]:
        """Baselines of the log's beginning, as soon as their process is seen."""
        if not self._start or not event.mm or event.call in EXECS:
            return
        for one in list(self._start):
            if one.pid is None or one.pid in (event.pid, event.tid):
                self._start.remove(one)
                yield from self._events(one, "baseline", event.mm, event, event.pid)

    def _put(self, one: Observation) -> Iterator[Event]:
        """The event of an observation, here; before the log's first event, it waits for its process."""
        if self._last is None:
            self._start.append(one)
            return
        pid = self._spaces.first if one.pid is None else one.pid
        mm = self._spaces.of.get(pid or 0)
        if mm is None:
            self._notes.append(f"{one.source}: the log shows no process that it could be of")
            return
        if one.pid is None and len(self._spaces.of) > 1:
            self._notes.append(f"{one.source}: taken for the log's first process, {pid} (PID=FILE names another)")
        kind = "check" if mm in self._based else "baseline"
        yield from self._events(one, kind, mm, self._last, pid or self._last.pid)

    def _events(self, one: Observation, kind: str, mm: int, at: Event, pid: int) -> Iterator[Event]:
        self._based.add(mm)
        time_ns = one.time_ns if one.time_ns is not None else at.ts_ns
        yield Event(
            0, mm, pid, pid, time_ns, "maps", (kind, len(one.lines), None, [list(v) for v in one.lines]), 0, 0
        )
        heap = [line for line in one.lines if line.name == "[heap]"]
        if kind == "baseline" and heap and mm not in self._brk:  # else the log shows the break
            value = {"start_brk": heap[0].start, "brk": heap[-1].end}
            yield Event(0, mm, pid, pid, time_ns, "note", ("brk", value), 0, 0)

    def _rest(self) -> Iterator[Event]:
        """Those whose place is the log's end or behind it."""
        for one in [*self._by_line, *self._by_time]:
            yield from self._put(one)
        for one in self._start:
            self._notes.append(f"{one.source}: the log shows no process {one.pid} that it could be of")
