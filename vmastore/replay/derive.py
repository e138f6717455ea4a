"""The derived data of a replay, made in one pass: outcomes, decisions, VMA lifetimes, lost merges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vmastore.bulk import bulk_work
from vmastore.mm.mm import Mm
from vmastore.mm.rules import RuleSet
from vmastore.replay.kinds import Kinds
from vmastore.replay.lifetimes import Lifetimes
from vmastore.replay.rolling import Rolling
from vmastore.replay.snapshots import Snapshots, Spacing, options_key
from vmastore.replay.trace import StoredTrace
from vmastore.replay.why import why_apart
from vmastore.replay.world import World
from vmastore.store.derived import ReplayWriter
from vmastore.store.runs import RUN
from vmastore.store.snapshots import event_hashes
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
        with event_hashes(trace.store, trace.info.trace) as hash_of:
            _fold(trace, world, writer, summary, snapshots, hash_of, spacing, progress)
        for mm in world.mms.values():
            writer.lost_merges += lost_merge_values(mm, summary.events)
        writer.events, writer.peak_seq = summary.events, summary.peak_seq
        summary.inferred = world.env.inferred
    return world, summary


def _fold(
    trace: StoredTrace,
    world: World,
    writer: ReplayWriter,
    summary: Summary,
    snapshots: Snapshots,
    hash_of: Callable[[int], bytes],
    spacing: Spacing,
    progress: Callable[[int], None] | None,
) -> None:
    """All events, the rows of each, and the sums: in one loop, since it runs once an event."""
    lives = Lifetimes(world, writer.vmas, writer.vma_pages, writer.vma_kinds)
    kinds = Kinds(writer.outcome_kinds, writer.decision_kinds)
    rolling = Rolling(writer.rolling)
    outcomes, decision_rows, facts = writer.outcomes, writer.decisions, rolling.facts
    decision_kinds, told_of = kinds.of, kinds.told
    peak = 0
    pause = 0  # the next event after which more is done than rows made
    # Any, and tuples of it: compiled, what only goes into rows is not unboxed and boxed again
    outcome: Any
    fields: tuple[Any, ...]
    of_decision: tuple[Any, ...]
    found: Any
    kind: Any
    for events in trace.event_chunks():
        writer.read(events)
        for event in events:
            call = event[5]
            if call == "exit" and event.mm in world.mms and len(event.args) > 2 and event.args[2]:
                writer.lost_merges += lost_merge_values(world.mms[event.mm], event.seq - 1)
            outcome = world.apply(event)
            fields = outcome
            seq, number, decisions, count, result, errno, divergence = fields
            changes = lives.after(seq, call, number)
            decided: tuple[Any, ...] = ()
            if decisions:
                for n, decision in enumerate(decisions, 1):
                    of_decision = decision
                    api, action, vm_start, vm_end, case, prev, nxt, _, _, _, sure = of_decision
                    found = decision_kinds.get((api, action, case, prev, nxt, sure))
                    if found is None:
                        found = kinds.decision(decision)
                    decided += (found,)
                    decision_rows += (seq, n, number, vm_start, vm_end, found)
            told = told_of.get(decided)
            if told is None:
                told = kinds.outcome(decided, decisions)
            told.seen += 1
            kind = told.kind
            if divergence is not None:
                summary.divergences += 1
                kind = kinds.number(told, divergence)
            outcomes += (seq, number, count, kind)
            if changes or told.cases or result != event[7] or errno != event[8]:
                facts.append((seq, number, told.cases, errno, result, count, changes))
            if count > peak:
                peak = summary.peak = count
                summary.peak_seq, summary.peak_mm = seq, number
            if seq >= pause:
                if seq >= spacing.look_at and spacing.due(seq, world):
                    writer.snapshots += snapshots.take(seq, hash_of(seq), world)
                if not seq % RUN:
                    rolling.end_run(seq)
                    writer.settle()
                    if progress is not None and seq % 5000 == 0:
                        progress(seq)
                pause = min(spacing.look_at, seq - seq % RUN + RUN)
        summary.events += len(events)
    rolling.end_run(summary.events)
    lives.finish()
    kinds.forget()
    summary.merges, summary.splits, summary.assumed = kinds.merges, kinds.splits, kinds.assumed


def lost_merge_values(mm: Mm, seq: int) -> list[Any]:
    """mm, boundary, seq, left_start, right_end, reason of all adjacent VMAs that are not one, in one list."""
    values: list[Any] = []
    for vma in mm.vmas():
        nxt = vma.next
        if nxt is not mm.tail and vma.vm_end == nxt.vm_start:
            reason = why_apart(mm, vma, nxt)
            values += (mm.number, vma.vm_end, seq, vma.vm_start, nxt.vm_end, reason.text)
    return values
