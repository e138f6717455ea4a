"""A finished recording as a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.faults import ClockMap, FaultReader
from vmastore.importers.strace import StraceImporter
from vmastore.recorder.loglines import Log
from vmastore.recorder.merge import Merger
from vmastore.recorder.paths import Paths
from vmastore.recorder.perf import Perf
from vmastore.recorder.spool import Spool

_NAMES_FILE = frozenset({"mmap", "open", "openat", "openat2"})


class RecordedTrace:
    """The trace of one recording. `events()` is to be called once; it deletes what was spooled.

    header.faults and header.note are known when the recording has ended, except for what merging finds
    out: read `header` again when `events()` has ended.
    """

    def __init__(
        self,
        spool: Spool,
        perf: Perf | None,
        header: TraceHeader,
        *,
        attached: Mapping[int, list[int]] | None = None,
        ignore: tuple[int, ...] = (),
    ) -> None:
        """attached: the processes there were before the recording, with their threads."""
        self._spool = spool
        self._perf = perf
        self._header = header
        self._ignore = ignore
        self._reader = FaultReader(perf.lines() if perf is not None else (), _clock(spool, perf))
        self._paths = Paths(spool.clock[0][1] if spool.clock else 0)
        self.importer = StraceImporter(name=header.name, source=header.source, live=True)
        for pid, tids in (attached or {}).items():
            self.importer.attach(pid, tids)
        self.merger: Merger | None = None

    @property
    def header(self) -> TraceHeader:
        """The trace's facts."""
        header, lost = self._header, self._reader.lost
        notes = [header.note] if header.note else []
        if lost:
            header = header._replace(faults="partial")
            notes.append(f"{lost} page fault records were lost")
        if self.merger is not None and self.merger.unobserved:
            notes.append(
                f"{self.merger.unobserved} address spaces ended without being observed (see the note events)"
            )
        return header._replace(note="; ".join(notes) or None)

    @property
    def faults(self) -> tuple[int, int, int]:
        """(page faults seen, those of them that became events, records lost); complete when `events()` has ended."""
        merger = self.merger
        return (merger.faults_seen, merger.faults_kept, self._reader.lost) if merger else (0, 0, 0)

    @property
    def ordered(self) -> bool:
        """Whether it is known in which order threads changed an address space at the same time."""
        return self._perf is not None and self._perf.mode is not None and self._perf.mode.locks

    @property
    def files(self) -> list[FileInfo]:
        """The open file descriptions, by number - 1."""
        return self.importer.files

    def skips(self) -> list[Skip]:
        """What became no event."""
        return self.importer.skips()

    def events(self) -> Iterator[Event]:
        """All events, in order."""
        try:
            thp = str(self._header.config.get("thp", "madvise"))
            log = Log(self._spool.log_path)
            self.merger = Merger(
                self.importer, log, self._spool.read_shots(), self._reader, thp=thp, ignore=self._ignore
            )
            for event in self.merger.events():
                self._describe(event)
                yield event
        finally:
            self.close()

    def _describe(self, event: Event) -> None:
        """Complete what is known of the file that an event names."""
        if event.call == "maps":
            self._paths.learn(event.args[3])
        elif event.file is not None and event.call in _NAMES_FILE and event.file <= len(self.importer.files):
            at = event.file - 1
            self.importer.files[at] = self._paths.describe(self.importer.files[at])

    def close(self) -> None:
        """Delete what was spooled; without `events()` having ended, the recording is lost."""
        self._spool.close()


def _clock(spool: Spool, perf: Perf | None) -> ClockMap | None:
    """From perf's clock to the wall clock; None where they are the same."""
    monotonic = perf is not None and perf.mode is not None and perf.mode.monotonic
    return ClockMap(spool.clock) if monotonic and spool.clock else None
