"""`python -m benchmarks.growth [--nightly] [--json FILE]`: how import, replay, points in time and bisection grow.

CPU time, the median of three, against the events (about 1,700 VMAs) and against the VMAs (50,000 events), and the
exponent of the power law that fits best, beside what is claimed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import points
from benchmarks.bisection import ONE, TWO, by_snapshots
from benchmarks.engine import RULES
from benchmarks.fit import Series
from benchmarks.imports import imported
from benchmarks.measure import BUILD, cpu, machine
from benchmarks.replays import replay
from benchmarks.stream import log
from vmastore.bulk import bulk_work
from vmastore.replay.bisect import first_parted
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import open_store

EVENTS = [10_000, 31_623, 100_000, 316_228, 1_000_000]
NIGHTLY = [10_000_000]
VMAS = [100, 316, 1_000, 3_162, 10_000, 31_623, 100_000]
_LIVE = 1_000  # where the events grow
_WORK = 50_000  # events, where the VMAs grow: those after the first mappings
_PROBES = 20  # moments of one measurement of points in time
_RUNS = 3

Claim = tuple[float | None, float]  # the least (None: any) and the most that an exponent may be
LINEAR: Claim = (0.9, 1.1)
CONSTANT: Claim = (None, 0.1)
LOGARITHM: Claim = (None, 0.25)  # what log2 looks like between 1e4 and 1e6
# what is claimed, by job: in events, in VMAs
CLAIMS: dict[str, tuple[Claim, Claim]] = {
    "import": (LINEAR, CONSTANT),
    "replay": (LINEAR, (None, 0.2)),  # a look-up takes the logarithm, and the processor's caches are finite
    "point in time": (CONSTANT, (None, 1.0)),  # one state, and the events after it
    "bisect for a property": (LOGARITHM, (None, 1.0)),  # log2(events) states
    "bisect for outcomes": (LOGARITHM, LOGARITHM),  # log2(events) look-ups; no state
}


def by_events(sizes: list[int], folder: Path) -> list[Series]:
    """Seconds of each job against the number of events."""
    found = {job: Series(job, "events", CLAIMS[job][0]) for job in CLAIMS}
    for count in sizes:
        print(f"{count:,} events …", file=sys.stderr, flush=True)
        found["import"].add(*_import(folder, count, _LIVE))
        trace = points.filled(folder / f"events{count}.db", count, _LIVE)
        found["replay"].add(count, _median(lambda: replay(trace)))  # noqa: B023
        for job, seconds in _stored(trace, _LIVE)[1].items():
            found[job].add(count, seconds)
        _drop(trace)
    return list(found.values())


def by_vmas(sizes: list[int], folder: Path) -> list[Series]:
    """Seconds of each job against the number of VMAs at the end; the import by the line."""
    found = {job: Series(job, "VMAs", CLAIMS[job][1]) for job in CLAIMS}
    for live in sizes:
        print(f"{live:,} mappings …", file=sys.stderr, flush=True)
        trace = points.filled(folder / f"vmas{live}.db", live + _WORK, live)
        replaying = median(_tail(trace, live) for _ in range(_RUNS))
        vmas, stored = _stored(trace, live)
        lines, importing = _import(folder, _WORK, live)
        for job, seconds in ({"import": importing / lines * _WORK, "replay": replaying} | stored).items():
            found[job].add(vmas, seconds)
        _drop(trace)
    return list(found.values())


def _median(job: Callable[[], object]) -> float:
    return median(cpu(job) for _ in range(_RUNS))


def _import(folder: Path, count: int, live: int) -> tuple[int, float]:
    """(lines, seconds) of importing a log of `live` mappings and `count` calls after them."""
    path, database = folder / "growth.strace", folder / "growth.db"
    lines = 0
    with path.open("w") as stream:
        for line in log(count, live):
            stream.write(line + "\n")
            lines += 1
    times = []
    for _ in range(_RUNS):
        open_store(database).close()  # what a new store costs is no part of the growth
        times.append(cpu(partial(imported, path, database)))
        database.unlink()
    path.unlink()
    return lines, median(times)


def _tail(trace: StoredTrace, live: int) -> float:
    """Seconds of the events after the first `live`, replayed from the store."""
    world = replay(trace, live)

    def rest() -> None:
        for event in trace.events(live + 1):
            world.apply(event)

    with bulk_work():
        return cpu(rest)


def _stored(trace: StoredTrace, live: int) -> tuple[int, dict[str, float]]:
    """(VMAs at the end, seconds by job) of what stands on stored replays."""
    world, _ = derive(trace, RULES)
    derive(trace, TWO.rules)
    rng = random.Random(live)
    seqs = [rng.randrange(live, trace.info.events) + 1 for _ in range(_PROBES)]

    def probes() -> None:
        for seq in seqs:
            trace.at(seq, RULES)

    return world.mms[1].map_count, {
        "point in time": _median(probes) / _PROBES,
        "bisect for a property": _median(lambda: by_snapshots(trace)),
        "bisect for outcomes": _median(lambda: first_parted(trace, ONE, TWO)),
    }


def _drop(trace: StoredTrace) -> None:
    """Close a store and free its place on the disk."""
    trace.store.close()
    Path(trace.store.place).unlink()


def measured(events: list[int], vmas: list[int]) -> dict[str, Any]:
    """Both families of curves."""
    about: dict[str, Any] = {"machine": machine(), "build": BUILD}
    with tempfile.TemporaryDirectory() as name:
        series = by_vmas(vmas, Path(name)) + by_events(events, Path(name))
    about["load_at_the_end"] = machine()["load"]
    return about | {"series": [one.to_json() for one in series]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--nightly", action="store_true", help="up to 10,000,000 events: an hour, and 4 GB of disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    options = parser.parse_args()
    about = measured(EVENTS + (NIGHTLY if options.nightly else []), VMAS)
    if options.json is not None:
        options.json.write_text(json.dumps(about, indent=1) + "\n")
    for shown in about["series"]:
        print(Series.from_json(shown).line())


if __name__ == "__main__":
    main()
