"""Moving a trace's operations into a compact arena: from far apart to side by side."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable

from vmastore.events import Event
from vmastore.mm.flags import PAGE_SIZE, TASK_SIZE
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.ranges import moved, spans

ARENA = 0x100000000000  # far from where the kernel puts a program, its libraries and its stack
_GAP = 16  # pages kept of a wider gap
_HUGE = 512  # pages: a huge page; places within one are kept


class Regions:
    """Maps addresses of far-apart regions to one arena; within a region distances are kept.

    Each region keeps its place within 2 MiB if `huge`, so that what hangs on huge pages stays.
    """

    def __init__(self, used: Iterable[tuple[int, int]], base: int = ARENA, *, huge: bool = False) -> None:
        self._starts: list[int] = []
        self._shifts: list[int] = []
        self.base = base
        at, last = base, None
        for start, end in _united(used):
            if last is not None:
                gap = min(start - last, _GAP * PAGE_SIZE)
                at += gap
            if huge or last is None:
                at += (start - at) % (_HUGE * PAGE_SIZE) if huge else 0
            self._starts.append(start)
            self._shifts.append(at - start)
            at += end - start
            last = end
        self.end = max(at, base + PAGE_SIZE)

    def __call__(self, addr: int) -> int:
        n = bisect.bisect_right(self._starts, addr) - 1
        return addr + self._shifts[max(n, 0)] if self._shifts else addr


def _united(used: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping and near ranges as one."""
    union: list[tuple[int, int]] = []
    for start, end in sorted(used):
        if union and start - union[-1][1] <= _GAP * PAGE_SIZE:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def used_ranges(events: Iterable[Event]) -> list[tuple[int, int]]:
    """Every range that the events name, as far as a process can have it: of one that goes beyond, its first page."""
    named = [span for event in events for span in spans(event)]
    return [(start, end if end <= TASK_SIZE else start + PAGE_SIZE) for start, end in named if start < TASK_SIZE]


def relocated(trace: MemoryTrace, move: Callable[[int], int]) -> MemoryTrace:
    """The trace with its addresses moved; what is recorded of answers that are addresses follows."""
    events = []
    for event in trace.events:
        after = moved(event, move)
        if event.result and event.call in ("mmap", "mremap", "shmat", "brk"):
            after = after._replace(result=move(event.result))
        events.append(after)
    config = dict(trace.header.config)
    for key in ("start_brk", "brk0"):
        if config.get(key):
            config[key] = move(config[key])
    return MemoryTrace(trace.header._replace(config=config), trace.files, events)
