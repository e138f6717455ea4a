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
from vmastore.importers.fault_offset import fit
from vmastore.importers.faults import ClockMap, Fault, FaultReader, is_fault_without_address, parse_line
from vmastore.importers.sources import Source
from vmastore.importers.strace import StraceImporter, StraceReader
from vmastore.recorder.loglines import Log, LogLine, file_lines, read_line
from vmastore.recorder.merge import Merger
from vmastore.recorder.shots import Shots
from vmastore.recorder.spool import clock_pair

_HEAD = 200  # lines of the log that are looked at
_SLACK_NS = 60 * 1_000_000_000  # how far apart the two may begin
_FEWEST = 2  # mappings that must agree on how the clocks differ
_PERF = b"PERFILE2"


class FaultedLog:
    """A log and its faults. `events()` is to be called once.

    offset_ns: to be added to the faults' times to make them those of the log; None: 0 or the difference
    between this machine's clocks, if mappings and faults agree with it, else what they agree with most.
    one_process: see StraceImporter. Raises InputError.
    """

    def __init__(
        self,
        log: str | Path,
        faults: str | Path,
        *,
        name: str | None = None,
        offset_ns: int | None = None,
        one_process: int | None = None,
    ) -> None:
        _first_time(log)
        first = _first_fault(faults)
        self._offset_note: str | None = None
        if offset_ns is None:
            offset_ns, self._offset_note = _offset(log, faults, first)
        self._log = log
        self._reader = FaultReader(_lines(faults), ClockMap([(0, offset_ns)]))
        self.importer = StraceImporter(
            name=name or Path(str(log)).name, source=f"{log}, {faults}", live=True, one_process=one_process
        )
        self._merger: Merger | None = None

    @property
    def header(self) -> TraceHeader:
        """The trace's facts; complete when `events()` has ended."""
        header = self.importer.header
        lost, blind = self._reader.lost, self._reader.blind
        notes = [note for note in (header.note, self._offset_note) if note]
        if self._merger is not None and self._merger.faults_nobody:
            notes.append(f"{self._merger.faults_nobody} page faults of threads that the log does not know")
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
        self._merger = Merger(self.importer, Log(file_lines(self._log)), Shots(), self._reader)
        yield from self._merger.events()


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
    blind = 0
    for line in _lines(path):
        found = parse_line(line)
        if isinstance(found, Fault):
            return found.time_ns
        blind += found is None and is_fault_without_address(line)
    if blind:
        raise InputError(
            f"{path}: its {blind} page-faults do not show which address was touched",
            hint="Record with perf record -d, and print with: perf script -F comm,pid,tid,time,event,addr",
        )
    raise InputError(
        f"{path}: holds no page faults",
        hint="Record: perf record -k mono -e exceptions:page_fault_user,exceptions:page_fault_kernel -c 1 …",
    )


def _offset(log: str | Path, faults: str | Path, first: int) -> tuple[int, str | None]:
    """The faults' offset, and how it was found if it is not the clocks' own."""
    begin = _first_time(log)
    found = fit(StraceReader([log]).events(), FaultReader(_lines(faults)))
    monotonic, wall = clock_pair()
    for offset in (0, wall - monotonic):
        if abs(first + offset - begin) < _SLACK_NS and (found is None or found.allows(offset)):
            return offset, None
    if found is None or found.agreeing < _FEWEST:
        raise InputError(
            f"{faults}: its times and the log's are {abs(first - begin) / 1e9:.0f} s apart, and too few faults"
            " are on mappings of the log to find out how its clock differs",
            hint="Give the log's clock minus the faults' clock, in seconds: --faults-from FILE@1795508705.25",
        )
    width = "any more" if found.high_ns is None else f"up to {(found.high_ns - found.low_ns) / 1e3:.0f} µs more"
    shown = f"{found.offset_ns // 10**9}.{found.offset_ns % 10**9:09d}"
    return found.offset_ns, (
        f"the faults' clock was set by {shown} s (or {width}), by {found.agreeing} of {found.mappings} mappings"
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
