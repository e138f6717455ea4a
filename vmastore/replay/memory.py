"""A trace that is held in memory, not in a store: one that was made up, cut out or changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import RuleSet
from vmastore.replay.world import World


@dataclass
class MemoryTrace:
    """A header, the open file descriptions by number, the events (seq from 1 without a gap)."""

    header: TraceHeader
    files: dict[int, FileInfo] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def world(self, rules: RuleSet, *, faults: str = "recorded", max_map_count: int | None = None) -> World:
        """A world that no event has been folded into."""
        return World(self.header, self.files, rules, faults=faults, max_map_count=max_map_count)


def numbered(events: Iterable[Event]) -> list[Event]:
    """The events with seq from 1, in the order given."""
    return [event if event.seq == n else event._replace(seq=n) for n, event in enumerate(events, 1)]


def answered(trace: MemoryTrace, rules: RuleSet) -> list[Event]:
    """The trace's events with the answers that replay under `rules` predicts, where they have none."""
    world = trace.world(rules)
    found = []
    for event in trace.events:
        outcome = world.apply(event)
        if event.result is None and not event.errno:
            event = event._replace(result=outcome.result, errno=outcome.errno)
        found.append(event)
    return found
