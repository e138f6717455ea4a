"""The derived data of a replay, made in one pass: outcomes, decisions, VMA lifetimes, lost merges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vmastore.bulk import bulk_work
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Reason
from vmastore.mm.rules import RuleSet
from vmastore.replay.lifetimes import Lifetimes
from vmastore.replay.rolling import Rolling
from vmastore.replay.snapshots import Snapshots, Spacing, options_key
from vmastore.replay.trace import StoredTrace
from vmastore.replay.why import why_apart
from vmastore.replay.world import Outcome, World
from vmastore.store.derived import ReplayWriter
from vmastore.version import engine


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


@bulk_work()
def derive(
    trace: StoredTrace,
    rules: RuleSet,
    *,
    faults: str = "recorded",
    max_map_count: int | None = None,
    progress: Callable[[int], None] | None = None,
    spacing: Spacing | None = None,
    into: Callable[..., ReplayWriter] = ReplayWriter,
) -> tuple[World, Summary]:
    """Replay the whole trace and store what it came to. Returns the last world and the sums.

    spacing: when snapshots are taken (else as it suits the size of the state). into: what takes the rows.
    """
    options = options_key(faults, max_map_count)
    spacing = spacing or Spacing()
    snapshots = Snapshots(trace, rules, options)
    world = trace.world(rules, faults=faults, max_map_count=max_map_count)
    summary = Summary()
    with into(trace.store, trace.info.trace, rules.name, options, engine=engine(), basis=trace.basis) as writer:
        summary.replay = writer.replay
        lives = Lifetimes(world, writer.vma)
        rolling = Rolling()
        for event in trace.events():
            if event.call == "exit" and event.mm in world.mms and len(event.args) > 2 and event.args[2]:
                for row in lost_merge_rows(world.mms[event.mm], event.seq - 1):
                    writer.lost_merge(row)
            outcome = world.apply(event)
            summary.note(outcome)
            changes = lives.after(event)
            writer.outcome((*_outcome_row(outcome), rolling.add(outcome, changes)))
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
            if event.seq >= spacing.look_at and spacing.due(event.seq, world):
                writer.snapshot(snapshots.take(event.seq, world))
            if progress is not None and event.seq % 5000 == 0:
                progress(event.seq)
        lives.finish()
        for mm in world.mms.values():
            for row in lost_merge_rows(mm, summary.events):
                writer.lost_merge(row)
        writer.events, writer.peak_seq = summary.events, summary.peak_seq
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
