"""`python -m benchmarks.counted`: what the jobs take, counted and not timed, beside limits that guard them.

Bytecode instructions run, SQL statements and rows, events replayed, blocks and bytes of memory, bytes of the store:
the same on every machine, whatever else it does. The limits leave room for other versions of Python and for honest
new work (1.3 to 2 times what was counted in November 2026), but not for another complexity.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from sqlalchemy import event as sqlalchemy_event

from benchmarks import points
from benchmarks.bisection import by_snapshots
from benchmarks.engine import HEADER, RULES, to_events
from benchmarks.replays import filled
from benchmarks.store import size
from benchmarks.stream import calls, log
from vmastore.events import Event
from vmastore.importers.detect import open_traces
from vmastore.replay.derive import derive
from vmastore.replay.snapshots import LEAST
from vmastore.replay.trace import StoredTrace
from vmastore.replay.world import World
from vmastore.store import Store, open_store


class Count(NamedTuple):
    """What was counted, and the most that it may be."""

    name: str
    value: float
    most: float

    @property
    def within(self) -> bool:
        """Whether it is not more."""
        return self.value <= self.most


def instructions(job: Callable[[], object]) -> int:
    """Bytecode instructions that Python code runs in a call; what C code does is not counted."""
    count = 0

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        return local

    def entered(frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    before, collecting = sys.gettrace(), gc.isenabled()
    gc.disable()  # when it runs, and what it calls, is not the job's
    sys.settrace(entered)
    try:
        job()
    finally:
        sys.settrace(before)
        if collecting:
            gc.enable()
    return count


@contextmanager
def statements(store: Store) -> Iterator[list[int]]:
    """The SQL statements executed on a store meanwhile: the rows that each was given (1 for a single one)."""
    found: list[int] = []

    def seen(conn: Any, cursor: Any, statement: str, given: Any, context: Any, many: bool) -> None:
        found.append((len(given) if many else 1) * (statement.count("),(") + 1))

    sqlalchemy_event.listen(store.engine, "before_cursor_execute", seen)
    try:
        yield found
    finally:
        sqlalchemy_event.remove(store.engine, "before_cursor_execute", seen)


class Watched(StoredTrace):
    """A stored trace that counts the events read from it."""

    passed = 0

    def events(self, start: int = 1, stop: int | None = None) -> Iterator[Event]:
        for event in super().events(start, stop):
            self.passed += 1
            yield event


def _folded(live: int, count: int) -> tuple[float, World]:
    """(instructions an event, the world) of `count` events on `live` mappings."""
    events = to_events(list(calls(count, live)))
    world = World(HEADER, {}, RULES)
    world.mm(1).complete = True
    for event in events[:live]:
        world.apply(event)

    def fold() -> None:
        for event in events[live:]:
            world.apply(event)

    return instructions(fold) / count, world


def engine(folder: Path) -> list[Count]:
    """An event costs the same at 1 k as at 16 k VMAs (the bisections are C, and logarithmic)."""
    small, _ = _folded(1_000, 1_500)
    large, _ = _folded(16_000, 1_500)
    return [
        Count("engine: instructions an event, 1 k live", small, 680),
        Count("engine: times as many at 16 k live", large / small, 1.5),
    ]


def memory(folder: Path) -> list[Count]:
    """A live VMA takes blocks and bytes of its own; folding more events on the same VMAs takes none."""
    found = []
    world = World(HEADER, {}, RULES)
    world.mm(1).complete = True
    stream = to_events(list(calls(12_000, 4_000)))
    gc.collect()
    tracemalloc.start()
    try:
        before, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
        for event in stream[:4_000]:
            world.apply(event)
        gc.collect()
        taken, vmas = tracemalloc.get_traced_memory()[0] - before, world.mms[1].map_count
        found.append(Count("memory: bytes a live VMA", taken / vmas, 340))
        found.append(Count("memory: blocks a live VMA", (sys.getallocatedblocks() - blocks) / vmas, 6))
        for event in stream[4_000:]:
            world.apply(event)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        found.append(Count("memory: bytes a VMA after 12,000 more events", grown / world.mms[1].map_count, 380))
    finally:
        tracemalloc.stop()
    return found


def _log(folder: Path, count: int, threads: int) -> Path:
    path = folder / f"counted{count}-{threads}.strace"
    path.write_text("\n".join(log(count, 500, threads)) + "\n")
    return path


@contextmanager
def _importing(path: Path, batch: int = 500) -> Iterator[tuple[Store, Callable[[], int]]]:
    """(a new store, what imports the log into it and returns the events): what a new store costs is not counted."""
    with open_store(path.with_suffix(f".{batch}.db")) as store:
        reader = open_traces(path)[0]
        made = store.create_trace(reader.header)
        yield store, lambda: store.import_events(made, reader, batch=batch).events


def imports(folder: Path) -> list[Count]:
    """A call costs the same in a long log as in a short one."""
    found = []
    for threads, most in ((1, 500), (4, 650)):
        taken = []
        for count in (1_000, 4_000):
            with _importing(_log(folder, count, threads)) as (_, job):
                taken.append(instructions(job) / (count + 500))
        found.append(Count(f"import, {threads} threads: instructions a call", taken[1], most))
        found.append(
            Count(f"import, {threads} threads: times as many in a log 3 times as long", taken[1] / taken[0], 1.3)
        )
    return found


def batches(folder: Path) -> list[Count]:
    """A batch takes few statements and one row an event; an event, its chain hash included, few bytes."""
    path = _log(folder, 6_000, 1)
    taken, rows = [], []
    for batch in (500, 1_000):
        with _importing(path, batch) as (store, job):
            with statements(store) as found:
                events = job()
            place = Path(store.place)
        taken.append(len(found))
        rows.append(sum(found))
    empty = folder / "empty.db"
    open_store(empty).close()
    return [
        Count("import: statements a batch", (taken[0] - taken[1]) / (events / 500 - events / 1_000), 3),
        Count("import: rows an event beside its own", rows[1] / events, 0.02),
        Count("store: bytes an event", (size(place) - size(empty)) / events, 105),
    ]


def import_memory(folder: Path) -> list[Count]:
    """What an import keeps does not grow with its log."""
    peaks = []
    for count in (8_000, 24_000):
        with _importing(_log(folder, count, 1)) as (_, job):
            gc.collect()
            tracemalloc.start()
            try:
                job()
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    return [Count("import: peak of memory, times that of a log 3 times as short", peaks[1] / peaks[0], 1.5)]


def replays(folder: Path) -> list[Count]:
    """A stored event is read at the same cost in a long trace; derived rows go in many to a statement."""
    taken = []
    for count in (2_000, 8_000):
        trace = filled(folder / f"replay{count}.db", to_events(list(calls(count, 500))))
        taken.append(instructions(lambda: _drain(trace.events())) / trace.info.events)  # noqa: B023
        with statements(trace.store) as found:
            derive(trace, RULES)
        rows, executed = sum(found), len(found)
        trace.store.close()
    return [
        Count("reading: instructions an event", taken[1], 180),
        Count("reading: times as many in a trace 3 times as long", taken[1] / taken[0], 1.3),
        Count("derived: statements in 1,000 events", executed / trace.info.events * 1_000, 10),
        Count("derived: rows an event", rows / trace.info.events, 5),
    ]


def deriving(folder: Path) -> list[Count]:
    """Writing an event's outcome, decisions and lifetimes costs the same at 4 k VMAs as at 500."""
    taken = []
    for live in (500, 4_000):
        trace = filled(folder / f"deriving{live}.db", to_events(list(calls(1_000, live))))
        taken.append(instructions(lambda: derive(trace, RULES)) / trace.info.events)  # noqa: B023
        trace.store.close()
    return [
        Count("derived: instructions an event", taken[0], 2_000),
        Count("derived: times as many at 4 k live", taken[1] / taken[0], 1.5),
    ]


