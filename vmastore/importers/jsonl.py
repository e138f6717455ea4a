"""vmastore's own trace files: JSON lines, a header first (docs/trace-format.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vmastore.errors import InputError
from vmastore.events.jsoncodec import (
    FORMAT,
    event_from_json,
    file_from_json,
    header_from_json,
    upcast,
)
from vmastore.events.types import Event, FileInfo
from vmastore.importers.base import Skip
from vmastore.importers.jsonlines import JsonLines, Record
from vmastore.importers.sources import Source


class JsonlReader:
    """One trace file. Its header, files and events are those that were exported, its skips too.

    A name given here replaces the header's. `events()` may be called again: it reads the file anew.
    """

    def __init__(self, path: str | Path | Source, name: str | None = None) -> None:
        self._lines = JsonLines(path)
        head = self._lines.first()
        self._version = self._check_version(head)
        try:
            header = header_from_json(upcast(head, self._version))
        except (ValueError, TypeError, KeyError) as error:
            raise self._lines.fail(1, f"not a header: {error}") from None
        self.header = header._replace(name=name) if name else header
        self.files: list[FileInfo] = []
        self._begin()

    def _begin(self) -> None:
        self.files.clear()  # the same list: whoever holds it sees what comes
        self._places: dict[int, int] = {}  # file number → position in `files`
        self._skips: list[Skip] = []
        self._seq = 0
        self._complete = False

    def _check_version(self, head: dict[str, Any]) -> int:
        version = head.get("vmatrace")
        if type(version) is not int or version < 1:
            raise self._lines.fail(1, "not the header of a vmastore trace file")
        if version > FORMAT:
            name = self._lines.source.name
            raise InputError(
                f"{name}: is a trace file of version {version}, this vmastore reads up to {FORMAT}",
                hint="Upgrade vmastore.",
            )
        return version

    def events(self) -> Iterator[Event]:
        """All events, in order. Raises InputError naming the line."""
        self._begin()
        for record in self._lines.records():
            if record.line == 1:
                continue
            try:
                event = self._record(record)
            except (ValueError, TypeError, KeyError) as error:
                raise self._lines.fail(record.line, str(error)) from None
            if event is not None:
                yield event

    def skips(self) -> list[Skip]:
        """What the export knew to be left out; the rest of a file that was cut off."""
        return self._skips if self._complete else [*self._skips, Skip(None, None, "truncated", self._lines.cut, 1)]

    def _record(self, record: Record) -> Event | None:
        if self._complete:
            raise ValueError("a line after the end")
        data = upcast(record.data, self._version)
        if "seq" in data:
            return self._event(data)
        for key, handler in _LINES.items():
            if key in data:
                handler(self, data)
                return None
        raise ValueError("neither an event nor an open file, a skip or the end")

    def _event(self, data: dict[str, Any]) -> Event:
        event = event_from_json(data)
        self._seq += 1
        if event.seq != self._seq:
            raise ValueError(f"seq is {event.seq} where {self._seq} comes next")
        if event.file is not None and event.file not in self._places:
            raise ValueError(f"the event names file {event.file}, which no line before it describes")
        return event

    def _file(self, data: dict[str, Any]) -> None:
        """A description; a later line of the same number replaces it."""
        info = file_from_json(data)
        place = self._places.setdefault(info.file, len(self.files))
        self.files[place : place + 1] = [info]

    def _skip(self, data: dict[str, Any]) -> None:
        skip = data["skip"]
        if not isinstance(skip, dict):
            raise ValueError("skip is not an object")
        self._skips.append(Skip(**skip))

    def _end(self, data: dict[str, Any]) -> None:
        if data["end"] != self._seq:
            raise ValueError(f"the end counts {data['end']} events, {self._seq} were read")
        self._complete = True


_LINES: dict[str, Callable[[JsonlReader, dict[str, Any]], None]] = {
    "open_file": JsonlReader._file,
    "skip": JsonlReader._skip,
    "end": JsonlReader._end,
}
