"""Chunks: events packed beside their rows, so that a replay reads them several times as fast.

They are derived data, written by the first replay of a trace. The rows are the truth: a chunk counts only
if it has the digest it was written with, was packed in today's form, and ends with the hash that the row of
its last event has, behind as many rows as it has events.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection

from vmastore.events.packed import digest, form, pack, unpack
from vmastore.events.types import Event

if TYPE_CHECKING:
    from vmastore.store.store import Store

SIZE = 2048  # events
LEAST = 256  # events of a chunk below which their rows are read instead
_LEVEL = 1  # of zlib: halves them at the least, for a tenth of the time that unpacking takes
_KNOWN = (
    "SELECT c.first_seq, c.last_seq, c.form, c.hash, e.hash,"
    " (SELECT count(*) FROM event_t n WHERE n.trace=c.trace AND n.seq BETWEEN c.first_seq AND c.last_seq)"
    " FROM chunk_t c LEFT JOIN event_t e ON e.trace=c.trace AND e.seq=c.last_seq"
    " WHERE c.trace=? AND c.last_seq>=? AND c.first_seq<=? ORDER BY c.first_seq"
)
_PAYLOAD = "SELECT digest, payload FROM chunk_t WHERE trace=? AND first_seq=?"
_INSERT = "INSERT INTO chunk_t VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"  # two may replay the same trace at once
_BROKEN = (ValueError, KeyError, IndexError, TypeError, StopIteration, zlib.error)
log = logging.getLogger("vmastore")


class Chunk(NamedTuple):
    """Where a chunk is: events first to last, the chain's hash after them, whether it fits its rows."""

    first: int
    last: int
    head: bytes
    sound: bool


def chunks(connection: Connection, trace: int, start: int = 1, stop: int = 1 << 62) -> list[Chunk]:
    """The chunks that hold events of start to stop, in order."""
    rows = connection.exec_driver_sql(_KNOWN, (trace, start, stop)).fetchall()
    return [
        Chunk(
            first,
            last,
            bytes(head),
            shape == form() and row is not None and bytes(row) == bytes(head) and count == last - first + 1,
        )
        for first, last, shape, head, row, count in rows
    ]


def load(
    connection: Connection,
    trace: int,
    chunk: Chunk,
    maps_payload: Callable[[int], bytes | None],
    low: int = 0,
    high: int = 1 << 62,
) -> list[Event] | None:
    """Its events from low to high; None: it is damaged."""
    row = connection.exec_driver_sql(_PAYLOAD, (trace, chunk.first)).fetchone()
    if row is None:
        return None
    try:
        packed = zlib.decompress(row[1])
        if digest(chunk.first, chunk.last, chunk.head, packed) != bytes(row[0]):
            return None
        low, high = max(low, chunk.first), min(high, chunk.last)
        events = unpack(packed, maps_payload, low, high)
    except _BROKEN:
        return None
    return events if len(events) == high - low + 1 and events[0].seq == low else None


def read(
    connection: Connection,
    trace: int,
    start: int,
    stop: int,
    rows: Callable[[int, int], Iterator[list[Event]]],
    maps_payload: Callable[[int], bytes | None],
) -> Iterator[list[Event]]:
    """The events from start to stop in lists: from chunks where there are sound ones, else from `rows`."""
    at = start
    known = chunks(connection, trace, start, stop) if stop - start >= LEAST else []
    for chunk in known:
        low, high = max(at, chunk.first), min(stop, chunk.last)
        if not chunk.sound or high - low < LEAST:
            continue
        events = load(connection, trace, chunk, maps_payload, low, high)
        if events is None:
            log.warning(
                "events %d to %d of trace %d: their chunk is damaged, so their rows are read", low, high, trace
            )
            continue
        if at < low:
            yield from rows(at, low - 1)
        yield events
        at = high + 1
    if at <= stop:
        yield from rows(at, stop)


class ChunkWriter:
    """Packs the events of a trace as they pass, those that no full and sound chunk holds already.

    Give it all events in order, then call `finish`. In a store that cannot be written it does nothing.
    """

    def __init__(self, store: Store, trace: int) -> None:
        self._store = store
        self._trace = trace
        self._waiting: list[Event] = []
        self.covered = 0  # events from the first on that sound chunks hold
        with store._read() as connection:
            head = connection.exec_driver_sql("SELECT head_seq FROM trace_t WHERE trace=?", (trace,)).scalar_one()
            for chunk in chunks(connection, trace):
                full = chunk.last - chunk.first + 1 == SIZE or chunk.last == head
                if not full or not chunk.sound or chunk.first != self.covered + 1:
                    break
                self.covered = chunk.last
        self._idle = store.read_only or self.covered == head
        self._begun = False

    def take(self, events: list[Event]) -> None:
        """The next events."""
        if self._idle or not events or events[-1].seq <= self.covered:
            return
        if events[0].seq <= self.covered:
            events = [event for event in events if event.seq > self.covered]
        self._waiting += events
        while len(self._waiting) >= SIZE:
            self._write(self._waiting[:SIZE])
            del self._waiting[:SIZE]

    def finish(self) -> None:
        """Write the last ones, too."""
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []

    def _write(self, events: list[Event]) -> None:
        first, last = events[0].seq, events[-1].seq
        packed = pack(events)
        with self._store._write() as connection:
            if not self._begun:
                drop(connection, self._trace, after=self.covered)
                self._begun = True
            row = connection.exec_driver_sql("SELECT hash FROM event_t WHERE trace=? AND seq=?", (self._trace, last))
            head = bytes(row.scalar_one())
            bound = digest(first, last, head, packed)
            fields: tuple[Any, ...] = (self._trace, first, last, form(), head, bound, zlib.compress(packed, _LEVEL))
            connection.exec_driver_sql(_INSERT, fields)


def drop(connection: Connection, trace: int, *, after: int = 0) -> None:
    """Forget the chunks of a trace that hold events behind `after`."""
    connection.exec_driver_sql("DELETE FROM chunk_t WHERE trace=? AND last_seq>?", (trace, after))


def drop_all(store: Store) -> None:
    """Forget every chunk: the next replay of each trace makes them again."""
    with store._write() as connection:
        connection.exec_driver_sql("DELETE FROM chunk_t")


def check_chunks(store: Store) -> tuple[list[str], list[str]]:
    """(problems, stale): chunks that are not what their rows say, or that another vmastore packed."""
    problems, stale = [], []
    for info in store.traces():
        with store._read() as connection:
            known = chunks(connection, info.trace)
            shapes = connection.exec_driver_sql("SELECT DISTINCT form FROM chunk_t WHERE trace=?", (info.trace,))
            old = {row[0] for row in shapes} - {form()}
        if old:
            stale.append(f"{info.header.name}: packed events of another form")
            continue
        wrong = next((chunk for chunk in known if not _same(store, info.trace, chunk)), None)
        if wrong is not None:
            what = f"{info.header.name}: events {wrong.first} to {wrong.last}"
            problems.append(f"{what}: their packed chunk is not what their rows say")
    return problems, stale


def _same(store: Store, trace: int, chunk: Chunk) -> bool:
    """Whether a chunk holds what its rows hold."""
    if not chunk.sound:
        return False
    rows = [event for piece in store.event_chunks(trace, chunk.first, chunk.last, rows=True) for event in piece]
    with store._read() as connection:
        return load(connection, trace, chunk, store.payloads(connection, trace)) == rows
