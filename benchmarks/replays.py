"""Replay from the store, beside the engine alone; with derived data written; memory of a replay."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from benchmarks.engine import HEADER, RULES, to_events
from benchmarks.imports import peak
from benchmarks.measure import BUILD, Timed, cpu, pair
from benchmarks.rows import Goal, Row
from benchmarks.stream import calls
from vmastore.bulk import bulk_work
from vmastore.events import Event
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.replay.world import World
from vmastore.store import open_store
from vmastore.store.derived import drop, stored_replays

_BATCH = 50_000


def filled(path: Path, events: list[Event]) -> StoredTrace:
    """A store with one trace of these events."""
    store = open_store(path)
    info = store.create_trace(HEADER)
    rest = iter(events)
    while batch := list(islice(rest, _BATCH)):
        store.append(info.trace, batch)
    return StoredTrace(store, store.trace(info.trace))


def replay(trace: StoredTrace, stop: int | None = None) -> World:
    """The world after event `stop` (None: the last), from the first event on: `trace.at` would use snapshots."""
    world = trace.world(RULES)
    apply = world.apply
    with bulk_work():
        for event in trace.events(1, stop):
            apply(event)
    return world


def rows(quick: bool, folder: Path) -> list[Row]:
    """Replay at 1 k, and the same with its outcomes and lifetimes written."""
    runs, count = (2, 4_000) if quick else (5, 100_000)
    events = to_events(list(calls(count, 1_000)))
    trace = filled(folder / "replay.db", events)
    derive(trace, RULES)  # the first replay packs the events: later ones read the chunks

    def alone() -> Timed:
        return len(events), cpu(lambda: replay(trace))

    def engine() -> Timed:
        world = World(HEADER, {}, RULES)

        def fold() -> None:
            for event in events:
                world.apply(event)

        with bulk_work():
            return len(events), cpu(fold)

    def written() -> Timed:
        with trace.store._write() as connection:  # nothing to replace: what is timed is writing
            for found in stored_replays(trace.store):
                drop(connection, found.replay)
        return len(events), cpu(lambda: derive(trace, RULES))

    found = []
    for key, job, against, goal, ours, base in (
        (
            "replay-1k",
            "replay from the store, packed events, 1 k live",
            "the engine alone",
            Goal("ours", least=250_000),
            alone,
            engine,
        ),
        ("derived", "replay with derived data written", "replay alone", Goal("ratio", least=0.4), written, alone),
    ):
        figures = pair(runs, ours, base)
        more = figures | {"events": len(events)}
        found.append(
            Row(
                key,
                job,
                "events/s",
                figures["rate"],
                figures["baseline"],
                against,
                figures["ratio"],
                [goal],
                BUILD,
                more,
            )
        )
    trace.store.close()
    return [*found, memory(2_000 if quick else 65_000, folder)]


_REPLAY = (
    "import sys; from pathlib import Path; from benchmarks.replays import replayed_peak\n"
    "print(replayed_peak(Path(sys.argv[1])))"
)
_CEILING = 100  # MiB, beside 1 KB a live VMA


def replayed_peak(path: Path) -> float:
    """MiB at the peak of this process, after a replay of trace 1 of a store."""
    with open_store(path) as store:
        replay(StoredTrace(store, store.trace(1)))
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def memory(live: int, folder: Path) -> Row:
    """Peak of a replay in a process of its own, beside one of a single mapping."""
    peaks, vmas = [], []
    for count in (1, live):
        path = folder / f"memory-replay{count}.db"
        trace = filled(path, to_events(list(calls(2 * count, count))))
        vmas.append(replay(trace).mms[1].map_count)
        trace.store.close()
        peaks.append(peak(_REPLAY, str(path)))
    allowed = _CEILING + vmas[1] / 1024
    more = {
        "vmas": vmas[1],
        "bytes_a_vma": round((peaks[1] - peaks[0]) * (1 << 20) / (vmas[1] - vmas[0])),
        "allowed_MiB": round(allowed, 1),
        "of_allowed": round(peaks[1] / allowed, 3),
    }
    return Row(
        "memory-replay", f"memory of a replay, {vmas[1]:,} VMAs", "MiB", round(peaks[1], 1), round(peaks[0], 1),
        "one mapping", round(peaks[1] / peaks[0], 3), [Goal("of_allowed", most=1)], BUILD, more,
    )  # fmt: skip
