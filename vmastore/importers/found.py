"""A strace log with what exec mapped of the programs that are at their paths here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Protocol

from vmastore.events.brief import Given, whole
from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip, TraceReader
from vmastore.importers.beside import EXECS
from vmastore.importers.follow import Followed
from vmastore.importers.images import FOUND, Images
from vmastore.importers.strace import StraceImporter, StraceReader
from vmastore.importers.strace.folders import Folders

_call = itemgetter(5)  # of an Event and of a Brief


class _Importing(Protocol):
    """What has the importer of a log; None before its first line."""

    @property
    def importer(self) -> StraceImporter | None: ...


class LogReader(TraceReader, _Importing, Protocol):
    """A log of strace, read or followed."""

    def batches(self) -> Iterator[Sequence[Given]]: ...


def images_of(reader: _Importing, programs: Sequence[str], logs: Sequence[str]) -> Images:
    """The stage for a log: programs as for `Images`, none: what is found."""

    def folders() -> Folders:
        assert reader.importer is not None  # it has given an event
        return reader.importer.tracker.folders

    return Images(programs or (FOUND,), quiet=not programs, folders=folders, logs=logs)


def with_images(reader: TraceReader, programs: Sequence[str] = (), logs: Sequence[str] = ()) -> TraceReader:
    """The reader, images added if it reads a log of strace. programs: as for `FoundReader`."""
    return FoundReader(reader, programs, logs) if isinstance(reader, StraceReader | Followed) else reader


class FoundReader:
    """The events of a log, an "image" event behind each exec of a program that lies here and that ran, by the log.

    programs: executables instead of those that are found; logs: the log's files. Raises InputError for one of
    programs that is no executable. Events pass by the list where none is held back: that is nearly all of a log.
    """

    def __init__(self, reader: LogReader, programs: Sequence[str] = (), logs: Sequence[str] = ()) -> None:
        self.reader = reader
        self._images = images_of(reader, programs, logs)

    @property
    def importer(self) -> StraceImporter | None:
        """That of the log."""
        return self.reader.importer

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
        return chain.from_iterable(map(whole, self.batches()))

    def batches(self) -> Iterator[Sequence[Given]]:
        """The same in lists, as they are read. To be called instead, once."""
        images, seq, shifted = self._images, 0, 0
        given = 0  # by the log
        for events in self.reader.batches():
            given += len(events)
            if not images.holding and EXECS.isdisjoint(map(_call, events)):
                seq += len(events)
                yield events
                continue
            passed = [*chain.from_iterable(map(images.step, whole(events)))]
            yield [event._replace(seq=number) for number, event in enumerate(passed, seq + 1)]
            seq += len(passed)
            if not images.holding:
                if self.importer is not None:
                    self.importer.shift(seq - given - shifted)
                shifted = seq - given
        passed = [*images.rest()]
        yield [event._replace(seq=number) for number, event in enumerate(passed, seq + 1)]
