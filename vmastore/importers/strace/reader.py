"""strace logs as a TraceReader: one file, several runs one after the other, or a family of -ff."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from vmastore.errors import InputError
from vmastore.events.brief import Given, whole
from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.sources import Member, Source, family, member_of
from vmastore.importers.strace.importer import StraceImporter
from vmastore.importers.strace.merge import merge
from vmastore.importers.strace.survey import Survey, survey


class StraceReader:
    """The events of strace logs, in the order of completion.

    paths: one log (``-``: standard input), the NAME or folder of `strace -ff -o NAME`, several of
    these files, or logs of several runs, one after the other. Line numbers and byte offsets are those
    of the file that holds the line. one_process: see StraceImporter. `header.note` and `skips()` are complete when
    `events()` has ended.

    Raises InputError for what is missing, unreadable, binary or not a log of strace.
    """

    def __init__(
        self, paths: Sequence[str | Path], *, name: str | None = None, one_process: int | None = None
    ) -> None:
        if not paths:
            raise InputError("no log given", hint="Name a file written by strace -o.")
        self._members, self._sources = _resolve(paths)
        first = _not_empty(self._members) if self._members else self._sources[0]
        self._survey: Survey = survey(first)
        self.importer = StraceImporter(
            name=name or Path(str(paths[0])).name,
            source=", ".join(str(path) for path in paths),
            stacks=self._survey.stacks,
            main_tid=self._survey.main_tid,
            one_process=one_process,
        )

    @property
    def header(self) -> TraceHeader:
        """The trace's facts."""
        return self.importer.header

    @property
    def files(self) -> list[FileInfo]:
        """The open file descriptions, by number - 1."""
        return self.importer.files

    def skips(self) -> list[Skip]:
        """What became no event."""
        return self.importer.skips()

    def events(self) -> Iterator[Event]:
        """All events, in order. To be called once."""
        return chain.from_iterable(map(whole, self.batches()))

    def batches(self) -> Iterator[Sequence[Given]]:
        """The same in lists, as they are read. To be called instead, once."""
        if self._members:
            yield from self._family()
        else:
            yield from self._log(self._survey)
            for source in self._sources[1:]:
                yield from self._log(survey(source))
        yield self.importer.finish()

    def _log(self, log: Survey) -> Iterator[Sequence[Given]]:
        importer = self.importer
        importer.number = importer.offset = 0
        for batch in log.batches:
            if log.source.cut and len(batch) == 1:
                yield importer.feed_cut(batch[0])
            else:
                yield importer.feed_briefs(batch)

    def _family(self) -> Iterator[list[Event]]:
        importer = self.importer
        for tid, line, number, offset, cut in merge(self._members):
            importer.joiner.tids.forced = tid
            importer.account.lines += 1
            importer.step(line, number, offset, cut=cut)
            yield importer.take()
        shape = importer.joiner.shape
        if shape is not None and shape.clock is None and len(self._members) > 1:
            importer.tracker.saw.add("order")


def _not_empty(members: list[Member]) -> Source:
    """A file of the family that has lines: a thread may be killed before its first."""
    return next((member.source for member in members if os.stat(member.source.path).st_size), members[0].source)


def _resolve(paths: Sequence[str | Path]) -> tuple[list[Member], list[Source]]:
    """The members of a family, or the logs."""
    if len(paths) == 1:
        members = family(paths[0])
        return members, [] if members else [Source(paths[0])]
    named = [member_of(path) for path in paths]
    members = [member for member in named if member is not None]
    if len(members) == len(paths) and len({member.tid for member in members}) == len(paths):
        return sorted(members), []
    return [], [Source(path) for path in paths]
