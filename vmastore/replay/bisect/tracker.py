"""Applying events and knowing what each did to the VMAs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmastore.events import Event, ObservedVma
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma, VmaAttrs
from vmastore.replay.draw import Change
from vmastore.replay.lifetimes import PLAIN_CALLS
from vmastore.replay.maps import observe
from vmastore.replay.world import Outcome, World

if TYPE_CHECKING:
    from vmastore.mm.rules import RuleSet
    from vmastore.replay.trace import StoredTrace


_Held = tuple[int, VmaAttrs, str | None]  # vm_end, attributes and label of a VMA: what its line is made of


def _line(mm: Mm, start: int, held: ObservedVma | _Held) -> ObservedVma:
    if isinstance(held, ObservedVma):
        return held
    vma = Vma(start, held[0], held[1])
    vma.label = held[2]
    return observe(mm, vma)


class Tracker:
    """Applies events and knows, for the last one, what the VMAs that it touched were before.

    world: may hold address spaces already; they are looked at once. plain: none but PLAIN_CALLS will be applied,
    which change how no VMA looks but those that they touch: only of these is a line of maps made.
    """

    def __init__(self, world: World, *, plain: bool = False) -> None:
        self.world = world
        world.watch = True
        self._shown: dict[int, dict[int, ObservedVma | _Held]] = {}
        self._before: dict[int, ObservedVma] = {}
        self._after: dict[int, ObservedVma] = {}
        for mm in world.mms.values():
            if plain:
                self._shown[mm.number] = {v.vm_start: (v.vm_end, v.attrs, v.label) for v in mm.vmas()}
                mm.dirty = []
            else:
                self._look(mm)

    def _look(self, mm: Mm) -> dict[int, ObservedVma]:
        shown = {v.vm_start: observe(mm, v) for v in mm.vmas()}
        self._shown[mm.number] = dict(shown)
        mm.dirty = []
        return shown

    def apply(self, event: Event) -> Outcome:
        """Fold one event in."""
        was = self.world.mms.get(event.mm)
        outcome = self.world.apply(event)
        mm = self.world.mms.get(event.mm)
        self._before, self._after = {}, {}
        shown = self._shown.get(event.mm)
        if mm is None or shown is None or mm.dirty is None:
            if was is not None and shown is not None:
                self._before = {start: _line(was, start, held) for start, held in shown.items()}
            if mm is None:
                self._shown.pop(event.mm, None)
            else:
                self._after = self._look(mm)
            return outcome
        for start in {v.vm_start for v in mm.dirty}:
            self._update(mm, shown, start)
        mm.dirty.clear()
        return outcome

    def _update(self, mm: Mm, shown: dict[int, ObservedVma | _Held], start: int) -> None:
        held = shown.pop(start, None)
        old = None if held is None else _line(mm, start, held)
        vma = mm.vma_lookup(start)
        new = observe(mm, vma) if vma is not None and vma.vm_start == start else None
        if new is not None:
            shown[start] = new
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
    (event,) = trace.events(seq, seq)
    tracker = Tracker(world, plain=event.call in PLAIN_CALLS)
    return Found(event, tracker.apply(event), tracker.change())
