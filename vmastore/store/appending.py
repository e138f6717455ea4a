"""One batch of events appended to a trace, within a transaction: rows, hash chain, files, address spaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DataError

from vmastore.errors import StoreError, UnknownTraceError
from vmastore.events.brief import Given
from vmastore.events.codec import GENESIS
from vmastore.events.types import Event, FileInfo
from vmastore.store.engine import run
from vmastore.store.files import write_files
from vmastore.store.guard import unfit
from vmastore.store.insert import insert_events
from vmastore.store.rows import Names, event_rows
from vmastore.store.spaces import AddressSpaces

# of an Event and of a Brief
_seq: Callable[[Any], int] = itemgetter(0)
_ts: Callable[[Any], int | None] = itemgetter(4)


class Head(NamedTuple):
    """Where a trace ends: its last event, that one's hash, what its times are the difference from."""

    version: int
    hash: bytes
    base: int | None


def head_of(connection: Connection, trace: int) -> Head:
    """The head of a trace; of one without events, number 0 and GENESIS. Raises UnknownTraceError."""
    row = run(connection, "SELECT head_seq, head_hash, base_ns FROM trace_t WHERE trace=?", (trace,)).fetchone()
    if row is None:
        raise UnknownTraceError(f"no trace {trace}")
    return Head(row[0], bytes(row[1] or GENESIS), row[2])


def append_batch(
    connection: Connection,
    names: Names,
    trace: int,
    head: Head,
    events: Sequence[Given],
    files: Sequence[FileInfo],
) -> int:
    """Write events behind the head, and what they name. Returns the new last seq. Raises StoreError."""
    version, previous, base = head
    if base is None:
        base = next((ts for ts in map(_ts, events) if ts is not None), None)
    spaces = AddressSpaces(connection, trace)
    runs, observed, previous = event_rows(connection, names, trace, version, previous, base or 0, events, spaces)
    version += len(events)
    if runs:
        try:
            insert_events(connection, trace, runs)
            run(
                connection,
                "UPDATE trace_t SET head_seq=?, head_hash=?, base_ns=? WHERE trace=?",
                (version, previous, base, trace),
            )
        except (OverflowError, DataError) as error:
            raise StoreError(
                f"events {_seq(events[0])} to {version}: {unfit(error)}", hint="nothing was stored"
            ) from None
    if observed:
        connection.exec_driver_sql("INSERT INTO observed_t VALUES (?,?,?)", observed)
    write_files(connection, trace, files)
    spaces.count(events)
    spaces.write()
    return version


def batch_of_key(connection: Connection, names: Names, trace: int, key: str, events: Sequence[Given]) -> int | None:
    """The last event of the batch of this key, None if there is none. Raises StoreError for other events."""
    row = connection.exec_driver_sql(
        "SELECT first_seq, last_seq FROM append_t WHERE trace=? AND key=?", (trace, key)
    ).fetchone()
    if row is None:
        return None
    first, last = row
    previous = _hash_at(connection, trace, first - 1)
    same = len(events) == last - first + 1 and (not events or _seq(events[0]) == first)
    if same and events:
        spaces = AddressSpaces()
        _, _, reached = event_rows(connection, names, trace, first - 1, previous, 0, events, spaces)
        same = reached == _hash_at(connection, trace, last)
    if not same:
        raise StoreError(f"trace {trace}: the key {key!r} is that of events {first} to {last}, which are others")
    return int(last)


def _hash_at(connection: Connection, trace: int, seq: int) -> bytes:
    """The chain's hash after event `seq`; before the first it is GENESIS."""
    if not seq:
        return GENESIS
    found = connection.exec_driver_sql("SELECT hash FROM event_t WHERE trace=? AND seq=?", (trace, seq))
    return bytes(found.scalar_one())


def chunks_of(reader: Any, size: int, stored: int) -> Iterator[list[Given]]:
    """A reader's events in lists of `size`, without those that an earlier run has stored."""
    lists = reader.batches() if hasattr(reader, "batches") else _lists(reader.events(), size)
    chunk: list[Given] = []
    for events in lists:
        if stored:
            known = min(stored, len(events))
            stored -= known
            chunk += events[known:]
        else:
            chunk += events
        while len(chunk) >= size:
            yield chunk[:size]
            del chunk[:size]
    if chunk:
        yield chunk


def _lists(events: Iterable[Event], size: int) -> Iterator[list[Event]]:
    """Lists of at most `size` events."""
    source = iter(events)
    while chunk := list(islice(source, size)):
        yield chunk
