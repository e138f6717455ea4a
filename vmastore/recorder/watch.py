"""The log as it comes, watched for the moments at which a process is held, and for calls in flight.

This sees every line while the program runs, so it does as little as it can; the log is parsed later.
"""

from __future__ import annotations

import re
import signal
from typing import NamedTuple

# calls that can change VMAs: an observation must not fall into one of them
CHANGES_VMAS = frozenset(
    b"""
    mmap mmap2 old_mmap munmap mremap mprotect pkey_mprotect brk madvise process_madvise mlock mlock2 munlock
    mlockall munlockall mbind set_mempolicy_home_node remap_file_pages shmat shmdt mseal map_shadow_stack prctl
    ioctl io_setup io_destroy userfaultfd close syscall_0x1ce syscall_0x1c5
    """.split()
)

_EXEC = re.compile(
    rb"(?m)^(?P<tid>\d+) +(?P<stamp>\S+) (?:execve(?:at)?\(|(?P<resumed><\.\.\. execve(?:at)? resumed>)).*\)"
    rb" += 0 \(DELAYED\)(?: <(?P<took>[\d.]+)>)?$"
)
_EXIT = re.compile(rb"(?m)^(?P<tid>\d+) +\S+ exit_group\(-?\w+(?: <unfinished \.\.\.>|\) += \?.*)$")
_EXIT_BEGUN = re.compile(rb"(?P<tid>\d+) +\S+ exit_group\(-?\w+\Z")
_GONE = re.compile(rb"(?m)^(?P<tid>\d+) +\S+ \+\+\+ (?:exited with|killed by) ")
_SIGNAL = re.compile(rb"(?m)^\d+ +\S+ --- (SIG\w+) \{")
_CALL = re.compile(rb"(?P<tid>\d+) +\S+ (?P<name>\w+)\(")
_RESUMED = re.compile(rb"(?P<tid>\d+) +\S+ <\.\.\. \w+ resumed>")
_LAUNCH = re.compile(rb"(?m)^\d+ +\S+ execve\(")


def is_held_exec(line: bytes) -> bool:
    """Whether a line is one for which there is a point: a program was executed, and strace held it."""
    return _EXEC.match(line) is not None


class Point(NamedTuple):
    """A moment at which strace holds a process: "exec" (just done) or "exit" (about to)."""

    kind: str
    tid: int
    offset: int = 0  # of an exec: where the log goes on behind its line
    begin_ns: int = 0  # of an exec: no later than anything that happened during it, wall clock
    end_ns: int = 0  # of an exec: when it returned, or a little before


def _exec_point(match: re.Match[bytes], base: int) -> Point:
    """base: where the text that was searched begins in the log."""
    stamp, took = _nanoseconds(match["stamp"]), _nanoseconds(match["took"] or b"0")
    begin, end = (stamp - took, stamp) if match["resumed"] else (stamp, stamp + took)
    return Point("exec", int(match["tid"]), base + match.end() + 1, begin, end)


def _nanoseconds(stamp: bytes) -> int:
    seconds, _, fraction = stamp.partition(b".")
    return int(seconds + fraction[:9].ljust(9, b"0"))


class Watch:
    """Follow the log chunk by chunk.

    launched: False while the lines are those of the launcher; `begin` is where the log proper begins.
    """

    def __init__(self, *, launched: bool) -> None:
        self.lines = 0
        self._size = 0  # bytes of whole lines
        self.tail = b""  # the line that has not ended yet
        self.in_flight: dict[int, bytes] = {}  # calls that have begun and not returned, by tid
        self.first_tid = 0  # the program's first thread
        self._exiting: set[int] = set()
        self._signals: dict[str, int] = {}
        self._launched = launched
        self._head = b""

    def feed(self, chunk: bytes) -> tuple[bytes, list[Point]]:
        """Take the next bytes. Returns those that belong to the log, and the points they show."""
        if not self._launched:
            chunk = self._launch(chunk)
        if not chunk:
            return b"", []
        if not self.first_tid:
            self.first_tid = int(chunk.split(None, 1)[0])
        text = self.tail + chunk
        cut = text.rfind(b"\n") + 1
        whole, self.tail = text[:cut], text[cut:]
        points: list[Point] = []
        if whole:
            points = self._whole(whole)
        begun = _EXIT_BEGUN.match(self.tail)
        if begun:
            points += self._exit(int(begun["tid"]))
        return chunk, points

    @property
    def last_entry(self) -> tuple[int, bytes] | None:
        """Thread and call of the line that has not ended, if it is that of a call."""
        match = _CALL.match(self.tail)
        return (int(match["tid"]), match["name"]) if match else None

    def signals(self, number: int) -> int:
        """How many threads have got a signal so far."""
        return self._signals.get(signal.Signals(number).name, 0)

    def _launch(self, chunk: bytes) -> bytes:
        """Drop the launcher's lines: all before the second execve."""
        self._head += chunk
        found = list(_LAUNCH.finditer(self._head))
        if len(found) < 2:
            return b""
        self._launched = True
        head, self._head = self._head[found[1].start() :], b""
        return head

    @property
    def launched(self) -> bool:
        """Whether the program itself has been started."""
        return self._launched

    def _whole(self, text: bytes) -> list[Point]:
        self.lines += text.count(b"\n")
        points = [_exec_point(match, self._size) for match in _EXEC.finditer(text)]
        self._size += len(text)
        if b"exit_group(" in text:
            for match in _EXIT.finditer(text):
                points += self._exit(int(match["tid"]))
        if self.in_flight or b"<unfinished ...>\n" in text:
            self._flights(text)
        if b" +++ " in text:
            self._ends(text)
        if b" --- SIG" in text:
            for name in _SIGNAL.findall(text):
                self._signals[name.decode()] = self._signals.get(name.decode(), 0) + 1
        return points

    def _exit(self, tid: int) -> list[Point]:
        """The point of an exit_group, once: its line is seen unfinished, and again when it has ended."""
        if tid in self._exiting:
            return []
        self._exiting.add(tid)
        return [Point("exit", tid)]

    def _flights(self, text: bytes) -> None:
        flights = self.in_flight
        for line in text.splitlines():
            if line.endswith(b"<unfinished ...>"):
                match = _CALL.match(line)
                if match:
                    flights[int(match["tid"])] = match["name"]
            elif b" resumed>" in line:
                match = _RESUMED.match(line)
                if match:
                    flights.pop(int(match["tid"]), None)

    def _ends(self, text: bytes) -> None:
        for match in _GONE.finditer(text):
            tid = int(match["tid"])
            self.in_flight.pop(tid, None)
            self._exiting.discard(tid)
