"""An strace log and page faults recorded beside it, as one trace.

The log must show pids and times of day (`strace -f -ttt -o LOG …`); the faults come from `perf script`, a
perf.data file or ftrace. How their clocks differ is given, or found out.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vmastore.errors import InputError
from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.faults import ClockMap, FaultReader
from vmastore.importers.sources import Source
from vmastore.importers.strace import StraceImporter
from vmastore.recorder.loglines import Log, LogLine, read_line
from vmastore.recorder.merge import Merger
from vmastore.recorder.spool import clock_pair

_HEAD = 200  # lines of the log that are looked at
_SLACK_NS = 60 * 1_000_000_000  # how far apart the two may begin
_PERF = b"PERFILE2"


class FaultedLog:
    """A log and its faults. `events()` is to be called once.

    offset_ns: to be added to the faults' times to make them those of the log; None: 0 if they are of the
    same time, else the difference between this machine's clocks, if that makes them so. Raises InputError.
    """

    def __init__(
        self, log: str | Path, faults: str | Path, *, name: str | None = None, offset_ns: int | None = None
    ) -> None:
        begin = _first_time(log)
        offset = _offset(begin, _first_fault(faults), str(faults)) if offset_ns is None else offset_ns
        self._log = log
        self._reader = FaultReader(_lines(faults), ClockMap([(0, offset)]))
        self.importer = StraceImporter(name=name or Path(str(log)).name, source=f"{log}, {faults}", live=True)
        self._merger: Merger | None = None

    @property
    def header(self) -> TraceHeader:
        """The trace's facts; complete when `events()` has ended."""
        header = self.importer.header
        lost, blind = self._reader.lost, self._reader.blind
        notes = [header.note] if header.note else []
        if lost:
            notes.append(f"{lost} page fault records were lost")
        if blind:
            notes.append("the page faults do not tell writes from reads")
        faults = "partial" if lost or blind else "recorded"
        return header._replace(faults=faults, note="; ".join(notes) or None)

    @property
    def files(self) -> list[FileInfo]:
        """The open file descriptions, by number - 1."""
        return self.importer.files

    def skips(self) -> list[Skip]:
        """What became no event."""
        return self.importer.skips()

    def events(self) -> Iterator[Event]:
        """All events, in order."""
        yield from Merger(self.importer, Log(self._log), (), self._reader).events()


def _first_time(path: str | Path) -> int:
    """The time of the first line that has one, ns."""
    for line in _head(path):
        if line.tid and line.time_ns > _SLACK_NS:
            return line.time_ns
    raise InputError(
        f"{path}: its lines have no pid and time of day, by which faults could be put between them",
        hint="Record the log with: strace -f -ttt -o LOG …",
    )


def _head(path: str | Path) -> Iterator[LogLine]:
    number = 0
    for batch in Source(path).batches():
        for text in batch:
            number += 1
            if number > _HEAD:
                return
            yield read_line(number, 0, text)


def _first_fault(path: str | Path) -> int:
    for mark in FaultReader(_lines(path)):
        return mark.time_ns
    raise InputError(
        f"{path}: holds no page faults",
        hint="Record: perf record -k mono -e exceptions:page_fault_user,exceptions:page_fault_kernel -c 1 …",
    )


def _offset(log_ns: int, fault_ns: int, name: str) -> int:
    monotonic, wall = clock_pair()
    for offset in (0, wall - monotonic):
        if abs(fault_ns + offset - log_ns) < _SLACK_NS:
            return offset
    raise InputError(
        f"{name}: its times and the log's are {abs(fault_ns - log_ns) / 1e9:.0f} s apart",
        hint="Give the difference of the clocks, wall clock minus the faults' clock, in nanoseconds.",
    )


def _lines(path: str | Path) -> Iterator[bytes]:
    """The lines of a text, or of what perf makes of its own file."""
    if _is_perf_data(path):
        yield from _perf_script(str(path))
        return
    for batch in Source(path).batches():
        yield from batch


def _is_perf_data(path: str | Path) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_PERF)) == _PERF
    except OSError:
        return False  # Source says what is wrong with it


def _perf_script(path: str) -> Iterator[bytes]:
    perf = shutil.which("perf")
    if perf is None:
        raise InputError(f"{path}: only perf can read it", hint="Install perf, or give the output of perf script.")
    events = subprocess.run([perf, "evlist", "-i", path], capture_output=True, text=True, check=False).stdout
    fields = "pid,tid,time,event," + ("trace" if "exceptions:" in events else "addr")
    line = [perf, "script", "-i", path, "--ns", "-F", fields, "--show-lost-events"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        yield from process.stdout
    finally:
        process.stdout.close()
        process.kill()
        process.wait()
