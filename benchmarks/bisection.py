"""`python -m benchmarks.bisection [--quick] [--events N] [--json]`: bisection over stored replays, beside linear.

A stream of memory calls with about 1,000 live VMAs' worth of mappings and two late events of its
own: one maps a page elsewhere, the other asks for MAP_STACK, which a rule switch decides.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.__main__ import HEADER, to_events
from benchmarks.stream import calls
from vmastore.bulk import bulk_work
from vmastore.events import Event
from vmastore.mm.rules import preset
from vmastore.replay.bisect import PredicateJudge, Side, differences, first_parted, flips, look, search
from vmastore.replay.derive import derive
from vmastore.replay.predicate import parse
from vmastore.replay.trace import StoredTrace
from vmastore.store import open_store
from vmastore.store.store import batches

PLACE = 0x600000000000
SWITCH = "map-stack-nohugepage"


def stream(count: int, live: int) -> tuple[list[Event], int, int]:
    """(events, the one that maps PLACE, the one that the switch decides)."""
    events = to_events(list(calls(count, live)))
    mapped, stack = len(events) * 7 // 10, len(events) * 8 // 10
    for at, flags, addr in ((mapped, 0x32, PLACE), (stack, 0x20032, PLACE + (1 << 30))):
        events[at - 1] = Event(at, 1, 7, 7, None, "mmap", (addr, 4096, 3, flags, -1, 0), addr, 0)
    return events, mapped, stack


def timed(runs: int, job: Callable[[], int]) -> tuple[float, float]:
    """(median, worst) seconds of a job that must return the same each time."""
    times, found = [], set()
    for _ in range(runs):
        gc.collect()
        start = time.perf_counter()
        found.add(job())
        times.append(time.perf_counter() - start)
    assert len(found) == 1, found
    return statistics.median(times), max(times)


def measure(count: int, live: int, runs: int, folder: Path) -> dict[str, dict[str, float]]:
    """All figures; the answers are checked."""
    events, mapped, stack = stream(count, live)
    one = Side(preset("6.18"))
    two = Side(preset("6.18").with_rule(SWITCH, False))
    judge = PredicateJudge(parse(f"mapped {PLACE:#x}"))
    with open_store(folder / "bisection.db") as store:
        made = store.create_trace(HEADER)
        for chunk in batches(events, 5000):
            store.append(made.trace, chunk)
        trace = StoredTrace(store, store.trace(made.trace))
        last, vmas = trace.info.events, 0
        for side in (one, two):
            vmas = derive(trace, side.rules)[0].mms[1].map_count
        work: dict[str, float] = {}

        def by_snapshots() -> int:
            found = search(trace, one, judge, last)
            assert found is not None and found.flip.event.seq == mapped
            work.update(states=found.states, passed=found.passed)
            return look(trace, mapped, one.rules).event.seq

        def by_events() -> int:
            with bulk_work():
                return next(f for f in flips(one.world(trace), trace.events(1, last), judge) if f.holds).event.seq

        def by_hash() -> int:
            stored, seq = first_parted(trace, one, two)
            assert stored and seq == stack
            return seq

        def by_both() -> int:
            with bulk_work():
                return next(differences(one.world(trace), two.world(trace), trace.events(1, last))).event.seq

        fast, linear = timed(runs, by_snapshots), timed(max(1, runs // 3), by_events)
        outcome, both = timed(runs, by_hash), timed(max(1, runs // 3), by_both)
    return {
        "trace": {"events": last, "VMAs at the end": vmas},
        "predicate": _figures(fast, linear) | work,
        "outcome": _figures(outcome, both),
    }


def _figures(ours: tuple[float, float], linear: tuple[float, float]) -> dict[str, float]:
    return {
        "ms": round(ours[0] * 1000, 2),
        "ms, worst": round(ours[1] * 1000, 2),
        "ms, linear": round(linear[0] * 1000, 1),
        "times faster": round(linear[0] / ours[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bisection", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 events, few runs; figures mean little")
    parser.add_argument("--events", type=int, help="how many (1,000,000)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    count = options.events or (20_000 if options.quick else 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        results = measure(count, 1_000, 3 if options.quick else 9, Path(name))
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    if options.json:
        print(json.dumps({"machine": machine, "results": results}, indent=1))
        return
    print(f"Python {machine['python']}, {machine['cores']} cores, load {machine['load']:.1f}")
    for name, figures in results.items():
        print(f"{name:<12} " + "  ".join(f"{key} {value:,}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
