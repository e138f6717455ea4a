"""A stored trace as replay wants it: header, files, events, worlds at a point."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from vmastore.bulk import bulk_work, few_cycles
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import RuleSet
from vmastore.replay.snapshots import Snapshots, basis_of, options_key
from vmastore.replay.world import Outcome, World
from vmastore.store import Store, TraceInfo

_FEW = 20_000  # events: what they leave to the cycle collector is little
_KEPT = 8192  # events of the last short stretch read that are kept: a bisection passes them, and shows one of them


class StoredTrace:
    """One trace of a store."""

    def __init__(self, store: Store, info: TraceInfo) -> None:
        self.store = store
        self.info = info
        self.header: TraceHeader = info.header
        self.files: dict[int, FileInfo] = store.files(info.trace)
        self._kept: list[Event] = []

    def events(self, start: int = 1, stop: int | None = None) -> Iterator[Event]:
        """Its events, start to stop (both included)."""
        if stop is None or stop - start >= _KEPT:
            return self.store.events(self.info.trace, start, stop)
        return self._stretch(start, stop)

    def _stretch(self, start: int, stop: int) -> Iterator[Event]:
        """The same for few events, which are not read again if they were read last: no event ever changes."""
        kept = self._kept
        if kept and kept[0].seq <= start and stop <= kept[-1].seq:
            first = kept[0].seq
            yield from kept[start - first : stop - first + 1]
            return
        kept = []
        for events in self.store.event_chunks(self.info.trace, start, stop):
            self._kept = kept = kept + events
            yield from events

    def event_chunks(self) -> Iterator[list[Event]]:
        """All its events, in lists."""
        return self.store.event_chunks(self.info.trace)

    def world(self, rules: RuleSet, *, faults: str = "recorded", max_map_count: int | None = None) -> World:
        """A world that no event has been folded into."""
        return World(self.header, self.files, rules, faults=faults, max_map_count=max_map_count)

    @cached_property
    def basis(self) -> str:
        """A digest of what a replay is made from besides the events: derived data of another is stale."""
        return basis_of(self.header, self.files)

    def at(
        self, seq: int, rules: RuleSet, *, faults: str = "recorded", max_map_count: int | None = None
    ) -> tuple[World, Outcome | None]:
        """The world after event `seq` (0: before the first), and that event's outcome.

        Costs one snapshot and the events after it where `derive` has stored the replay of the same
        rules and options; else all events from the first. Who looks at many moments in turn closes each
        world (`World.close`): the next one then does not wait for the cycle collector.
        """
        world = self.world(rules, faults=faults, max_map_count=max_map_count)
        outcome = None
        if seq:
            snapshots = Snapshots(self, rules, options_key(faults, max_map_count))
            with few_cycles():
                done = snapshots.load(seq - 1, world)
            with few_cycles() if seq - done <= _FEW else bulk_work():
                broken = set(snapshots.broken)
                for event in self.events(done + 1, seq):
                    outcome = world.apply(event)
                    if event.seq in broken:
                        snapshots.mend(event.seq, world)
        return world, outcome
