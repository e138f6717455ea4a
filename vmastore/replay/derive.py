"""The derived data of a replay, made in one pass: outcomes, decisions, VMA lifetimes, lost merges."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vmastore.events import ObservedVma
from vmastore.mm.flags import vmflags_from_letters
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Reason
from vmastore.mm.rules import RuleSet
from vmastore.replay.maps import observe
from vmastore.replay.trace import StoredTrace
from vmastore.replay.why import why_apart
from vmastore.replay.world import Outcome, World
from vmastore.store.derived import ReplayWriter


@dataclass
class Summary:
    """What a replay came to."""

    replay: int = 0
    events: int = 0
    merges: dict[str, int] = field(default_factory=dict)  # by case
    splits: int = 0
    assumed: int = 0
    divergences: int = 0
    inferred: int = 0  # VMAs that must have existed but that no event made
    peak: int = 0  # most VMAs in one address space
    peak_seq: int = 0
    peak_mm: int = 0

    def note(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.events += 1
        for decision in outcome.decisions:
            if decision.action == "merge":
                self.merges[decision.case] = self.merges.get(decision.case, 0) + 1
            elif decision.action == "split":
                self.splits += 1
        self.assumed += not outcome.certain
        self.divergences += outcome.divergence is not None
        if outcome.map_count > self.peak:
            self.peak, self.peak_seq, self.peak_mm = outcome.map_count, outcome.seq, outcome.mm


def derive(
    trace: StoredTrace,
    rules: RuleSet,
    *,
    faults: str = "recorded",
    max_map_count: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[World, Summary]:
    """Replay the whole trace and store what it came to. Returns the last world and the sums."""
    options = json.dumps({"faults": faults, "max_map_count": max_map_count}, sort_keys=True)
    world = trace.world(rules, faults=faults, max_map_count=max_map_count)
    world.watch = True
    summary = Summary()
    with ReplayWriter(trace.store, trace.info.trace, rules.name, options) as writer:
        summary.replay = writer.replay
        lives = _Lifetimes(world, writer)
        for event in trace.events():
            outcome = world.apply(event)
            summary.note(outcome)
            writer.outcome(_outcome_row(outcome))
            for n, decision in enumerate(outcome.decisions, 1):
                writer.decision(
                    (
                        outcome.seq,
                        n,
                        outcome.mm,
                        decision.api,
                        decision.action,
                        decision.vm_start,
                        decision.vm_end,
                        decision.case,
                        _text(decision.reason_prev),
                        _text(decision.reason_next),
                        int(decision.certain),
                    )
                )
            lives.after(event.mm, event.seq)
            if progress is not None and event.seq % 5000 == 0:
                progress(event.seq)
        lives.finish()
        for mm in world.mms.values():
            for row in lost_merge_rows(mm, summary.events):
                writer.lost_merge(row)
        writer.events = summary.events
        summary.inferred = world.env.inferred
    return world, summary


def _outcome_row(outcome: Outcome) -> tuple[Any, ...]:
    return (
        outcome.seq,
        outcome.mm,
        outcome.merges,
        outcome.splits,
        outcome.cases,
        outcome.map_count,
        int(outcome.certain),
        outcome.divergence,
    )


def _text(reason: Reason | None) -> str | None:
    return None if reason is None else reason.text


def lost_merge_rows(mm: Mm, seq: int) -> list[tuple[Any, ...]]:
    """(mm, boundary, seq, left_start, right_end, reason) of adjacent VMAs that are not one."""
    rows = []
    for vma in mm.vmas():
        nxt = vma.next
        if nxt is not mm.tail and vma.vm_end == nxt.vm_start:
            reason = why_apart(mm, vma, nxt)
            rows.append((mm.number, vma.vm_end, seq, vma.vm_start, nxt.vm_end, reason.text))
    return rows


class _Lifetimes:
    """Follows every VMA's state from the event that made it to the one that ended it."""

    def __init__(self, world: World, writer: ReplayWriter) -> None:
        self.world = world
        self.writer = writer
        self._alive: dict[int, dict[int, tuple[ObservedVma, int]]] = {}

    def after(self, number: int, seq: int) -> None:
        """Look at what the event changed in its address space, and at address spaces that are new or gone."""
        for other in [n for n in self._alive if n not in self.world.mms]:
            self._end_all(other, seq)
        for other, mm in self.world.mms.items():
            if other not in self._alive:
                self._alive[other] = {}
                self._look(mm, seq, {v.vm_start for v in mm.vmas()})
                if mm.dirty is not None:
                    mm.dirty.clear()
        space = self.world.mms.get(number)
        if space is not None and space.dirty:
            self._look(space, seq, {v.vm_start for v in space.dirty})
            space.dirty.clear()

    def _look(self, mm: Mm, seq: int, starts: set[int]) -> None:
        alive = self._alive[mm.number]
        for start in starts:
            old = alive.get(start)
            vma = mm.vma_lookup(start)
            new = observe(mm, vma) if vma is not None and vma.vm_start == start else None
            if old is not None and old[0] == new:
                continue
            if old is not None:
                self._write(mm.number, old[0], old[1], seq)
                del alive[start]
            if new is not None:
                alive[start] = (new, seq)

    def _end_all(self, number: int, seq: int | None) -> None:
        for line, born in self._alive.pop(number).values():
            self._write(number, line, born, seq)

    def finish(self) -> None:
        for number in list(self._alive):
            self._end_all(number, None)

    def _write(self, number: int, line: ObservedVma, born: int, died: int | None) -> None:
        path = line.name if line.inode else None
        flags = vmflags_from_letters(line.vm_flags or "")
        pgoff = line.offset >> 12  # pages: fits 63 bits
        self.writer.vma((number, line.start, line.end, flags, pgoff, path, line.name, born, died))
