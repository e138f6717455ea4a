"""A strace log with what exec mapped of the programs that are at their paths here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from operator import attrgetter

from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.beside import EXECS
from vmastore.importers.images import FOUND, Images
from vmastore.importers.strace import StraceReader

_call = attrgetter("call")


class FoundReader:
    """The events of a log, an "image" event behind each exec of a program that lies here and that ran, by the log.

    Events pass by the list where none is held back: that is nearly all of a log.
    """

    def __init__(self, reader: StraceReader) -> None:
        self.reader = reader
        self.importer = reader.importer
        self._images = Images((FOUND,), quiet=True)

    @property
    def header(self) -> TraceHeader:
        """The trace's facts, with the note of what was added."""
        header = self.reader.header
        return header._replace(note="; ".join(filter(None, (header.note, self._images.note))) or None)

    @property
    def files(self) -> list[FileInfo]:
        """The open file descriptions of the trace."""
        return self.reader.files

    def skips(self) -> list[Skip]:
        """What became no event."""
        return self.reader.skips()

    def events(self) -> Iterator[Event]:
        """All events, in order. To be called once."""
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[list[Event]]:
        """The same in lists. To be called instead, once."""
        images, seq, shifted = self._images, 0, 0
        given = 0  # by the log
        for events in self.reader.batches():
            given += len(events)
            if not images.holding and EXECS.isdisjoint(map(_call, events)):
                seq += len(events)
                yield events
                continue
            passed = [*chain.from_iterable(map(images.step, events))]
            yield [event._replace(seq=number) for number, event in enumerate(passed, seq + 1)]
            seq += len(passed)
            if not images.holding:
                self.reader.shift(seq - given - shifted)
                shifted = seq - given
        passed = [*images.rest()]
        yield [event._replace(seq=number) for number, event in enumerate(passed, seq + 1)]
