"""Points in time on long traces: `at(n)` from snapshots beside the linear replay, in the same run; saved queries too.

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

from benchmarks.stream import BASE, SLOT, calls
from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import open_store, query
from vmastore.store.library import LIBRARY
from vmastore.store.saved import complete
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


def points(count: int, live: int, probes: int, folder: Path) -> dict[str, Any]:
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
    asked = queries(trace)
    slowest = max(asked, key=lambda name: asked[name])
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
        "slowest_query": slowest,
        "slowest_query_ms": round(asked[slowest], 1),
        "queries_ms": {name: round(ms, 1) for name, ms in sorted(asked.items(), key=lambda i: -i[1])},
    }


def queries(trace: StoredTrace) -> dict[str, float]:
    """Milliseconds of each shipped query, at addresses and moments in the middle of the trace."""
    middle = trace.info.events // 2
    given: dict[str, object] = {
        "addr": BASE, "low": BASE, "high": BASE + 8 * SLOT, "first": middle, "last": middle + 20_000, "flag": "ac",
        "a": middle, "b": -1, "kernel": RULES.name, "against": RULES.name,
    }  # fmt: skip
    found = {}
    for name, query_ in LIBRARY.items():
        params = {key: value for key, value in given.items() if key in query_.parameters}
        start = time.perf_counter()
        _, rows = query(trace.store, query_.sql, complete(trace.store, query_, params))
        for _ in rows:
            pass
        found[name] = (time.perf_counter() - start) * 1000
    return found


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
