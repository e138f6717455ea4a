"""The finished log, line by line, with what merging needs to know of each line before it is parsed."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vmastore.importers.sources import Source

_BORN = re.compile(
    rb"(?m)^\d+ +\S+ (?:<\.\.\. )?(?:clone3?|v?fork)\b.* = (?P<child>\d+)(?:<[^>\n]*>)?"
    rb"(?: \((?:INJECTED|DELAYED)[^\n]*\))?(?: <[\d.]+>)?$"
)
_UNFINISHED = b" <unfinished ...>"
_AHEAD = 50_000  # lines kept in memory at most


class LogLine(NamedTuple):
    """One line. Times are ns of the wall clock; a line that is no call's has the same entry and time."""

    number: int  # from 1
    offset: int
    text: bytes  # without its newline
    tid: int
    name: str  # of the call, "" for other lines
    entry_ns: int | None  # when the call began; None: on another line (this one ends it)
    time_ns: int  # when what the line tells was complete
    begins: bool  # the call has not returned yet
    ends: bool  # the call had begun on another line

    @property
    def end(self) -> int:
        """The offset of the next line."""
        return self.offset + len(self.text) + 1


def read_line(number: int, offset: int, text: bytes) -> LogLine:
    """Understand the frame of one line; one that cannot be is given tid 0 and time 0."""
    who, _, rest = text.partition(b" ")
    stamp, _, body = rest.lstrip().partition(b" ")
    try:
        tid, entry = int(who), _nanoseconds(stamp)
    except ValueError:
        return LogLine(number, offset, text, 0, "", 0, 0, False, False)
    if body.startswith(b"<... "):
        name = _NAMES[body[5:].partition(b" ")[0]]
        return LogLine(number, offset, text, tid, name, None, entry, False, True)
    name = _NAMES[body.partition(b"(")[0]]
    if body.endswith(_UNFINISHED):
        return LogLine(number, offset, text, tid, name, entry, entry, True, False)
    if not name or not body.endswith(b">"):
        return LogLine(number, offset, text, tid, name, entry, entry, False, False)
    try:
        duration = _nanoseconds(body[body.rindex(b"<") + 1 : -1])
    except ValueError:
        duration = 0
    return LogLine(number, offset, text, tid, name, entry, entry + duration, False, False)


def _nanoseconds(stamp: bytes) -> int:
    """Of seconds with a fraction; raises ValueError."""
    seconds, _, fraction = stamp.partition(b".")
    return int(seconds + fraction) if len(fraction) == 9 else int(seconds + fraction.ljust(9, b"0"))


class _CallNames(dict[bytes, str]):
    """What stands before the parenthesis: the name of a call, or not."""

    def __missing__(self, text: bytes) -> str:
        name = text.decode("ascii", "replace")
        if not name.isidentifier() or not name.isascii():
            return ""
        self[text] = name
        return name


_NAMES = _CallNames()


class Log:
    """The log file, read forward with some lines ahead, from which single ones can be taken early."""

    def __init__(self, path: str | Path) -> None:
        """path: a file, compressed or not. Raises InputError if it cannot be read or is no text."""
        source = Source(path)
        self._lines = _read(source)
        self._ahead: deque[LogLine] = deque()
        self._births = _births(source)

    def next(self) -> LogLine | None:
        """The next line that was not taken; None at the end."""
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def next_ns(self) -> int | None:
        """When strace began to write the next line; None at the end."""
        line = next(self._look_ahead(), None)
        if line is None:
            return None
        return line.time_ns if line.entry_ns is None else line.entry_ns

    def completion(self, tid: int) -> list[LogLine]:
        """Take the lines of `tid` up to the one at which its call in flight returns.

        None is taken if that one is not near, or not there.
        """
        found: list[LogLine] = []
        for line in self._look_ahead():
            if line.tid == tid:
                found.append(line)
                if not line.begins:
                    break
        if not found or found[-1].begins or not found[-1].name:
            return []
        return self._take(found)

    def birth(self, child: int, at: LogLine) -> LogLine | None:
        """Take the line, behind `at`, at which the call returns that made a thread; None if there is none."""
        births = self._births.get(child)
        while births and births[0] <= at.offset:
            births.popleft()
        if not births:
            return None
        offset = births[0]
        for line in self._look_ahead():
            if line.offset == offset:
                return self._take([line])[0]
            if line.offset > offset:
                break
        return None

    def _look_ahead(self) -> Iterator[LogLine]:
        ahead = self._ahead
        yield from ahead
        while len(ahead) < _AHEAD:
            line = next(self._lines, None)
            if line is None:
                return
            ahead.append(line)
            yield line

    def _take(self, lines: list[LogLine]) -> list[LogLine]:
        for line in lines:
            self._ahead.remove(line)
        return lines


def _read(source: Source) -> Iterator[LogLine]:
    number = offset = 0
    for batch in source.batches():
        for text in batch:
            number += 1
            yield read_line(number, offset, text)
            offset += len(text) + 1


def _births(source: Source) -> dict[int, deque[int]]:
    """The offsets of the lines at which calls return that made a thread, by the thread: one pass over the file."""
    births: dict[int, deque[int]] = {}
    base = 0
    for batch in source.batches():
        text = b"\n".join(batch) + b"\n"
        if b"clone" in text or b"fork" in text:
            for match in _BORN.finditer(text):
                births.setdefault(int(match["child"]), deque()).append(base + match.start())
        base += len(text)
    return births
