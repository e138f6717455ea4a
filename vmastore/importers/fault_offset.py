"""How the clock of recorded faults and that of a log differ, from what cannot be otherwise.

A page of a mapping is touched after the mmap that made it has returned, and before the munmap that ended it
has. So each mapping that was there once bounds the difference from both sides; the difference on which most of
them agree is taken, at its lower bound, since a program touches what it has mapped at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from vmastore.events.types import Event
from vmastore.importers.faults import Fault, Locked

_MOST = 100_000  # mappings that are looked at
_MARGIN_NS = 1_000  # a fault is that much later than the return that allowed it, at least
_NEVER = 1 << 62


class Fit(NamedTuple):
    """What to add to the faults' times, and between which bounds it lies."""

    offset_ns: int
    low_ns: int
    high_ns: int | None  # None: nothing bounds it
    agreeing: int  # mappings
    mappings: int  # that were touched

    def allows(self, offset_ns: int) -> bool:
        """Whether another difference is as good."""
        return self.low_ns <= offset_ns and (self.high_ns is None or offset_ns <= self.high_ns)


class _Mapping:
    """One mapping of a process: when it was there, and the first and the last fault on it."""

    __slots__ = ("begin", "end", "first", "gone", "last", "start")

    def __init__(self, start: int, end: int, begin: int) -> None:
        self.start, self.end = start, end
        self.begin, self.gone = begin, _NEVER
        self.first: int | None = None
        self.last = 0


class _Processes:
    """The mappings of each process, and of which process each thread is."""

    def __init__(self) -> None:
        self.of_tid: dict[int, int] = {}
        self.mappings: dict[int, list[_Mapping]] = {}
        self._count = 0

    def see(self, event: Event) -> None:
        """Take an event in."""
        self.of_tid.setdefault(event.tid, event.pid)
        if event.errno or event.injected or event.ts_ns is None:
            return
        call, args, result = event.call, event.args, event.result
        if call in ("mmap", "mmap2") and result is not None:
            self._mapped(event.pid, result, result + args[1], event.ts_ns)
        elif call == "munmap":
            self._gone(event.pid, args[0], args[0] + args[1], event.ts_ns)
        elif call == "mremap" and result is not None:
            self._gone(event.pid, args[0], args[0] + args[1], event.ts_ns)
            self._mapped(event.pid, result, result + args[2], event.ts_ns)
        elif call in ("execve", "execveat"):
            self._gone(event.pid, 0, _NEVER, event.ts_ns)

    def _mapped(self, pid: int, start: int, end: int, time_ns: int) -> None:
        self._count += 1
        if self._count <= _MOST:
            self.mappings.setdefault(pid, []).append(_Mapping(start, end, time_ns))

    def _gone(self, pid: int, start: int, end: int, time_ns: int) -> None:
        for mapping in reversed(self.mappings.get(pid, ())[-_RECENT:]):
            if mapping.gone == _NEVER and mapping.start < end and start < mapping.end:
                mapping.gone = time_ns

    def unique(self) -> dict[int, tuple[list[int], list[_Mapping]]]:
        """By process: the mappings whose addresses were mapped once only, by start."""
        found = {}
        for pid, mappings in self.mappings.items():
            mappings.sort(key=lambda mapping: mapping.start)
            alone, reach = [], 0
            for n, mapping in enumerate(mappings):
                after = mappings[n + 1].start if n + 1 < len(mappings) else _NEVER
                if mapping.start >= reach and mapping.end <= after:
                    alone.append(mapping)
                reach = max(reach, mapping.end)
            found[pid] = ([mapping.start for mapping in alone], alone)
        return found


_RECENT = 2_000  # mappings of a process that an munmap is compared with: a bound missed is no bound wrong


def fit(events: Iterable[Event], faults: Iterable[Fault | Locked]) -> Fit | None:
    """The difference on which most mappings agree; None if no fault is on a mapping that the events show.

    events: of a log, with times. faults: with the times of their own clock.
    """
    processes = _Processes()
    for event in events:
        processes.see(event)
    unique = processes.unique()
    for fault in faults:
        if isinstance(fault, Fault):
            _touch(unique, processes.of_tid.get(fault.tid, fault.pid), fault)
    touched = [mapping for _, mappings in unique.values() for mapping in mappings if mapping.first is not None]
    bounds = [(m.begin - (m.first or 0), _NEVER if m.gone == _NEVER else m.gone - m.last) for m in touched]
    return _most(bounds) if bounds else None


def _touch(unique: dict[int, tuple[list[int], list[_Mapping]]], pid: int | None, fault: Fault) -> None:
    starts, mappings = unique.get(pid or 0, ([], []))
    at = bisect_right(starts, fault.addr) - 1
    if at < 0 or fault.addr >= mappings[at].end:
        return
    mapping = mappings[at]
    mapping.first = fault.time_ns if mapping.first is None else min(mapping.first, fault.time_ns)
    mapping.last = max(mapping.last, fault.time_ns)


def _most(bounds: list[tuple[int, int]]) -> Fit:
    """The interval that most of the bounds share."""
    edges = sorted(edge for low, high in bounds if low <= high for edge in ((low, 0), (high, 1)))
    if not edges:  # each contradicts itself: take the latest lower bound
        low = max(low for low, _ in bounds)
        return Fit(low, low, low, 0, len(bounds))
    depth = best = 0
    low = high = edges[0][0]
    open_best = False
    for at, ends in edges:
        if ends:
            if open_best:
                high, open_best = at, False
            depth -= 1
        else:
            depth += 1
            if depth > best:
                best, low, open_best = depth, at, True
    margin = min(_MARGIN_NS, (high - low) // 2)
    return Fit(low + margin, low, None if high == _NEVER else high, best, len(bounds))
