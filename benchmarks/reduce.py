"""How long a reduction takes.

100,000 calls on 1,000 small mappings, reduced for an outcome near the end that few of them matter to.
"""

from __future__ import annotations

import random

from benchmarks.measure import BUILD, cpu
from benchmarks.rows import Goal as Limit
from benchmarks.rows import Row
from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import RuleSet, preset
from vmastore.replay.isolate import isolate
from vmastore.replay.memory import MemoryTrace, answered
from vmastore.replay.predicate import parse
from vmastore.replay.reduce import Goal, KernelGoal, PredicateGoal, Reduced, reduce_trace

BASE, PAGE = 0x100000000000, 4096


def trace(count: int, slots: int) -> MemoryTrace:
    """Random calls, answered by replay under 6.18."""
    rng = random.Random(1)
    events = []
    for n in range(1, count + 1):
        start = BASE + rng.randrange(slots) * 16 * PAGE
        kind = rng.random()
        if kind < 0.3:
            call, args = "mmap", (start, rng.randint(1, 12) * PAGE, rng.choice((3, 3, 1)), 0x32, -1, 0)
        elif kind < 0.6:
            at = start + rng.randint(0, 6) * PAGE
            call, args = "mprotect", (at, rng.randint(1, 4) * PAGE, rng.choice((3, 1, 0)))
        elif kind < 0.75:
            call, args = "fault", (start + rng.randint(0, 8) * PAGE, PAGE, "w", None, "user")
        elif kind < 0.85:
            call, args = "munmap", (start + rng.randint(0, 8) * PAGE, rng.randint(1, 4) * PAGE)
        else:
            at = start + rng.randint(0, 8) * PAGE
            call, args = "madvise", (at, rng.randint(1, 3) * PAGE, rng.choice((14, 15, 16, 17)))
        events.append(Event(n, 1, 1, 1, None, call, args, None, 0))
    made = MemoryTrace(TraceHeader("bench", "", "jsonl", faults="recorded"), {}, events)
    made.events = answered(made, preset("6.18"))
    return made


def rows(quick: bool) -> list[Row]:
    """Seconds of CPU time of isolating an address space and of reducing it, for each goal, and what is left."""
    count = 4_000 if quick else 100_000
    new = preset("6.18")
    made = trace(count, count // 100)
    alone: list[MemoryTrace] = []
    isolating = cpu(lambda: alone.append(isolate(made, made.events, new, [1]).trace))
    late = count * 9 // 10
    goals: dict[str, Goal] = {
        "where two kernels part": KernelGoal(preset("6.12"), new),
        "a late split": PredicateGoal(parse(f"splits > 1 and seq > {late}"), new),
        "a late ENOMEM": PredicateGoal(parse(f"errno ENOMEM and splits > 0 and seq > {late}"), new),
    }
    found = [Row("isolate", f"isolate an address space, {count:,} events", "s", round(isolating, 2), build=BUILD)]
    for n, (name, goal) in enumerate(goals.items(), 1):
        results: list[Reduced] = []
        seconds = cpu(lambda: results.append(_done(alone[0], goal, new)))  # noqa: B023
        done = results[0]
        more = {"left": len(done.trace.events), "replays": done.replays, "replayed": done.replayed}
        found.append(
            Row(
                f"reduce-{n}", f"reduce {count:,} events to {name}", "s", round(seconds, 2),
                goals=[Limit("ours", most=60)], build=BUILD, more=more,
            )
        )  # fmt: skip
    return found


def _done(alone: MemoryTrace, goal: Goal, rules: RuleSet) -> Reduced:
    found = reduce_trace(alone, goal, rules)
    assert found is not None, goal
    return found
