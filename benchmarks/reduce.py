"""How long a reduction takes: `python -m benchmarks.reduce [--quick]`, one JSON document.

100,000 calls on 1,000 small mappings, reduced for an outcome near the end that few of them matter to.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from typing import Any

from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.isolate import isolate
from vmastore.replay.memory import MemoryTrace, answered
from vmastore.replay.predicate import parse
from vmastore.replay.reduce import Goal, KernelGoal, PredicateGoal, reduce_trace

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


def measure(count: int) -> dict[str, Any]:
    """Seconds of isolating and of reducing, and what is left, for each goal."""
    new = preset("6.18")
    made = trace(count, count // 100)
    start = time.perf_counter()
    alone = isolate(made, made.events, new, [1]).trace
    results: dict[str, Any] = {"events": count, "isolate": round(time.perf_counter() - start, 3)}
    late = count * 9 // 10
    goals: dict[str, Goal] = {
        "kernels": KernelGoal(preset("6.12"), new),
        "late split": PredicateGoal(parse(f"splits > 1 and seq > {late}"), new),
        "errno": PredicateGoal(parse(f"errno ENOMEM and splits > 0 and seq > {late}"), new),
    }
    for name, goal in goals.items():
        start = time.perf_counter()
        done = reduce_trace(alone, goal, new)
        assert done is not None, name
        results[name] = {
            "seconds": round(time.perf_counter() - start, 3),
            "left": len(done.trace.events),
            "replays": done.replays,
            "replayed": done.replayed,
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reduce", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4,000 events; figures mean little")
    print(json.dumps(measure(4_000 if parser.parse_args().quick else 100_000), indent=1))


if __name__ == "__main__":
    main()
