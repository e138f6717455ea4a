"""Guesses at what matters: subsets of the events that are likely to show the same. Replay decides."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

from vmastore.events import Event
from vmastore.mm.flags import PAGE_SIZE
from vmastore.mm.rules import RuleSet
from vmastore.replay.blame import Blame
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.ranges import spans

Span = tuple[int, int]
_PROCESS = {"prctl", "mlockall", "munlockall", "personality", "fork", "ioctl", "release"}


def slices(trace: MemoryTrace, events: Sequence[Event], rules: RuleSet) -> Iterator[list[int]]:
    """Positions of ever more of the events, the last always among them; the smallest guess first."""
    seen: set[int] = set()
    for chosen in (*_by_place(events), _by_maker(trace, events, rules)):
        if len(chosen) not in seen and len(chosen) < len(events):
            seen.add(len(chosen))
            yield chosen


def _by_place(events: Sequence[Event]) -> Iterator[list[int]]:
    """What touches the last event's ranges; then what touches what that touches; and so on."""
    every = [spans(event) for event in events]
    window = _union(every[-1])
    for _ in range(4):
        chosen = [
            n
            for n, ranges in enumerate(every)
            if n == len(events) - 1 or _whole(events[n]) or any(_meets(window, span) for span in ranges)
        ]
        yield chosen
        window = _union([span for n in chosen for span in every[n]])


def _whole(event: Event) -> bool:
    """Whether a call is about the process, not about a range."""
    return event.call in _PROCESS and not spans(event)


def _union(ranges: Sequence[Span]) -> list[Span]:
    """Disjoint ranges, each a page wider on both sides so that neighbours count."""
    union: list[Span] = []
    for start, end in sorted((start - PAGE_SIZE, end + PAGE_SIZE) for start, end in ranges):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def _meets(union: Sequence[Span], span: Span) -> bool:
    at = bisect.bisect_right(union, (span[0], 1 << 70)) - 1
    return any(union[n][0] < span[1] and span[0] < union[n][1] for n in (at, at + 1) if 0 <= n < len(union))


def _by_maker(trace: MemoryTrace, events: Sequence[Event], rules: RuleSet) -> list[int]:
    """The events that made the VMAs alive at the end, with the mappings that those work on."""
    blame = Blame(trace.world(rules))
    for n, event in enumerate(events):
        blame.apply(event._replace(seq=n + 1))
    chosen = {len(events) - 1}
    for mm in blame.world.mms.values():
        chosen |= {blame.born(mm, vma).seq - 1 for vma in mm.vmas()}
    chosen.discard(-1)
    window = _union([span for n in chosen for span in spans(events[n])])
    made = [n for n, e in enumerate(events) if e.call in ("mmap", "fork") and n not in chosen]
    return sorted(chosen | {n for n in made if any(_meets(window, s) for s in spans(events[n])) or _whole(events[n])})
