"""A recording as a trace, while it runs or when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.strace import StraceImporter
from vmastore.recorder import tape
from vmastore.recorder.feed import Feed
from vmastore.recorder.files import LiveFiles
from vmastore.recorder.loglines import Log
from vmastore.recorder.merge import Merger
from vmastore.recorder.paths import Paths
from vmastore.recorder.result import Result

_NAMES_FILE = frozenset({"mmap", "open", "openat", "openat2"})
_BATCH = 5_000  # events
_PATIENCE_S = 1.0  # how long events wait for a batch to fill
UNFINISHED = "the recording did not end: it holds what had been stored when it was interrupted"


class RecordedTrace:
    """The trace of one recording. `events()` or `batches()` is to be called once.

    header.faults and header.note are known when all events have been given: until then the note says that the
    recording has not ended.
    """

    def __init__(
        self,
        messages: Iterator[tape.Message],
        header: TraceHeader,
        *,
        attached: Mapping[int, list[int]] | None = None,
        close: Callable[[], None] = lambda: None,
        result: Result | None = None,
        forget: bool = False,
    ) -> None:
        """attached: the processes there were before the recording, with their threads. close: called at the end.

        result: how the recording ended; None: its messages will tell. forget: keep no files that are closed and
        of which the batch has been taken that is the last to name them.
        """
        self._feed = Feed(messages)
        self._header = header
        self._close = close
        self._result = result
        self.importer = StraceImporter(name=header.name, source=header.source, live=True)
        for pid, tids in (attached or {}).items():
            self.importer.attach(pid, tids)
        self.merger: Merger | None = None
        self._files = LiveFiles(self.importer) if forget else None

    @property
    def header(self) -> TraceHeader:
        """The trace's facts."""
        header, feed = self._header, self._feed
        notes = [header.note] if header.note else []
        result = self.result
        if result is None:
            return header._replace(note="; ".join([*notes, UNFINISHED]))
        notes += result.notes
        header = header._replace(faults=result.faults)
        if feed.lost:
            header = header._replace(faults="partial")
            notes.append(f"{feed.lost} page fault records were lost")
        if feed.late:
            notes.append(f"{feed.late} page fault records came late")
        if self.merger is not None and self.merger.unobserved:
            notes.append(
                f"{self.merger.unobserved} address spaces ended without being observed (see the note events)"
            )
        return header._replace(note="; ".join(notes) or None)

    @property
    def result(self) -> Result | None:
        """How the recording ended; None: it has not, or not as it should."""
        if self._result is None and self._feed.end is not None:
            self._result = Result.from_json(self._feed.end)
        return self._result

    @property
    def log_lines(self) -> int:
        """How many lines of strace have been read."""
        return self._feed.line_count

    @property
    def faults(self) -> tuple[int, int, int]:
        """(page faults seen, those of them that became events, records lost); complete when all events were given."""
        merger = self.merger
        return (merger.faults_seen, merger.faults_kept, self._feed.lost) if merger else (0, 0, 0)

    @property
    def ordered(self) -> bool:
        """Whether it is known in which order threads changed an address space at the same time."""
        self._feed.until_layout()
        return self._feed.layout is not None and self._feed.layout.mode.locks

    @property
    def files(self) -> Sequence[FileInfo]:
        """The open file descriptions, by number - 1."""
        return self.importer.files if self._files is None else self._files

    def skips(self) -> list[Skip]:
        """What became no event."""
        return self.importer.skips()

    def events(self) -> Iterator[Event]:
        """All events, in order."""
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[Event]]:
        """The same as they come: a list when many have come together, or have waited for a while."""
        waiting: list[Event] = []
        since = time.monotonic()
        try:
            for events in self._merged():
                waiting += events
                if len(waiting) >= _BATCH or (waiting and time.monotonic() > since + _PATIENCE_S):
                    yield from self._taken(waiting)
                    waiting, since = [], time.monotonic()
            if waiting:
                yield from self._taken(waiting)
            self._feed.drain()
        finally:
            self.close()

    def _taken(self, events: list[Event]) -> Iterator[list[Event]]:
        files = self._files
        if files is not None:
            files.settle()
        yield events
        if files is not None:
            files.forget()

    def _merged(self) -> Iterator[list[Event]]:
        feed = self._feed
        feed.until_layout()
        thp = str(self._header.config.get("thp", "madvise"))
        marks = feed.marks() if feed.layout is not None else None
        ignore = (feed.strace_pid,) if feed.strace_pid else ()
        log = Log(feed.lines())
        self.merger = Merger(self.importer, log, feed.shots, marks, thp=thp, ignore=ignore, copies=feed.copies)
        paths = Paths(feed.begin_ns)
        for events in self.merger.batches():
            for event in events:
                self._describe(event, paths)
            yield events

    def _describe(self, event: Event, paths: Paths) -> None:
        """Complete what is known of the file that an event names."""
        if event.call == "maps":
            paths.learn(event.args[3])
        elif event.file is not None and event.call in _NAMES_FILE and event.file <= len(self.importer.files):
            at = event.file - 1
            self.importer.files[at] = paths.describe(self.importer.files[at])

    def close(self) -> None:
        """Let go of what the recording left; without all events having been taken, the rest is lost."""
        self._close()
