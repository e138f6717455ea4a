"""`python -m benchmarks [--quick] [--json]`: every figure beside its baseline, runs interleaved, medians."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import vmastore.replay.derive as derive_module
from benchmarks.bare import bare_engine, bare_import
from benchmarks.stream import Call, calls, log
from vmastore.bulk import bulk_work
from vmastore.events import Event, TraceHeader
from vmastore.importers.detect import open_traces
from vmastore.mm import mm as mm_module
from vmastore.mm.rules import preset
from vmastore.replay.trace import StoredTrace
from vmastore.replay.world import World
from vmastore.store import open_store
from vmastore.version import VERSION

RESULTS = Path(__file__).parent / "results"  # ignored by git
HEADER = TraceHeader("bench", "benchmarks", "jsonl", "6.18.44", None, {"max_map_count": 1 << 30}, "recorded")


def pair(runs: int, ours: Callable[[], int], base: Callable[[], int]) -> dict[str, float]:
    """Rates (work per second of CPU time) of the two, run in turn: medians, and the median of the ratios.

    CPU time: what other programs take of the machine counts for neither.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for job, found in zip((ours, base), rates, strict=True):
            gc.collect()
            start = time.process_time()
            work = job()
            found.append(work / (time.process_time() - start))
    ratios = [a / b for a, b in zip(*rates, strict=True)]
    return {
        "rate": round(statistics.median(rates[0])),
        "p95": round(sorted(rates[0])[int(len(rates[0]) * 0.05)]),  # the rate that 95 % of the runs reach
        "baseline": round(statistics.median(rates[1])),
        "ratio": round(statistics.median(ratios), 3),
    }


def to_events(stream: list[Call]) -> list[Event]:
    """The stream as events of one address space, the faults among them."""
    found = []
    for seq, (name, args, result) in enumerate(stream, 1):
        shown: tuple[Any, ...] = (*args, "w", None, "user") if name == "fault" else args
        found.append(Event(seq, 1, 7, 7, None, name, shown, result, 0))
    return found


def fold(events: list[Event]) -> int:
    """The engine alone, full rules, outcomes and reasons. Returns the events folded."""
    world = World(HEADER, {}, preset("6.18"))
    world.mm(1).complete = True
    gc.disable()
    for event in events:
        world.apply(event)
    gc.enable()
    return len(events)


def engine(runs: int, count: int, live: int, hot: int | None = None) -> dict[str, float]:
    stream = list(calls(count, live, hot=hot))
    events = to_events(stream)
    skip = live  # both do the first mappings too; they are part of the work
    result = pair(runs, lambda: fold(events), lambda: (bare_engine(stream), len(stream))[1])
    return {**result, "events": len(events), "live": skip}


def imports(runs: int, count: int, threads: int, folder: Path) -> dict[str, float]:
    path = folder / f"log{threads}.strace"
    path.write_text("\n".join(log(count, 1000, threads)) + "\n")
    numbers = iter(range(1 << 30))

    def ours() -> int:
        with open_store(folder / f"o{threads}-{next(numbers)}.db") as store:
            reader = open_traces(path)[0]
            return store.import_events(store.create_trace(reader.header), reader).events

    return pair(runs, ours, lambda: bare_import(str(path), str(folder / f"b{threads}-{next(numbers)}.db"), threads))


def replays(runs: int, count: int, live: int, folder: Path) -> dict[str, dict[str, float]]:
    """Replay from the store, and the same with its outcomes and lifetimes written."""
    events = to_events(list(calls(count, live)))
    results = {}
    with open_store(folder / "replay.db") as store:
        info = store.create_trace(HEADER)
        store.append(info.trace, events)
        trace = StoredTrace(store, store.trace(info.trace))

        def alone() -> int:
            world = trace.world(preset("6.18"))  # all of it: `trace.at` would begin at a snapshot
            with bulk_work():
                for event in trace.events():
                    world.apply(event)
            return len(events)

        def written() -> int:
            derive_module.derive(trace, preset("6.18"))
            return len(events)

        results["replay from the store"] = pair(runs, alone, lambda: fold(events))
        results["replay with derived data written"] = pair(runs, written, alone)
    return results


def start_up(runs: int) -> dict[str, dict[str, float]]:
    """Seconds of a whole process, beside `python -c pass`."""
    binary = str(Path(sys.executable).with_name("vmastore"))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "s.db")
        open_store(store).close()
        for words in (["--version"], ["sql", "select 1", "--store", store]):
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(runs):
                for command, found in zip(([binary, *words], [sys.executable, "-c", "pass"]), times, strict=True):
                    start = time.perf_counter()
                    subprocess.run(command, check=True, capture_output=True)
                    found.append(time.perf_counter() - start)
            name = f"start-up: {' '.join(words[:2])}"
            results[name] = {
                "seconds": round(statistics.median(times[0]), 3),
                "baseline": round(statistics.median(times[1]), 3),
            }
    return results


def memory(count: int, folder: Path) -> dict[str, float]:
    """Peak memory (MiB) of importing a log, and one four times as long, each in a process of its own.

    VmHWM, not ru_maxrss: that one begins with what the parent had at the fork.
    """
    code = (
        "import sys; from vmastore.store import open_store\n"
        "from vmastore.importers.detect import open_traces\n"
        "with open_store(sys.argv[2]) as s:\n"
        "    r = open_traces(sys.argv[1])[0]; s.import_events(s.create_trace(r.header), r)\n"
        "print(next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) // 1024)"
    )
    peaks = []
    for factor in (1, 4):
        path = folder / f"mem{factor}.strace"
        path.write_text("\n".join(log(count * factor, 1000)) + "\n")
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(folder / f"mem{factor}.db")],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    return {"MiB": peaks[0], "MiB, four times the log": peaks[1]}


def run(quick: bool) -> dict[str, dict[str, float]]:
    """All figures by name."""
    runs, count = (2, 4_000) if quick else (5, 100_000)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results["import, one thread"] = imports(runs, count, 1, folder)
        results["import, four threads"] = imports(runs, count, 4, folder)
        results["engine, 1 k live"] = engine(runs, count, 1_000)
        if not quick:
            results["engine, 65 k live"] = engine(runs, count, 65_000)
            results["engine, 65 k live, work in 1 k"] = engine(runs, count, 65_000, hot=1_000)
        results.update(replays(runs, count, 1_000, folder))
        results.update(start_up(runs if quick else 10))
        results["memory of import"] = memory(count, folder)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; figures mean little")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    results = run(options.quick)
    machine = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "sqlite": sqlite3.sqlite_version,
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "vmastore": VERSION,
        "compiled": not mm_module.__file__.endswith(".py"),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}{'-quick' if options.quick else ''}.json"
    kept.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    if options.json:
        print(json.dumps({"machine": machine, "results": results}, indent=1))
        return
    print(f"Python {machine['python']}, {machine['cores']} cores; medians; rates per second; ratio = ours / baseline")
    for name, figures in results.items():
        print(f"{name:<36} " + "  ".join(f"{key} {value:,}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