def _drain(events: Iterable[Event]) -> None:
    for _ in events:
        pass


def points_in_time(folder: Path) -> list[Count]:
    """Far into a trace, a moment costs one state and the events after it; a bisection log2(events / LEAST) states."""
    filled_ = points.filled(folder / "points.db", 16_000, 200)
    trace = Watched(filled_.store, filled_.info)
    derive(trace, RULES)
    worst = 0
    for seq in (2_500, 9_999, 15_999):
        trace.passed = 0
        trace.at(seq, RULES)
        worst = max(worst, trace.passed)
    trace.passed = 0
    work = by_snapshots(trace)
    passed = trace.passed
    trace.store.close()
    return [
        Count("point in time: events replayed", worst, 1.1 * LEAST),
        Count("bisect: states loaded", work["states"], 9),  # log2(16), both ends, and one to begin the pass
        Count("bisect: events replayed", passed, 1.5 * LEAST),  # the pass, its explanation, the last state
    ]


PROBES: dict[str, Callable[[Path], list[Count]]] = {
    "engine": engine,
    "memory": memory,
    "imports": imports,
    "batches": batches,
    "import memory": import_memory,
    "replays": replays,
    "deriving": deriving,
    "points in time": points_in_time,
}


def main() -> int:
    """Prints every count. Returns 1 where one is more than it may be."""
    over = 0
    for probe in PROBES.values():
        with tempfile.TemporaryDirectory() as folder:
            for name, value, most in probe(Path(folder)):
                over += value > most
                print(f"{'' if value <= most else 'OVER  '}{name}: {value:,.2f} (at most {most:,g})")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
