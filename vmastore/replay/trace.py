"""A stored trace as replay wants it: header, files, events, worlds at a point."""

from __future__ import annotations

from collections.abc import Iterator

from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import RuleSet
from vmastore.replay.world import Outcome, World
from vmastore.store import Store, TraceInfo


class StoredTrace:
    """One trace of a store."""

    def __init__(self, store: Store, info: TraceInfo) -> None:
        self.store = store
        self.info = info
        self.header: TraceHeader = info.header
        self.files: dict[int, FileInfo] = store.files(info.trace)

    def events(self, start: int = 1, stop: int | None = None) -> Iterator[Event]:
        """Its events, start to stop (both included)."""
        return self.store.events(self.info.trace, start, stop)

    def world(self, rules: RuleSet, *, faults: str = "recorded", max_map_count: int | None = None) -> World:
        """A world that no event has been folded into."""
        return World(self.header, self.files, rules, faults=faults, max_map_count=max_map_count)

    def at(
        self, seq: int, rules: RuleSet, *, faults: str = "recorded", max_map_count: int | None = None
    ) -> tuple[World, Outcome | None]:
        """The world after event `seq` (0: before the first), and that event's outcome."""
        world = self.world(rules, faults=faults, max_map_count=max_map_count)
        outcome = None
        if seq:
            for event in self.events(1, seq):
                outcome = world.apply(event)
        return world, outcome
