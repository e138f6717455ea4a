"""The log, line by line, with what merging needs to know of each line before it is parsed."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vmastore.importers.sources import Source

_BORN = re.compile(
    rb"\d+ +\S+ (?:<\.\.\. )?(?:clone3?|v?fork)\b.* = (?P<child>\d+)(?:<[^>\n]*>)?"
    rb"(?: \((?:INJECTED|DELAYED)[^\n]*\))?(?: <[\d.]+>)?\Z"
)
_UNFINISHED = b" <unfinished ...>"
_END = b" +++ "
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


class Quiet(NamedTuple):
    """Where the log was complete up to a moment: all lines to come begin later, but one that has begun already.

    Only the log of a program that still runs has such places.
    """

    until_ns: int  # of the wall clock
    open_tid: int = 0  # the thread whose line has begun, 0: none
    open_ns: int = 0  # when it has begun


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
    """The log's lines, read forward with some lines ahead, from which single ones can be taken early."""

    def __init__(self, lines: Iterable[LogLine | Quiet]) -> None:
        self._lines: Iterator[LogLine | Quiet] = iter(lines)
        self._ahead: deque[LogLine | Quiet] = deque()

    def next(self) -> LogLine | Quiet | None:
        """The next line that was not taken, or quiet place; None at the end."""
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def next_ns(self, limit_ns: int) -> int:
        """When strace began to write the next line; `limit_ns` if that was not before it."""
        for found in self._items():
            if isinstance(found, LogLine):
                begin = found.time_ns if found.entry_ns is None else found.entry_ns
                return min(begin, limit_ns)
            if found.open_tid:
                return min(found.open_ns, limit_ns)
            if found.until_ns >= limit_ns:
                break
        return limit_ns

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

    def birth(self, child: int, makers: Collection[int]) -> LogLine | None:
        """Take the line at which the call returns that made a thread; None if there is none.

        makers: the threads whose call that makes threads is in flight.
        """
        waiting = set(makers)
        for line in self._look_ahead() if waiting else ():
            if line.tid not in waiting or line.begins:
                continue
            if born_of(line) == child:
                return self._take([line])[0]
            if line.name or _END in line.text:  # it has returned, or never will
                waiting.discard(line.tid)
                if not waiting:
                    break
        return None

    def _look_ahead(self) -> Iterator[LogLine]:
        return (found for found in self._items() if isinstance(found, LogLine))

    def _items(self) -> Iterator[LogLine | Quiet]:
        ahead = self._ahead
        yield from ahead
        while len(ahead) < _AHEAD:
            found = next(self._lines, None)
            if found is None:
                return
            ahead.append(found)
            yield found

    def _take(self, lines: list[LogLine]) -> list[LogLine]:
        for line in lines:
            self._ahead.remove(line)
        return lines


def born_of(line: LogLine) -> int:
    """The thread that the call made whose return a line tells; 0: none."""
    match = _BORN.match(line.text) if b"clone" in line.text or b"fork" in line.text else None
    return int(match["child"]) if match else 0


def file_lines(path: str | Path) -> Iterator[LogLine]:
    """The lines of a file, compressed or not. Raises InputError if it cannot be read or is no text."""
    number = offset = 0
    for batch in Source(path).batches():
        for text in batch:
            number += 1
            yield read_line(number, offset, text)
            offset += len(text) + 1
