"""Rows of snapshots: the state of a replay after some events, packed, with the hash that it must have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Connection

from vmastore.errors import StoreError
from vmastore.store.engine import run
from vmastore.store.nodes import SEQ_LEVELS, holding
from vmastore.store.store import Store


class ReplayInfo(NamedTuple):
    """A stored replay: what made it, how far its derived data goes.

    events: events whose outcomes are stored. basis: digest of the header and the files it was made
    from (None: of an older vmastore).
    """

    replay: int
    engine: str
    events: int
    basis: str | None


class SnapshotRow(NamedTuple):
    """One snapshot: after event `seq`, `digest` the hash of the state that `payload` packs."""

    seq: int
    digest: bytes
    payload: bytes


def find_replay(store: Store, trace: int, kernel: str, options: str) -> ReplayInfo | None:
    """The stored replay of a trace under a rule set and options."""
    with store._read() as connection:
        row = connection.exec_driver_sql(
            "SELECT replay, engine, events, basis FROM replay_t WHERE trace=? AND kernel=? AND options=?",
            (trace, kernel, options),
        ).fetchone()
    return None if row is None else ReplayInfo(*row)


_NEAREST = (
    "SELECT s.seq, s.digest, s.payload, e.hash FROM snapshot_t s LEFT JOIN event_t e ON e.trace=? AND e.seq=s.seq"
    " WHERE s.replay=? AND s.seq<=? ORDER BY s.seq DESC LIMIT 1"
)


def nearest(store: Store, trace: int, replay: int, seq: int) -> tuple[SnapshotRow, bytes] | None:
    """The last snapshot of a replay of a trace after event `seq` or an earlier one, and `event_hash` of its event."""
    with store._read() as connection:
        row = run(connection, _NEAREST, (trace, replay, seq)).fetchone()
    return None if row is None else (SnapshotRow(row[0], bytes(row[1]), bytes(row[2])), bytes(row[3] or b""))


def places(store: Store, replay: int) -> list[tuple[int, int]]:
    """(event, bytes) of every snapshot of a replay, by event."""
    with store._read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT seq, length(payload) FROM snapshot_t WHERE replay=? ORDER BY seq", (replay,)
        ).fetchall()
    return [(row[0], row[1]) for row in rows]


def births(store: Store, replay: int, seq: int) -> dict[tuple[int, int], int]:
    """The VMAs of a replay alive after event `seq`: (address space, stored vm_start) -> event that made the state."""
    holds = holding("v.seq_node", str(seq), SEQ_LEVELS)
    query = (
        f"SELECT v.mm, v.vm_start, v.born_seq FROM vma_t v WHERE v.replay = {replay} AND {holds}"
        f" AND v.born_seq <= {seq} AND (v.died_seq IS NULL OR v.died_seq > {seq})"
    )
    with store._read() as connection:
        return {(mm, start): born for mm, start, born in connection.exec_driver_sql(query)}


def replace(store: Store, replay: int, snapshot: SnapshotRow) -> bool:
    """Store a snapshot in place of the one at its event. Returns False where the store cannot be written."""
    try:
        with store._write() as connection:
            connection.exec_driver_sql("DELETE FROM snapshot_t WHERE replay=? AND seq=?", (replay, snapshot.seq))
            connection.exec_driver_sql("INSERT INTO snapshot_t VALUES (?,?,?,?)", (replay, *snapshot))
    except StoreError:
        return False
    return True


@contextmanager
def event_hashes(store: Store, trace: int) -> Iterator[Callable[[int], bytes]]:
    """What gives the chain hash of an event, which stands for all events up to it.

    On one connection for all that are asked for: getting one and giving it back costs ten times the look.
    """
    with store._read() as connection:
        yield lambda seq: _event_hash(connection, trace, seq)


def event_hash(store: Store, trace: int, seq: int) -> bytes:
    """The chain hash of one event."""
    with store._read() as connection:
        return _event_hash(connection, trace, seq)


def _event_hash(connection: Connection, trace: int, seq: int) -> bytes:
    row = run(connection, "SELECT hash FROM event_t WHERE trace=? AND seq=?", (trace, seq)).fetchone()
    return b"" if row is None else bytes(row[0])
