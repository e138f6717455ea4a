"""Removing events, whole mappings first, until no single one can go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vmastore.events import Event
from vmastore.replay.ranges import spans

Hit = Callable[[Sequence[Event]], int | None]


def one_minimal(events: list[Event], hit: Hit) -> list[Event]:
    """A subsequence that still shows it and of which no single event can be left out.

    events: shows it at its last event. Deterministic: chunks of halving size, from the end to the front.
    """
    events = without_mappings(events, hit)
    size = max(1, len(events) // 2)
    while True:
        before = len(events)
        events = _pass(events, hit, size)
        if size > 1:
            size = max(1, min(size // 2, len(events) // 2))
        elif len(events) == before:
            return events


def _pass(events: list[Event], hit: Hit, size: int) -> list[Event]:
    """One walk from the end to the front, leaving out each chunk that is not needed."""
    end = len(events)
    while end > 0:
        start = max(0, end - size)
        candidate = events[:start] + events[end:]
        at = hit(candidate) if candidate else None
        if at is not None:
            events = candidate[: at + 1]
        end = min(start, len(events))
    return events


def without_mappings(events: list[Event], hit: Hit) -> list[Event]:
    """Without whole mappings and what works on them: groups of events whose ranges overlap."""
    groups = groups_of(events)
    if len(groups) < 2:
        return events
    kept = [set(group) for group in groups]
    size = max(1, len(kept) // 2)
    while size:
        end = len(kept)
        while end > 0:
            start = max(0, end - size)
            trial = kept[:start] + kept[end:]
            wanted = set().union(*trial) if trial else set()
            candidate = [event for n, event in enumerate(events) if n in wanted]
            at = hit(candidate) if candidate else None
            if at is not None:
                kept = trial
            end = start
        size //= 2
    wanted = set().union(*kept)
    candidate = [event for n, event in enumerate(events) if n in wanted]
    at = hit(candidate)
    return candidate[: at + 1] if at is not None else events


def groups_of(events: Sequence[Event]) -> list[list[int]]:
    """Positions of events whose ranges overlap, directly or through others; those without a range alone."""
    ranges = sorted((start, end, n) for n, event in enumerate(events) for start, end in spans(event))
    parent = list(range(len(events)))

    def find(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    reach, last = 0, -1
    for start, end, n in ranges:
        if last >= 0 and start < reach:
            parent[find(n)] = find(last)
        if last < 0 or end > reach:
            reach, last = end, n
    groups: dict[int, list[int]] = {}
    for n in range(len(events)):
        groups.setdefault(find(n), []).append(n)
    return list(groups.values())
