"""The first event at which a predicate holds, or at which two rule sets part.

Both are one pass over the events; nothing is printed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vmastore.events import Event, ObservedVma, TraceHeader
from vmastore.mm.mm import Mm
from vmastore.mm.rules import RuleSet
from vmastore.replay.draw import Change
from vmastore.replay.maps import observe
from vmastore.replay.predicate import Moment, Test
from vmastore.replay.world import Files, Outcome, World


@dataclass
class Found:
    """The event found, and what it did to the VMAs."""

    event: Event
    outcome: Outcome
    change: Change
    flips: int = 1  # how often the predicate changed its answer over the whole trace


@dataclass
class Parted:
    """The first event whose outcome differs under two rule sets."""

    event: Event
    outcomes: tuple[Outcome, Outcome]
    changes: tuple[Change, Change]


def find(
    header: TraceHeader,
    files: Files,
    events: Iterable[Event],
    rules: RuleSet,
    test: Test,
    mm: int | None = None,
    *,
    faults: str = "recorded",
    max_map_count: int | None = None,
) -> Found | None:
    """The first event after which `test` holds (in address space `mm`, or in any), or None.

    The predicate is looked at after every event of the address space; `flips` counts its changes.
    """
    world = World(header, files, rules, faults=faults, max_map_count=max_map_count)
    found: Found | None = None
    held: dict[int, bool] = {}
    tracker = Tracker(world)
    for event in events:
        if mm is not None and event.mm != mm:
            world.apply(event)
            continue
        outcome = tracker.apply(event)
        space = world.mms.get(event.mm)
        if space is None or event.call == "note":
            continue
        holds = test(Moment(space, outcome))
        if holds != held.get(event.mm, False):
            held[event.mm] = holds
            if found is not None:
                found.flips += 1
            elif holds:
                found = Found(event, outcome, tracker.change())
    return found


def part(
    header: TraceHeader,
    files: Files,
    events: Iterable[Event],
    rules: RuleSet,
    against: RuleSet,
    *,
    faults: str = "recorded",
    max_map_count: int | None = None,
) -> Parted | None:
    """The first event whose outcome under `rules` differs from that under `against`, or None."""
    a = Tracker(World(header, files, rules, faults=faults, max_map_count=max_map_count))
    b = Tracker(World(header, files, against, faults=faults, max_map_count=max_map_count))
    for event in events:
        one, two = a.apply(event), b.apply(event)
        if differ(one, two) or a.touched() != b.touched():
            return Parted(event, (one, two), (a.change(), b.change()))
    return None


def differ(one: Outcome, two: Outcome) -> bool:
    """Whether two outcomes of the same event differ: in what merged or split, or in the answer."""
    return one.cases != two.cases or one.errno != two.errno or one.map_count != two.map_count


class Tracker:
    """Applies events and knows, for the last one, what the VMAs that it touched were before."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.watch = True
        self._shown: dict[int, dict[int, ObservedVma]] = {}
        self._before: dict[int, ObservedVma] = {}
        self._after: dict[int, ObservedVma] = {}

    def apply(self, event: Event) -> Outcome:
        """Fold one event in."""
        outcome = self.world.apply(event)
        mm = self.world.mms.get(event.mm)
        self._before, self._after = {}, {}
        if mm is None:
            self._shown.pop(event.mm, None)
            return outcome
        shown = self._shown.get(event.mm)
        if shown is None or mm.dirty is None:
            self._shown[event.mm] = {v.vm_start: observe(mm, v) for v in mm.vmas()}
            self._after = dict(self._shown[event.mm])
            if mm.dirty is None:
                mm.dirty = []
            mm.dirty.clear()
            return outcome
        for start in {v.vm_start for v in mm.dirty}:
            self._update(mm, shown, start)
        mm.dirty.clear()
        return outcome

    def _update(self, mm: Mm, shown: dict[int, ObservedVma], start: int) -> None:
        old = shown.pop(start, None)
        vma = mm.vma_lookup(start)
        if vma is not None and vma.vm_start == start:
            shown[start] = observe(mm, vma)
        new = shown.get(start)
        if old != new:
            if old is not None:
                self._before[start] = old
            if new is not None:
                self._after[start] = new

    def touched(self) -> list[ObservedVma]:
        """The VMAs that the last event made or changed, as they are now."""
        return sorted(self._after.values())

    def change(self) -> Change:
        """What the last event did."""
        return Change(sorted(self._before.values()), self.touched())
