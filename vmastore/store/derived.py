"""Writing the derived data of a replay: bulk rows, one transaction a batch, one replay a rule set."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

from vmastore.errors import StoreError
from vmastore.store.nodes import page_node, seq_node
from vmastore.store.spaces import remake
from vmastore.store.store import Store

_TABLES = ("outcome_t", "decision_t", "vma_t", "lost_merge_t", "snapshot_t")
_SQL = {
    "outcome_t": "INSERT INTO outcome_t VALUES (?,?,?,?,?,?,?,?,?,?)",
    "decision_t": "INSERT INTO decision_t VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
    "vma_t": "INSERT INTO vma_t VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
    "lost_merge_t": "INSERT INTO lost_merge_t VALUES (?,?,?,?,?,?,?)",
    "snapshot_t": "INSERT INTO snapshot_t VALUES (?,?,?,?)",
}
_FLUSH = 20_000


class ReplayWriter:
    """Collects rows and writes them in batches; an older replay of the same options is replaced.

    In a store that cannot be written nothing is kept (`replay` is 0).

    `events` and `peak_seq` (the event after which there were most VMAs) are set at the end: a replay with
    fewer events than its trace is stale.
    """

    def __init__(self, store: Store, trace: int, kernel: str, options: str, *, engine: str, basis: str) -> None:
        self.store = store
        self.events = 0
        self.peak_seq = 0
        self._rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _TABLES}
        self._count = 0
        self.replay = 0
        self._keeps = not store.read_only
        if self._keeps:
            self._open(trace, kernel, options, engine, basis)

    def _open(self, trace: int, kernel: str, options: str, engine: str, basis: str) -> None:
        with self.store._write() as connection:
            old = connection.exec_driver_sql(
                "SELECT replay FROM replay_t WHERE trace=? AND kernel=? AND options=?", (trace, kernel, options)
            ).fetchone()
            if old is not None:
                drop(connection, old[0])
            result = connection.exec_driver_sql(
                "INSERT INTO replay_t (trace,kernel,options,engine,basis,events) VALUES (?,?,?,?,?,0)"
                " RETURNING replay",
                (trace, kernel, options, engine, basis),
            )
            self.replay = int(result.scalar_one())

    def __enter__(self) -> ReplayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keeps:
            return
        if kind is not None:
            with self.store._write() as connection:
                drop(connection, self.replay)
            return
        self._flush()
        with self.store._write() as connection:
            connection.exec_driver_sql(
                "UPDATE replay_t SET events=?, peak_seq=? WHERE replay=?", (self.events, self.peak_seq, self.replay)
            )

    def outcome(self, row: tuple[Any, ...]) -> None:
        """(seq, mm, merges, splits, cases, map_count, certain, divergence, rolling)"""
        self._add("outcome_t", row)

    def decision(self, row: tuple[Any, ...]) -> None:
        """(seq, n, mm, api, action, vm_start, vm_end, case, reason_prev, reason_next, certain)"""
        self._add("decision_t", row)

    def vma(self, row: tuple[Any, ...]) -> None:
        """(mm, vm_start, vm_end, vm_flags, pgoff, path, name, born_seq, died_seq)"""
        born, died = row[-2:]
        self._add("vma_t", (*row, seq_node(born, died), page_node(row[1], row[2])))

    def lost_merge(self, row: tuple[Any, ...]) -> None:
        """(mm, boundary, seq, left_start, right_end, reason)"""
        self._add("lost_merge_t", row)

    def snapshot(self, row: tuple[Any, ...]) -> None:
        """(seq, digest, payload); counts as many rows, being as large."""
        self._add("snapshot_t", row)
        self._count += len(row[-1]) >> 7

    def _add(self, table: str, row: tuple[Any, ...]) -> None:
        if not self._keeps:
            return
        self._rows[table].append((self.replay, *row))
        self._count += 1
        if self._count >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        with self.store._write() as connection:
            for table, rows in self._rows.items():
                if rows:
                    connection.exec_driver_sql(_SQL[table], rows)
                    rows.clear()
        self._count = 0


def drop(connection: Any, replay: int) -> None:
    """Forget a replay: derived data can always be made again."""
    for table in (*_TABLES, "replay_t"):
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE replay=?", (replay,))


def remake_spaces(store: Store) -> None:
    """Derive the address spaces of every trace from its events again."""
    for info in store.traces():
        with store._write() as connection:
            remake(connection, info.trace, store.events(info.trace))


class StoredReplay(NamedTuple):
    """A replay as stored: what it is of, what made it (engine, basis), how many events it folded."""

    replay: int
    trace: int
    kernel: str
    options: str
    engine: str
    basis: str | None
    events: int


def stored_replays(store: Store) -> list[StoredReplay]:
    """Every stored replay, oldest first."""
    with store._read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT replay, trace, kernel, options, engine, basis, events FROM replay_t ORDER BY replay"
        ).fetchall()
    return [StoredReplay(*row) for row in rows]


def replays(store: Store) -> list[tuple[int, str, str]]:
    """(trace, kernel, options) of every stored replay."""
    return [(found.trace, found.kernel, found.options) for found in stored_replays(store)]


def derived_rows(store: Store, replay: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(table, row without its replay) of all derived data of a replay, as `ReplayWriter` was given it."""
    with store._read() as connection:
        for table in _TABLES:
            for row in connection.exec_driver_sql(f"SELECT * FROM {table} WHERE replay=?", (replay,)):
                yield table, tuple(row)[1:]


def first_difference(store: Store, one: int, two: int) -> int | None:
    """The first event whose outcome differs between two stored replays of a trace; None: none that both have.

    one, two: numbers of replays. Bisection over the rolling hash of outcomes: 2 look-ups a step.
    Raises StoreError where one of them has none (it is of an older vmastore).
    """
    with store._read() as connection:

        def rolling(replay: int, seq: int) -> int:
            row = connection.exec_driver_sql(
                "SELECT rolling FROM outcome_t WHERE replay=? AND seq=?", (replay, seq)
            ).fetchone()
            if row is None or row[0] is None:
                raise StoreError(
                    f"replay {replay} has no hash of its outcome {seq}", hint="run `vmastore db rebuild`"
                )
            return int(row[0])

        last = min(
            connection.exec_driver_sql(
                "SELECT coalesce(max(seq), 0) FROM outcome_t WHERE replay=?", (r,)
            ).scalar_one()
            for r in (one, two)
        )
        if last == 0 or rolling(one, last) == rolling(two, last):
            return None
        low, high = 1, last  # the first that differs is in [low, high]
        while low < high:
            middle = (low + high) // 2
            if rolling(one, middle) == rolling(two, middle):
                low = middle + 1
            else:
                high = middle
    return low
