"""Applying events and knowing what each did to the VMAs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmastore.events import Event, ObservedVma
from vmastore.mm.mm import Mm
from vmastore.replay.draw import Change
from vmastore.replay.maps import observe
from vmastore.replay.world import Outcome, World

if TYPE_CHECKING:
    from vmastore.mm.rules import RuleSet
    from vmastore.replay.trace import StoredTrace


class Tracker:
    """Applies events and knows, for the last one, what the VMAs that it touched were before.

    world: may hold address spaces already; they are looked at once.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        world.watch = True
        self._shown: dict[int, dict[int, ObservedVma]] = {}
        self._before: dict[int, ObservedVma] = {}
        self._after: dict[int, ObservedVma] = {}
        for mm in world.mms.values():
            self._look(mm)

    def _look(self, mm: Mm) -> dict[int, ObservedVma]:
        shown = self._shown[mm.number] = {v.vm_start: observe(mm, v) for v in mm.vmas()}
        mm.dirty = []
        return shown

    def apply(self, event: Event) -> Outcome:
        """Fold one event in."""
        outcome = self.world.apply(event)
        mm = self.world.mms.get(event.mm)
        self._before, self._after = {}, {}
        if mm is None:
            self._before = self._shown.pop(event.mm, {})
            return outcome
        shown = self._shown.get(event.mm)
        if shown is None or mm.dirty is None:
            self._after = dict(self._look(mm))
            self._before = shown or {}
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


@dataclass(frozen=True)
class Found:
    """One event, and what it did to the VMAs."""

    event: Event
    outcome: Outcome
    change: Change


def look(
    trace: StoredTrace, seq: int, rules: RuleSet, *, faults: str = "recorded", max_map_count: int | None = None
) -> Found:
    """Event `seq` of a trace (from 1) with its outcome and change, from the nearest state that is stored."""
    world, _ = trace.at(seq - 1, rules, faults=faults, max_map_count=max_map_count)
    tracker = Tracker(world)
    (event,) = trace.events(seq, seq)
    return Found(event, tracker.apply(event), tracker.change())
