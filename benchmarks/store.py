"""What the store costs, beside sqlite3 alone in the same run.

Bytes an event (its chain hash included, no derived data), one batch, single appends with p50/p95/p99. The
baseline writes the same columns to the same kind of table with the same pragmas, and does nothing else: no
chain, no names, no address spaces, no check of the version.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.measure import Timed, cpu, pair, percentile
from benchmarks.rows import Goal, Row
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
_AGAINST = "sqlite3 alone"
_INSERT = "INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"


def events(number: int) -> list[Event]:
    """Calls as an import gives them: times, threads, lines and offsets of a log."""
    found = []
    for seq, (name, args, result) in enumerate(calls(number - 1000, 1000), 1):
        given: tuple[Any, ...] = (*args, "w", None, "user") if name == "fault" else args
        when, place = START_NS + seq * 13_577, (seq, seq * 97)
        found.append(Event(seq, 1, 7000, 7000 + seq % 4, when, name, given, result, 0, None, False, None, *place))
    return found


def bare_rows(stream: Sequence[Event]) -> list[tuple[Any, ...]]:
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


def size(place: Path) -> int:
    """Bytes of a database with its WAL written back."""
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return place.stat().st_size


def rows(quick: bool, folder: Path) -> list[Row]:
    """One batch and its bytes, then single appends."""
    return [
        *batch(folder, events(5_000 if quick else 200_000), 1 if quick else 5),
        single(folder, events(1_500 if quick else 20_000)),
    ]


def batch(folder: Path, stream: Sequence[Event], runs: int) -> list[Row]:
    """One append of all events, beside one executemany: events per second; bytes an event."""
    shown = bare_rows(stream)
    empty, mine, theirs = folder / "empty.db", folder / "batch.db", folder / "bare-batch.db"
    open_store(empty).close()

    def ours() -> Timed:
        mine.unlink(missing_ok=True)
        with open_store(mine) as store:
            trace = store.create_trace(HEADER).trace
            return len(stream), cpu(lambda: store.append(trace, stream, expected_version=0))

    def base() -> Timed:
        theirs.unlink(missing_ok=True)
        with closing(bare(theirs)) as connection:

            def write() -> None:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_INSERT, shown)
                connection.execute("COMMIT")

            return len(stream), cpu(write)

    figures = pair(runs, ours, base)
    taken = ((size(mine) - size(empty)) / len(stream), size(theirs) / len(stream))
    return [
        Row(
            "append-batch", "append of one batch", "events/s", figures["rate"], figures["baseline"], _AGAINST,
            figures["ratio"], [Goal("ours", least=100_000)], more=figures | {"events": len(stream)},
        ),
        Row(
            "bytes", "storage, chain hash included", "bytes an event", round(taken[0], 1), round(taken[1], 1),
            _AGAINST, round(taken[0] / taken[1], 3), [Goal("ours", most=100)], more={"events": len(stream)},
        ),
    ]  # fmt: skip


def single(folder: Path, stream: Sequence[Event]) -> Row:
    """Events appended one by one, a transaction each, the two in turn; percentiles of each by the clock, in µs."""
    shown = bare_rows(stream)
    clocks: tuple[list[float], list[float]] = ([], [])
    busy = [0.0, 0.0]
    with open_store(folder / "single.db") as store, closing(bare(folder / "bare-single.db")) as connection:
        trace = store.create_trace(HEADER).trace

        def ours(n: int) -> None:
            store.append(trace, (stream[n],), expected_version=n)

        def base(n: int) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT, shown[n])
            connection.execute("COMMIT")

        for n in range(len(stream)):
            for side, job in enumerate((ours, base)):
                start, began = time.perf_counter(), time.process_time()
                job(n)
                busy[side] += time.process_time() - began
                clocks[side].append(time.perf_counter() - start)
    more: dict[str, Any] = {"events": len(stream)}
    for prefix, times in zip(("", "baseline_"), clocks, strict=True):
        more |= {f"{prefix}p{percent}_us": round(percentile(times, percent) * 1e6, 1) for percent in (50, 95, 99)}
        more[f"{prefix}per_second_by_the_clock"] = round(len(times) / sum(times))
    rates = [round(len(stream) / seconds) for seconds in busy]
    return Row(
        "append-single", "single appends, a transaction each", "events/s", rates[0], rates[1], _AGAINST,
        round(rates[0] / rates[1], 3), [Goal("ours", least=3_000)], more=more,
    )  # fmt: skip
