"""Points in time on long traces: `at(n)` from snapshots beside the linear replay, in the same run.

`python -m benchmarks.points [--events N]` makes stores of a million events and takes minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.stream import calls
from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import open_store
from vmastore.store.snapshots import places

HEADER = TraceHeader("bench", "benchmarks", "jsonl", "6.18.44", None, {"max_map_count": 1 << 30}, "recorded")
RULES = preset("6.18")
_BATCH = 50_000
_LINEAR = 3  # moments at which the baseline is measured: each costs a whole replay


def stream(count: int, live: int) -> Iterator[Event]:
    """`count` events of one address space, the first `live` of them its mappings."""
    for seq, (name, args, result) in enumerate(islice(calls(count, live), count), 1):
        shown: tuple[Any, ...] = (*args, "w", None, "user") if name == "fault" else args
        yield Event(seq, 1, 7, 7, None, name, shown, result, 0)


def filled(path: Path, count: int, live: int) -> StoredTrace:
    """A store with one trace of `count` events on `live` mappings."""
    store = open_store(path)
    info = store.create_trace(HEADER)
    events = stream(count, live)
    while batch := list(islice(events, _BATCH)):
        store.append(info.trace, batch)
    return StoredTrace(store, store.trace(info.trace))


def timed(trace: StoredTrace, seqs: list[int]) -> list[float]:
    """Milliseconds of `at` for each moment, shortest first."""
    found = []
    for seq in seqs:
        start = time.perf_counter()
        trace.at(seq, RULES)
        found.append((time.perf_counter() - start) * 1000)
    return sorted(found)


def points(count: int, live: int, probes: int, folder: Path) -> dict[str, float]:
    """Milliseconds at random moments, the linear replay to some of them first (before there are snapshots)."""
    trace = filled(folder / f"points{live}.db", count, live)
    rng = random.Random(live)
    seqs = [rng.randrange(live, count) + 1 for _ in range(probes)]
    linear = timed(trace, seqs[:_LINEAR])
    start = time.perf_counter()
    replay = derive(trace, RULES)[1].replay
    derived = time.perf_counter() - start
    found = timed(trace, seqs)
    kept = places(trace.store, replay)
    trace.store.close()
    return {
        "p50_ms": round(found[len(found) // 2], 1),
        "p95_ms": round(found[int(len(found) * 0.95)], 1),
        "p99_ms": round(found[int(len(found) * 0.99)], 1),
        "linear_ms": round(linear[len(linear) // 2], 1),
        "events": count,
        "live": live,
        "snapshots": len(kept),
        "snapshot_MiB": round(sum(size for _, size in kept) / (1 << 20), 1),
        "derive_s": round(derived, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.points", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--live", type=int, nargs="*", default=[1_000, 65_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for live in options.live:
            print(json.dumps(points(options.events, live, options.probes, Path(name))), flush=True)


if __name__ == "__main__":
    main()
