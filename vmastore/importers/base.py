"""What every importer is: a header, a stream of events, and the account of what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from vmastore.events import Event, FileInfo, TraceHeader


class Skip(NamedTuple):
    """Input lines of one kind that became no event.

    reason: no-result (``= ?``), never-resumed, unparsed, truncated, summary, text, note, empty …
    """

    tid: int | None
    call: str | None
    reason: str
    source_line: int | None  # the first such line, from 1
    count: int  # type: ignore[assignment]


class TraceReader(Protocol):
    """One trace being read. `events()` streams: memory does not grow with the input's length.

    Event sequence numbers are gap-free from 1. Every file number that an event names is in
    `files` by the time the event is yielded. `skips()` is complete when `events()` has ended.
    Any bad input raises InputError (naming file and line or byte) or is a counted skip.
    """

    @property
    def header(self) -> TraceHeader: ...

    @property
    def files(self) -> list[FileInfo]: ...

    def events(self) -> Iterator[Event]: ...

    def skips(self) -> list[Skip]: ...
