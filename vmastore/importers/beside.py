"""What stands beside a log: events from elsewhere put into its stream, at the places where they belong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Protocol

from vmastore.events.brief import Given, whole
from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip, TraceReader

_PIECE = 1_000


class Stage(Protocol):
    """Passes a trace's events on, in their order, with some of its own between them.

    Sequence numbers are not its business. `note` says what it had to assume, when the events have ended.
    """

    def events(self, stream: Iterator[Event]) -> Iterator[Event]: ...

    @property
    def note(self) -> str | None: ...


class Besides:
    """A trace and what stands beside it, as one trace: numbered anew."""

    def __init__(self, reader: TraceReader, stages: Sequence[Stage]) -> None:
        self.reader = reader
        self._stages = stages

    @property
    def header(self) -> TraceHeader:
        """The trace's facts, with the notes of what was added."""
        header = self.reader.header
        notes = [header.note, *(stage.note for stage in self._stages)]
        return header._replace(note="; ".join(note for note in notes if note) or None)

    @property
    def files(self) -> list[FileInfo]:
        """The open file descriptions of the trace."""
        return self.reader.files

    def skips(self) -> list[Skip]:
        """What became no event."""
        return self.reader.skips()

    def events(self) -> Iterator[Event]:
        """All events, in order."""
        stream = self.reader.events()
        for stage in self._stages:
            stream = stage.events(stream)
        for seq, event in enumerate(stream, 1):
            yield event if event.seq == seq else event._replace(seq=seq)


class Started:
    """A trace whose first events have been read: what cannot be read at all has raised its InputError by now."""

    def __init__(self, reader: TraceReader) -> None:
        self._reader = reader
        self._batches = lists(reader)
        self._first: Sequence[Given] = next((batch for batch in self._batches if batch), [])

    @property
    def header(self) -> TraceHeader:
        """The trace's facts."""
        return self._reader.header

    @property
    def files(self) -> list[FileInfo]:
        """The open file descriptions of the trace."""
        return self._reader.files

    def skips(self) -> list[Skip]:
        """What became no event."""
        return self._reader.skips()

    def events(self) -> Iterator[Event]:
        """All events, in order. To be called once."""
        return chain.from_iterable(map(whole, self.batches()))

    def batches(self) -> Iterator[Sequence[Given]]:
        """The same in lists, as they are read. To be called instead, once."""
        return chain([self._first], self._batches)


def lists(reader: TraceReader) -> Iterator[Sequence[Given]]:
    """A reader's events in lists, as it gives them: for a store, which takes Briefs too."""
    batches: Callable[[], Iterator[Sequence[Given]]] | None = getattr(reader, "batches", None)
    return pieces(reader.events()) if batches is None else batches()


def pieces(events: Iterator[Event]) -> Iterator[list[Event]]:
    """The events in lists: the first alone, so that no more is read of a trace than that, then of many."""
    yield [*islice(events, 1)]
    while piece := list(islice(events, _PIECE)):
        yield piece


class Spaces:
    """Which address space each process runs in, as the events that pass say."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}  # pid → mm
        self.first: int | None = None  # the first process that has one

    def follow(self, event: Event) -> None:
        """Take an event in."""
        call, args = event.call, event.args
        if call in EXECS and not event.errno and isinstance(args[2], int):
            self._runs(event.pid, args[2])
        elif call in FORKS and isinstance(args[1], int) and event.result:
            self._runs(event.pid, event.mm)
            if args[1] != event.mm:
                self._runs(event.result, args[1])
        elif event.mm:
            self._runs(event.pid, event.mm)

    def _runs(self, pid: int, mm: int) -> None:
        if self.first is None:
            self.first = pid
        self.of[pid] = mm


EXECS = frozenset({"execve", "execveat"})
FORKS = frozenset({"fork", "vfork", "clone", "clone3"})
