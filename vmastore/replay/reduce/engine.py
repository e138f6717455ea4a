"""The steps of a reduction: cut, guess, remove, shrink, until nothing more goes; each checked by replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vmastore.events import Event
from vmastore.mm.rules import RuleSet
from vmastore.replay.memory import MemoryTrace, numbered
from vmastore.replay.reduce.goals import Goal
from vmastore.replay.reduce.remove import one_minimal
from vmastore.replay.reduce.shrink import shrink
from vmastore.replay.reduce.slices import slices


@dataclass
class Reduced:
    """trace: what is left. events: how many there were. replays, replayed: the work, in tests and events."""

    trace: MemoryTrace
    events: int
    replays: int
    replayed: int


class _Counted:
    """The oracle, counting what it does."""

    def __init__(self, goal: Goal, trace: MemoryTrace) -> None:
        self.goal = goal
        self.trace = trace
        self.replays = 0
        self.replayed = 0

    def __call__(self, events: Sequence[Event]) -> int | None:
        at = self.goal.hit(self.trace, events)
        self.replays += 1
        self.replayed += len(events) if at is None else at + 1
        return at

    def shows(self, candidate: MemoryTrace) -> bool:
        """Whether a changed trace shows it, at its last event and not before."""
        self.replays += 1
        self.replayed += len(candidate.events)
        return self.goal.hit(candidate, candidate.events) == len(candidate.events) - 1


def reduce_trace(
    trace: MemoryTrace,
    goal: Goal,
    rules: RuleSet,
    progress: Callable[[str], None] | None = None,
) -> Reduced | None:
    """The smallest trace found that reaches the goal; None if the trace given does not.

    trace: isolated, its events without answers that replay predicts. The result is 1-minimal: without
    any one of its events it does not reach the goal.
    """
    say = progress or (lambda text: None)
    hit = _Counted(goal, trace)
    total = len(trace.events)
    at = hit(trace.events)
    if at is None:
        return None
    events = trace.events[: at + 1]
    say(f"shows at operation {at + 1} of {total}")
    for chosen in slices(trace, events, rules):
        candidate = [events[n] for n in chosen]
        at = hit(candidate)
        if at is not None:
            events = candidate[: at + 1]
            say(f"{len(events)} operations that belong together show it")
            break
    trace = _lower_limit(MemoryTrace(trace.header, trace.files, events), hit)
    simplest: list[Event] | None = None
    while True:
        hit.trace = trace
        trace = MemoryTrace(trace.header, trace.files, one_minimal(trace.events, hit))
        say(f"{len(trace.events)} operations, of which none can go")
        if trace.events == simplest:
            break
        before = trace.events
        trace = shrink(trace, hit.shows)
        simplest = trace.events
        if simplest == before:
            break
    used = {event.file for event in trace.events}
    files = {number: info for number, info in trace.files.items() if number in used}
    done = MemoryTrace(trace.header, files, numbered(trace.events))
    return Reduced(done, total, hit.replays, hit.replayed)


def _lower_limit(trace: MemoryTrace, hit: _Counted) -> MemoryTrace:
    """Where the goal hangs on the map limit: under the lowest limit that still shows it.

    So few operations get to it; a program fills up the rest.
    """
    limit = trace.header.config.get("max_map_count", 65530)
    free = _limited(trace, 1 << 40)
    hit.trace = free
    if hit(free.events) is not None:
        config = {key: value for key, value in trace.header.config.items() if key != "max_map_count"}
        return MemoryTrace(trace.header._replace(config=config), trace.files, trace.events)
    for lower in (2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 512, 2048, 8192):
        if lower >= limit:
            break
        candidate = _limited(trace, lower)
        hit.trace = candidate
        at = hit(candidate.events)
        if at is not None:
            return MemoryTrace(candidate.header, trace.files, trace.events[: at + 1])
    hit.trace = trace
    return trace


def _limited(trace: MemoryTrace, limit: int) -> MemoryTrace:
    config = {**trace.header.config, "max_map_count": limit}
    return MemoryTrace(trace.header._replace(config=config), trace.files, trace.events)
