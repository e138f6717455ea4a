"""Writing the derived data of a replay: bulk rows, one transaction a batch, one replay a rule set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from types import TracebackType
from typing import Any, NamedTuple

from vmastore.errors import StoreError
from vmastore.events import Event
from vmastore.store.chunks import ChunkWriter
from vmastore.store.postgresql import analyze
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
_FLUSH = 20_000  # rows
_WIDE = 50  # rows a statement
_SNAPSHOT_BYTES = 4 << 20
Rows = list[tuple[Any, ...]]


class ReplayWriter:
    """Collects rows and writes them in batches; an older replay of the same options is replaced.

    Rows go to its lists, which `settle` empties when they are long. Each begins with `replay`, and goes on
    outcomes: seq, mm, merges, splits, cases, map_count, certain, divergence, rolling;
    decisions: seq, n, mm, api, action, vm_start, vm_end, case, reason_prev, reason_next, certain;
    vmas: mm, vm_start, vm_end, vm_flags, pgoff, path, name, born_seq, died_seq, and their seq_node and page_node;
    lost_merges: mm, boundary, seq, left_start, right_end, reason;
    snapshots: seq, digest, payload.

    `read` packs the events themselves. In a store that cannot be written nothing is kept (`replay` is 0).

    `events` and `peak_seq` (the event after which there were most VMAs) are set at the end: a replay with
    fewer events than its trace is stale.
    """

    _chunks: ChunkWriter | None

    def __init__(self, store: Store, trace: int, kernel: str, options: str, *, engine: str, basis: str) -> None:
        self.store = store
        self.begin(0)
        self._keeps = not store.read_only
        if self._keeps:
            self._open(trace, kernel, options, engine, basis)
            self._chunks = ChunkWriter(store, trace)

    def begin(self, replay: int) -> None:
        """No rows yet, for this number of a replay."""
        self.replay = replay
        self._chunks = None
        self.events = 0
        self.peak_seq = 0
        self.outcomes: Rows = []
        self.decisions: Rows = []
        self.vmas: Rows = []
        self.lost_merges: Rows = []
        self.snapshots: Rows = []

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
        self.flush()
        if self._chunks is not None:
            self._chunks.finish()
        with self.store._write() as connection:
            connection.exec_driver_sql(
                "UPDATE replay_t SET events=?, peak_seq=? WHERE replay=?", (self.events, self.peak_seq, self.replay)
            )
            analyze(connection, _TABLES)

    def read(self, events: list[Event]) -> None:
        """Keep events packed, for the next replay to read: all of the trace, in order."""
        if self._chunks is not None:
            self._chunks.take(events)

    def settle(self) -> None:
        """Write the rows if they are many; to be called now and then."""
        size = sum([len(row[-1]) for row in self.snapshots])
        if len(self.outcomes) + len(self.decisions) + len(self.vmas) >= _FLUSH or size >= _SNAPSHOT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write all rows."""
        rows = (self.outcomes, self.decisions, self.vmas, self.lost_merges, self.snapshots)
        self.write({table: found for table, found in zip(_TABLES, rows, strict=True) if found})
        for found in rows:
            found.clear()

    def write(self, rows: dict[str, Rows]) -> None:
        """Write rows, by table, in one transaction."""
        if self._keeps and rows:
            with self.store._write() as connection:
                for table, found in rows.items():
                    _insert(connection, _SQL[table], found)


def _insert(connection: Any, statement: str, rows: Rows) -> None:
    """Insert rows; on SQLite many in a statement, which takes two thirds of the time."""
    whole = len(rows) - len(rows) % _WIDE if connection.dialect.name == "sqlite" else 0
    if whole:
        head, _, one = statement.partition(" VALUES ")
        wide = [tuple(chain.from_iterable(rows[at : at + _WIDE])) for at in range(0, whole, _WIDE)]
        connection.exec_driver_sql(f"{head} VALUES {','.join([one] * _WIDE)}", wide)
    if whole < len(rows):
        connection.exec_driver_sql(statement, rows[whole:])


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
