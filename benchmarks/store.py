"""`python -m benchmarks.store [--quick] [--json]`: what the store costs, beside sqlite3 alone in the same run.

Bytes an event (its chain hash included, no derived data), one batch, single appends with p50/p95/p99. The
baseline writes the same columns to the same kind of table with the same pragmas, and does nothing else: no
chain, no names, no address spaces, no check of the version.
"""

from __future__ import annotations

import argparse
import gc
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.stream import calls
from vmastore.events import Event, TraceHeader
from vmastore.events.codec import encode_args
from vmastore.store import open_store

HEADER = TraceHeader("bench", "benchmarks", "strace", "6.18.44", None, {}, "recorded")
START_NS = 1_795_523_443_000_000_000
_TABLE = (
    "CREATE TABLE event (trace INTEGER NOT NULL, seq INTEGER NOT NULL, mm INTEGER, pid INTEGER, tid INTEGER,"
    " ts_ns INTEGER, call INTEGER, args TEXT, result INTEGER, errno INTEGER, file INTEGER, injected INTEGER,"
    " site INTEGER, source_line INTEGER, source_offset INTEGER, hash BLOB, PRIMARY KEY (trace, seq)) WITHOUT ROWID"
)
_INSERT = "INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"


def events(number: int) -> list[Event]:
    """Calls as an import gives them: times, threads, lines and offsets of a log."""
    found = []
    for seq, (name, args, result) in enumerate(calls(number - 1000, 1000), 1):
        given: tuple[Any, ...] = (*args, "w", None, "user") if name == "fault" else args
        when, place = START_NS + seq * 13_577, (seq, seq * 97)
        found.append(Event(seq, 1, 7000, 7000 + seq % 4, when, name, given, result, 0, None, False, None, *place))
    return found


def rows(stream: Sequence[Event]) -> list[tuple[Any, ...]]:
    """The same as the baseline stores them; the hash is 16 bytes that cost nothing."""
    names: dict[str, int] = {}
    return [
        (1, e.seq, e.mm, e.pid, e.tid, e.ts_ns, names.setdefault(e.call, len(names)), encode_args(e.args), e.result,
         e.errno, e.file, 0, None, e.source_line, e.source_offset, e.seq.to_bytes(16, "little"))
        for e in stream
    ]  # fmt: skip


def bare(place: Path) -> sqlite3.Connection:
    """sqlite3 with the store's pragmas and one table like its own."""
    connection = sqlite3.connect(place, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(_TABLE)
    return connection


def timed(job: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one run, by the clock and of the processor (what a busy machine leaves comparable)."""
    gc.collect()
    start = (time.perf_counter(), time.process_time())
    job()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def size(place: Path) -> int:
    """Bytes of a database with its WAL written back."""
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return place.stat().st_size


def batch(folder: Path, stream: Sequence[Event], runs: int) -> dict[str, float]:
    """One append of all events, beside one executemany: events per second, bytes an event."""
    shown = rows(stream)
    ours, base, numbers = [], [], count()
    empty = folder / "empty.db"
    open_store(empty).close()
    for _ in range(runs):
        mine, theirs = (folder / f"batch{next(numbers)}.db" for _ in range(2))
        with open_store(mine) as store:
            trace = store.create_trace(HEADER).trace
            ours.append(timed(lambda: store.append(trace, stream, expected_version=0)))  # noqa: B023
        with closing(bare(theirs)) as connection:

            def write() -> None:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_INSERT, shown)
                connection.execute("COMMIT")

            base.append(timed(write))
    (clock, cpu), (base_clock, base_cpu) = (
        map(statistics.median, zip(*times, strict=True)) for times in (ours, base)
    )
    return {
        "events": len(stream),
        "per_second": round(len(stream) / clock),
        "per_cpu_second": round(len(stream) / cpu),
        "baseline_per_second": round(len(stream) / base_clock),
        "baseline_per_cpu_second": round(len(stream) / base_cpu),
        "bytes_an_event": round((size(mine) - size(empty)) / len(stream), 1),
        "baseline_bytes_an_event": round(size(theirs) / len(stream), 1),
    }


def single(folder: Path, stream: Sequence[Event]) -> dict[str, float]:
    """Events appended one by one, a transaction each, the two in turn; µs at the 50th, 95th and 99th percentile."""
    shown = rows(stream)
    ours, base = [], []
    with open_store(folder / "single.db") as store, closing(bare(folder / "bare.db")) as connection:
        trace = store.create_trace(HEADER).trace
        cpu = [0.0, 0.0]
        for n, event in enumerate(stream):
            start, began = time.perf_counter(), time.process_time()
            store.append(trace, (event,), expected_version=n)
            middle, halfway = time.perf_counter(), time.process_time()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT, shown[n])
            connection.execute("COMMIT")
            base.append(time.perf_counter() - middle)
            cpu = [cpu[0] + halfway - began, cpu[1] + time.process_time() - halfway]
            ours.append(middle - start)
    result: dict[str, float] = {"events": len(stream)}
    for name, times, busy in (("", ours, cpu[0]), ("baseline_", base, cpu[1])):
        times.sort()
        result[f"{name}per_second"] = round(len(times) / sum(times))
        result[f"{name}per_cpu_second"] = round(len(times) / busy)
        for percent in (50, 95, 99):
            result[f"{name}p{percent}_us"] = round(times[len(times) * percent // 100] * 1e6, 1)
    return result


def run(quick: bool) -> dict[str, dict[str, float]]:
    """All figures by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            "one batch": batch(folder, events(5_000 if quick else 200_000), 1 if quick else 5),
            "single appends": single(folder, events(1_500 if quick else 20_000)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; figures mean little")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    results = run(options.quick)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for name, figures in results.items():
        print(f"{name:<16} " + "  ".join(f"{key} {value:,}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
