"""The files of `strace -ff`, one a thread, in one order.

By time where the lines have an absolute one. What caused what is kept in any case: a thread's lines
come after the call that made it, a parent's wait4 after the end of the child it reaped, the new
program of a threaded execve after the last line of the thread that ran it. Lines that neither decides
are taken from the files in turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vmastore.importers.sources import Member
from vmastore.importers.strace.clock import TimeKeeper
from vmastore.importers.strace.lexer import Clock, day_ns, seconds_ns

_TIME = re.compile(rb"(?:([0-8]\d{7,9}\.\d{1,9})|(\d\d:\d\d:\d\d(?:\.\d{1,9})?)) ")
_DURATION = re.compile(rb"<(\d{1,8}(?:\.\d{1,9})?)>\Z")
_MAKES = re.compile(rb"(?:clone3?|v?fork|syscall_(?:0x1b3|435))\(.*= (?:(\d{1,7})|(0x[0-9a-f]{1,6}))(?:<|\Z| )")
_REAPS = re.compile(rb"wait(?:4|pid)\(.*= (\d{1,7})(?:<|\Z| )")
_SUPERSEDED = re.compile(rb"\+\+\+ superseded by execve in pid (\d{1,7}) \+\+\+")


class _File:
    """One thread's log: its next line, and what that line waits for."""

    def __init__(self, member: Member) -> None:
        self.tid = member.tid
        self.line: bytes | None = None
        self.number = 0
        self.offset = 0
        self._next_offset = 0
        self.time = 0
        self._times = TimeKeeper()
        self._lines = (line for batch in member.source.batches() for line in batch)
        self.makes: int | None = None  # the thread that this line's call makes
        self.after: int | None = None  # the thread that must have ended before
        self.timed = True
        self.advance()

    def advance(self) -> None:
        """Go to the next line; `line` is None at the end."""
        self.line = next(self._lines, None)
        if self.line is None:
            return
        self.number += 1
        self.offset, self._next_offset = self._next_offset, self._next_offset + len(self.line) + 1
        made = _MAKES.search(self.line) if b"= " in self.line else None
        self.makes = (int(made[1]) if made[1] else int(made[2], 16)) if made else None
        reaped = _REAPS.search(self.line) if b"wait" in self.line else None
        superseded = _SUPERSEDED.search(self.line)
        self.after = int((superseded or reaped)[1]) if superseded or reaped else None  # type: ignore[index]
        self._set_time(self.line)

    def _set_time(self, line: bytes) -> None:
        """When the call was over; a call that makes a thread counts from its beginning."""
        match = _TIME.match(line)
        self.timed = match is not None
        if not match:
            return
        clock, time_ns = (Clock.EPOCH, seconds_ns(match[1])) if match[1] else (Clock.DAY, day_ns(match[2]))
        self.time = self._times.ns(clock, time_ns) or 0
        duration = _DURATION.search(line)
        if duration and self.makes is None:
            self.time += seconds_ns(duration[1])


def merge(members: Sequence[Member]) -> Iterator[tuple[int, bytes, int, int]]:
    """(tid, line, its number in its file, its offset there) of all files, in one order."""
    files = [file for file in map(_File, members) if file.line is not None]
    made_later = _made_by_members(members)
    alive = {file.tid for file in files}
    turn = 0
    while files:
        ready = [file for file in files if file.tid not in made_later and not _waits(file, alive)]
        chosen = _choose(ready or files, turn)
        turn += 1
        line = chosen.line
        assert line is not None
        if chosen.makes is not None:
            made_later.discard(chosen.makes)
        made_later.discard(chosen.tid)
        yield chosen.tid, line, chosen.number, chosen.offset
        files.remove(chosen)
        chosen.advance()
        if chosen.line is None:
            alive.discard(chosen.tid)
        else:
            files.append(chosen)


def _waits(file: _File, alive: set[int]) -> bool:
    return file.after is not None and file.after in alive and file.after != file.tid


def _choose(files: list[_File], turn: int) -> _File:
    """The earliest; without times, the one whose turn it is: they are kept in the order of last use."""
    if all(file.timed for file in files):
        return min(files, key=lambda file: file.time)
    return files[0]


def _made_by_members(members: Sequence[Member]) -> set[int]:
    """The threads whose making some file shows."""
    tids = {member.tid for member in members}
    made = set()
    for member in members:
        for batch in member.source.batches():
            for line in batch:
                if b"clone" in line or b"fork" in line or b"syscall_" in line:
                    found = _MAKES.search(line)
                    if found:
                        made.add(int(found[1]) if found[1] else int(found[2], 16))
    return made & tids
