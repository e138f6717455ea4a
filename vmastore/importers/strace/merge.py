"""The files of `strace -ff`, one a thread, in one order.

By time where the lines have an absolute one. What caused what is kept in any case: a thread's lines
come after the call that made it, a parent's wait4 after the end of the child it reaped, the new
program of a threaded execve after the last line of the thread that ran it. Lines that neither decides
are taken from the files in turn.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vmastore.importers.sources import Member
from vmastore.importers.strace.clock import TimeKeeper
from vmastore.importers.strace.lexer import Clock, day_ns, seconds_ns

CHUNK = 1 << 14  # bytes of a file read at a time: there may be hundreds open

_TIME = re.compile(rb"(?:([0-8]\d{7,9}\.\d{1,9})|(\d\d:\d\d:\d\d(?:\.\d{1,9})?)) ")
_DURATION = re.compile(rb"<(\d{1,8}(?:\.\d{1,9})?)>\Z")
_MAKES = re.compile(rb"(?:clone3?|v?fork|syscall_(?:0x1b3|435))\(.*= (?:(\d{1,7})|(0x[0-9a-f]{1,6}))(?:<|\Z| )")
_REAPS = re.compile(rb"wait(?:4|pid)\(.*= (\d{1,7})(?:<|\Z| )")
_SUPERSEDED = re.compile(rb"\+\+\+ superseded by execve in pid (\d{1,7}) \+\+\+")


class Merged(NamedTuple):
    """One line of a family."""

    tid: int
    line: bytes
    number: int  # in its file
    offset: int  # in its file
    cut: bool  # its file ends with it, without a newline


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
        self.cut = False  # the line has no newline
        self._source = member.source
        self._lines = (line for batch in member.source.batches(CHUNK) for line in batch)
        self.makes: int | None = None  # the thread that this line's call makes
        self.after: int | None = None  # the thread that must have ended before
        self.timed = False
        self.advance()

    def advance(self) -> None:
        """Go to the next line; `line` is None at the end."""
        self.line = next(self._lines, None)
        if self.line is None:
            return
        self.number += 1
        self.cut = self._source.cut
        self.offset, self._next_offset = self._next_offset, self._next_offset + len(self.line) + 1
        made = _MAKES.search(self.line) if b"= " in self.line else None
        self.makes = (int(made[1]) if made[1] else int(made[2], 16)) if made else None
        reaped = _REAPS.search(self.line) if b"wait" in self.line else None
        superseded = _SUPERSEDED.search(self.line)
        self.after = int((superseded or reaped)[1]) if superseded or reaped else None  # type: ignore[index]
        self._set_time(self.line)

    def merged(self) -> Merged:
        """The next line."""
        assert self.line is not None
        return Merged(self.tid, self.line, self.number, self.offset, self.cut)

    def _set_time(self, line: bytes) -> None:
        """When the call was over; a call that makes a thread counts from its beginning."""
        match = _TIME.match(line)
        if not match:  # the rest of the line before
            return
        self.timed = True
        clock, time_ns = (Clock.EPOCH, seconds_ns(match[1])) if match[1] else (Clock.DAY, day_ns(match[2]))
        self.time = self._times.ns(clock, time_ns) or 0
        duration = _DURATION.search(line)
        if duration and self.makes is None:
            self.time += seconds_ns(duration[1])


def merge(members: Sequence[Member]) -> Iterator[Merged]:
    """The lines of all files, in one order."""
    queue = _Queue(members, _made_by_members(members))
    while (file := queue.take()) is not None:
        makes = file.makes
        yield file.merged()
        file.advance()
        while file.line is not None and file.line.startswith(b" > "):  # the stack of that call
            yield file.merged()
            file.advance()
        queue.put_back(file, makes)


class _Queue:
    """The files, by the order of their next lines.

    A thread's file is opened when the call that makes the thread has been read, so that no more are
    open at a time than threads were alive.
    """

    def __init__(self, members: Sequence[Member], unmade: set[int]) -> None:
        self._unmade = {member.tid: member for member in members if member.tid in unmade}
        self._alive = {member.tid for member in members}
        self._turn = 0
        self._heap: list[tuple[int, int, _File]] = []
        self._waiting: list[_File] = []
        first = [_File(member) for member in members if member.tid not in unmade]
        self._timed = all(file.timed for file in first if file.line is not None)
        for file in first:
            self._add(file)

    def take(self) -> _File | None:
        """The file whose line comes next; None when all are read."""
        while True:
            while self._heap:
                file = heapq.heappop(self._heap)[2]
                if not self._blocked(file):
                    return file
                self._waiting.append(file)
            # what is waited for cannot come any more: the log lacks it
            if self._waiting:
                return self._waiting.pop(0)
            if not self._unmade:
                return None
            self._make(min(self._unmade))

    def put_back(self, file: _File, made: int | None) -> None:
        """The file's line was read; it made that thread."""
        if made in self._unmade:
            self._make(made)
        self._add(file)

    def _make(self, tid: int) -> None:
        self._add(_File(self._unmade.pop(tid)))

    def _add(self, file: _File) -> None:
        if file.line is not None:
            self._push(file)
            return
        self._alive.discard(file.tid)
        waiting, self._waiting = self._waiting, []
        for other in waiting:
            self._push(other)

    def _push(self, file: _File) -> None:
        self._turn += 1
        heapq.heappush(self._heap, (file.time if self._timed else self._turn, self._turn, file))

    def _blocked(self, file: _File) -> bool:
        return file.after is not None and file.after != file.tid and file.after in self._alive


def _made_by_members(members: Sequence[Member]) -> set[int]:
    """The threads whose making some file shows."""
    tids = {member.tid for member in members}
    made = set()
    for member in members:
        for batch in member.source.batches(CHUNK):
            for line in batch:
                if b"clone" in line or b"fork" in line or b"syscall_" in line:
                    found = _MAKES.search(line)
                    if found:
                        made.add(int(found[1]) if found[1] else int(found[2], 16))
    return made & tids
