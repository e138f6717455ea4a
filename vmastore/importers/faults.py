"""Page faults as `perf script` and ftrace print them, and the clocks they are printed in.

Understood are the tracepoints exceptions:page_fault_user and exceptions:page_fault_kernel, which tell a
write from a read, and the software event page-faults (`-d` gives the address), which does not. So is
mmap_lock:mmap_lock_acquire_returned, which tells in which order threads changed an address space.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

WRITE = 2  # error_code: the access was a write (X86_PF_WRITE)
TASK_SIZE_MAX = 1 << 56  # above: kernel addresses


class Fault(NamedTuple):
    """One page fault."""

    time_ns: int  # in the clock of the recording, see ClockMap
    pid: int | None  # the process, where the text shows it
    tid: int
    addr: int  # as the processor reported it, not rounded
    access: str | None  # "w", "r"; None: the event does not tell
    source: str  # "user", "kernel": the kernel accessed user memory (a copy by a system call)


class Locked(NamedTuple):
    """A thread got hold of an address space (its mmap_lock, for writing): it is about to change VMAs."""

    time_ns: int
    pid: int | None
    tid: int


class Lost(NamedTuple):
    """Records that the kernel could not hand over."""

    number: int


_TIME = rb"(?P<seconds>\d+)\.(?P<fraction>\d{1,9}):"
_WHO = (
    rb"\s*(?:.*?[\s-])??(?:(?P<pid>\d+)/\s*)?(?P<tid>\d+)\s+(?:\(\s*[\d-]+\)\s+)?(?:\[\d+\]\s+)?(?:[\w.#]{4,6}\s+)?"
)
_TRACEPOINT = re.compile(
    _WHO + _TIME + rb"\s+(?:exceptions:)?page_fault_(?P<mode>user|kernel):\s+address=(?:0x)?(?P<addr>[0-9a-f]+)\S*"
    rb" ip=\S+ error_code=(?:0x)?(?P<code>[0-9a-f]+)"
)
_SOFTWARE = re.compile(
    # a lone address with a symbol behind it is the instruction's: recorded without -d, or printed without addr
    _WHO + _TIME + rb"\s+(?:\d+\s+)?(?:page-faults|minor-faults|major-faults|faults)(?::[a-zA-Z]+)?:"
    rb"\s+(?P<addr>[0-9a-f]+)(?:\s*\Z|\s+[0-9a-f]{4,16}(?:\s|\Z))"
)
_LOCKED = re.compile(_WHO + _TIME + rb"\s+(?:mmap_lock:)?mmap_lock_acquire_returned:\s.*\bwrite=true success=true")
_EVENTS = {
    b"exceptions:page_fault_user:": "user",
    b"exceptions:page_fault_kernel:": "kernel",
    b"mmap_lock:mmap_lock_acquire_returned:": "lock",
}
_TAKEN = [b"write=true", b"success=true"]
_LOST = re.compile(rb"PERF_RECORD_LOST(?:_SAMPLES)?\s+lost\s+(?P<perf>\d+)|\bLOST (?P<ftrace>\d+) EVENTS\b")


def parse_line(line: bytes) -> Fault | Locked | Lost | None:
    """The fault (the lock, the loss) that a line tells of; None for any other line."""
    found = _short(line.split())
    if found is not None:
        return found
    match = _TRACEPOINT.match(line)
    if match:
        access = "w" if int(match["code"], 16) & WRITE else "r"
        return _fault(match, access, match["mode"].decode())
    match = _LOCKED.match(line)
    if match:
        return Locked(_time_ns(match), _pid(match), int(match["tid"]))
    match = _SOFTWARE.match(line)
    if match:
        return _fault(match, None, "user")
    match = _LOST.search(line)
    return Lost(int(match["perf"] or match["ftrace"])) if match else None


_NO_ADDRESS = re.compile(rb"\s(?:page-faults|minor-faults|major-faults|faults)(?::[a-zA-Z]+)?:\s")


def is_fault_without_address(line: bytes) -> bool:
    """Whether a line that tells of no fault is a page-faults event, printed or recorded without its address."""
    return _NO_ADDRESS.search(line) is not None


def _short(words: list[bytes]) -> Fault | Locked | None:
    """The commonest form, `perf script -F pid,tid,time,event,trace`, read the short way."""
    try:
        who, time, event, *facts = words
        source = _EVENTS[event]
        pid, _, tid = who.partition(b"/")
        seconds, _, fraction = time.partition(b".")
        if len(fraction) != 10 or not tid:
            return None
        time_ns = int(seconds + fraction[:-1])
        if source == "lock":
            return Locked(time_ns, int(pid), int(tid)) if facts[-2:] == _TAKEN else None
        addr, code = facts[0], facts[-1]
        where = int(addr[8:], 16)
        if addr[:8] != b"address=" or code[:11] != b"error_code=" or where >= TASK_SIZE_MAX:
            return None
        return Fault(time_ns, int(pid), int(tid), where, "w" if int(code[11:], 16) & WRITE else "r", source)
    except (KeyError, ValueError, IndexError):
        return None


def _fault(match: re.Match[bytes], access: str | None, source: str) -> Fault | None:
    addr = int(match["addr"], 16)
    if addr >= TASK_SIZE_MAX:
        return None
    return Fault(_time_ns(match), _pid(match), int(match["tid"]), addr, access, source)


def _time_ns(match: re.Match[bytes]) -> int:
    return int(match["seconds"]) * 1_000_000_000 + int(match["fraction"].ljust(9, b"0"))


def _pid(match: re.Match[bytes]) -> int | None:
    pid = match["pid"]
    return int(pid) if pid else None


class ClockMap:
    """From one clock to another, by pairs of readings taken at the same moments.

    Between two pairs the difference is interpolated, outside of them it is that of the nearest pair.
    """

    def __init__(self, pairs: Iterable[tuple[int, int]] = ((0, 0),)) -> None:
        """pairs: (reading of the one clock, of the other), in nanoseconds; at least one."""
        ordered = sorted(pairs)
        self._from = [source for source, _ in ordered]
        self._offset = [target - source for source, target in ordered]

    @property
    def drift_ns(self) -> int:
        """How far the clocks moved against each other over the readings."""
        return max(self._offset) - min(self._offset)

    def __call__(self, time_ns: int) -> int:
        """A time of the one clock in the other."""
        known, offset = self._from, self._offset
        after = bisect_right(known, time_ns)
        if after == 0:
            return time_ns + offset[0]
        if after == len(known):
            return time_ns + offset[-1]
        low, high = known[after - 1], known[after]
        share = (time_ns - low) / (high - low)
        return time_ns + offset[after - 1] + round(share * (offset[after] - offset[after - 1]))


class FaultReader:
    """The faults and locks of a text, in its order; what was lost is counted."""

    def __init__(self, lines: Iterable[bytes], clock: ClockMap | None = None) -> None:
        """clock: turns the text's times into those wanted."""
        self._lines = lines
        self._clock = clock
        self.lost = 0  # records that the kernel dropped
        self.other = 0  # lines that tell of neither
        self.blind = False  # some events do not tell a write from a read

    def __iter__(self) -> Iterator[Fault | Locked]:
        clock = self._clock
        for line in self._lines:
            found = parse_line(line)
            if isinstance(found, Fault | Locked):
                if isinstance(found, Fault) and found.access is None:
                    self.blind = True
                yield found if clock is None else found._replace(time_ns=clock(found.time_ns))
            elif found is None:
                self.other += 1
            else:
                self.lost += found.number
