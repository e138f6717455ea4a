"""The derived data of a replay, made in one pass: outcomes, decisions, VMA lifetimes, lost merges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from vmastore.bulk import bulk_work
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Reason
from vmastore.mm.rules import RuleSet
from vmastore.replay.lifetimes import Change, Lifetimes
from vmastore.replay.rolling import Rolling
from vmastore.replay.snapshots import Snapshots, Spacing, options_key
from vmastore.replay.trace import StoredTrace
from vmastore.replay.why import why_apart
from vmastore.replay.world import Outcome, World
from vmastore.store.derived import ReplayWriter
from vmastore.version import engine

_SETTLE = 500  # events between looks at how many rows wait


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
        lives = Lifetimes(world, writer.replay, writer.vmas)
        rolling = Rolling()
        for events in trace.event_chunks():
            writer.read(events)
            for event in events:
                if event.call == "exit" and event.mm in world.mms and len(event.args) > 2 and event.args[2]:
                    for row in lost_merge_rows(world.mms[event.mm], event.seq - 1):
                        writer.lost_merges.append((writer.replay, *row))
                outcome = world.apply(event)
                changes = lives.after(event)
                _rows(writer, summary, outcome, rolling, changes)
                if event.seq >= spacing.look_at and spacing.due(event.seq, world):
                    writer.snapshots.append((writer.replay, *snapshots.take(event.seq, world)))
                if not event.seq % _SETTLE:
                    writer.settle()
                    if progress is not None and event.seq % 5000 == 0:
                        progress(event.seq)
        lives.finish()
        for mm in world.mms.values():
            for row in lost_merge_rows(mm, summary.events):
                writer.lost_merges.append((writer.replay, *row))
        writer.events, writer.peak_seq = summary.events, summary.peak_seq
        summary.inferred = world.env.inferred
    return world, summary


def _rows(writer: ReplayWriter, summary: Summary, outcome: Outcome, rolling: Rolling, changes: list[Change]) -> None:
    """The rows of one outcome and its decisions, and the sums: one pass, since it runs once an event."""
    replay, seq, mm, count = writer.replay, outcome.seq, outcome.mm, outcome.map_count
    merges = splits = 0
    cases = ""
    certain = True
    for n, decision in enumerate(outcome.decisions, 1):
        api, action, vm_start, vm_end, case, prev, nxt, _, _, _, sure = decision
        if not sure:
            certain = False
        if action == "merge":
            merges += 1
            cases = f"{cases}+{case}" if cases else case
            summary.merges[case] = summary.merges.get(case, 0) + 1
        elif action == "split":
            splits += 1
            cases = f"{cases}+split" if cases else "split"
        why_prev = None if prev is None else _text(prev)
        why_next = None if nxt is None else _text(nxt)
        row = (replay, seq, n, mm, api, action, vm_start, vm_end, case, why_prev, why_next, 1 if sure else 0)
        writer.decisions.append(row)
    divergence = outcome.divergence
    value = rolling.add(outcome, cases, changes)
    writer.outcomes.append((replay, seq, mm, merges, splits, cases, count, 1 if certain else 0, divergence, value))
    summary.events += 1
    summary.splits += splits
    if not certain:
        summary.assumed += 1
    if divergence is not None:
        summary.divergences += 1
    if count > summary.peak:
        summary.peak, summary.peak_seq, summary.peak_mm = count, seq, mm


@lru_cache(maxsize=4096)
def _text(reason: Reason) -> str:
    return reason.text


def lost_merge_rows(mm: Mm, seq: int) -> list[tuple[Any, ...]]:
    """(mm, boundary, seq, left_start, right_end, reason) of adjacent VMAs that are not one."""
    rows = []
    for vma in mm.vmas():
        nxt = vma.next
        if nxt is not mm.tail and vma.vm_end == nxt.vm_start:
            reason = why_apart(mm, vma, nxt)
            rows.append((mm.number, vma.vm_end, seq, vma.vm_start, nxt.vm_end, reason.text))
    return rows
