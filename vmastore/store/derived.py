"""Writing the derived data of a replay: bulk rows, one transaction a batch, one replay a rule set."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

from vmastore.errors import StoreError
from vmastore.events import Event
from vmastore.store.chunks import ChunkWriter
from vmastore.store.postgresql import analyze
from vmastore.store.runs import first_unlike
from vmastore.store.spaces import remake
from vmastore.store.store import Store

# every table of derived data, with how many values a row has besides its replay; kinds go before what names them
_WIDTHS = {
    "outcome_kind_t": 6,
    "decision_kind_t": 7,
    "vma_kind_t": 4,
    "outcome_t": 4,
    "rolling_t": 2,
    "decision_t": 6,
    "vma_t": 9,
    "vma_page_t": 3,
    "lost_merge_t": 6,
    "snapshot_t": 3,
}
_FLUSH = 16_000  # outcomes and decisions
_PAGES = 60_000  # lifetimes: their pages are in no order, so that the more are sorted at once the better
_BLOCK = 50  # rows a statement
_SNAPSHOT_BYTES = 4 << 20
Flat = list[Any]  # the values of many rows, one after another


class ReplayWriter:
    """Collects rows and writes them in batches; an older replay of the same options is replaced.

    Values go to its lists, the values of one row behind those of another; `settle` empties them when they are long:
    outcomes: seq, mm, map_count, kind;
    decisions: seq, n, mm, vm_start, vm_end, kind;
    vmas: seq_node, n, mm, vm_start, vm_end, pgoff, kind, born_seq, died_seq;
    vma_pages: page_node, and seq_node and n of its row in vmas;
    outcome_kinds: kind, merges, splits, cases, certain, divergence;
    decision_kinds: kind, api, action, case, reason_prev, reason_next, certain;
    vma_kinds: kind, vm_flags, path, name (no two of them alike);
    lost_merges: mm, boundary, seq, left_start, right_end, reason;
    snapshots: seq, digest, payload;
    rolling: first_seq, payload (see `vmastore.store.runs`).

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
        self.outcomes: list[int] = []
        self.decisions: list[int] = []
        self.rolling: Flat = []
        self.vmas: list[int | None] = []
        self.vma_pages: list[int] = []
        self.outcome_kinds: Flat = []
        self.decision_kinds: Flat = []
        self.vma_kinds: Flat = []
        self.lost_merges: Flat = []
        self.snapshots: Flat = []

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
        self.flush(last=True)
        if self._chunks is not None:
            self._chunks.finish()
        with self.store._write() as connection:
            connection.exec_driver_sql(
                "UPDATE replay_t SET events=?, peak_seq=? WHERE replay=?", (self.events, self.peak_seq, self.replay)
            )
            analyze(connection, tuple(_WIDTHS))

    def read(self, events: list[Event]) -> None:
        """Keep events packed, for the next replay to read: all of the trace, in order."""
        if self._chunks is not None:
            self._chunks.take(events)

    def settle(self) -> None:
        """Write the rows if they are many; to be called now and then."""
        size = sum(map(len, self.snapshots[2::3]))
        if len(self.outcomes) // 4 + len(self.decisions) // 6 >= _FLUSH or size >= _SNAPSHOT_BYTES:
            self.flush()

    def flush(self, *, last: bool = False) -> None:
        """Write all rows but the pages of lifetimes, which wait until they are many or the `last` are there.

        Lifetimes go in as they ended, which is nearly as they are stored; their pages are sorted, for which see
        `_by_node`.
        """
        pages = self.vma_pages if last or len(self.vma_pages) >= 3 * _PAGES else []
        self.write(
            {
                "outcome_kind_t": self.outcome_kinds,
                "decision_kind_t": self.decision_kinds,
                "vma_kind_t": self.vma_kinds,
                "outcome_t": self.outcomes,
                "rolling_t": self.rolling,
                "decision_t": self.decisions,
                "vma_t": self.vmas,
                "vma_page_t": _by_node(pages),
                "lost_merge_t": self.lost_merges,
                "snapshot_t": self.snapshots,
            }
        )
        kinds = (self.outcome_kinds, self.decision_kinds, self.vma_kinds)
        told = (self.outcomes, self.rolling, self.decisions, self.vmas)
        for done in (*told, pages, *kinds, self.lost_merges, self.snapshots):
            done.clear()

    def write(self, values: dict[str, Flat]) -> None:
        """Write the values of rows, by table, in one transaction. Raises StoreError: the replay is there no more.

        On SQLite no row is held against `replay_t` by itself, which takes a tenth of the time: the transaction is.
        """
        if not self._keeps:
            return
        with self.store._append() as connection:
            row = connection.exec_driver_sql("SELECT 1 FROM replay_t WHERE replay=?", (self.replay,)).fetchone()
            if row is None:
                raise StoreError(
                    f"replay {self.replay} was deleted while it was written",
                    hint="another program has replayed the trace, or deleted it",
                )
            for table, found in values.items():
                _insert(connection, table, self.replay, found)


def _by_node(pages: list[int]) -> list[int]:
    """Rows of `vma_page_t` by node, those of one node as they came. Nodes fit floats, which are compared fast."""
    nodes, lived, numbers = pages[0::3], pages[1::3], pages[2::3]
    keys = list(map(float, nodes))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    found = [0] * len(pages)
    for at, column in enumerate((nodes, lived, numbers)):
        found[at::3] = map(column.__getitem__, order)
    return found


def _insert(connection: Any, table: str, replay: int, values: Flat) -> None:
    """Insert rows of one replay; on SQLite many in a statement, which takes two thirds of the time."""
    width = _WIDTHS[table]
    one = f"({replay},{','.join(['?'] * width)})"
    block = _BLOCK if connection.dialect.name == "sqlite" else 1
    rest = len(values) % (block * width)
    for count, found in ((block, values), (1, values[len(values) - rest :])):
        rows = list(zip(*[iter(found)] * (count * width), strict=False))  # what is left over is the rest
        if rows:
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES {','.join([one] * count)}", rows)


def rows_of(table: str, values: Flat) -> Iterator[tuple[Any, ...]]:
    """The rows of a table (without their replay) of values as `ReplayWriter.write` gets them."""
    width = _WIDTHS[table]
    for at in range(0, len(values), width):
        yield tuple(values[at : at + width])


def drop(connection: Any, replay: int) -> None:
    """Forget a replay: derived data can always be made again."""
    for table in (*_WIDTHS, "replay_t"):
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
    """(table, row without its replay) of all derived data of a replay, as `rows_of` gives what was written."""
    with store._read() as connection:
        for table in _WIDTHS:
            for row in connection.exec_driver_sql(f"SELECT * FROM {table} WHERE replay=?", (replay,)):
                yield table, tuple(row)[1:]


def first_difference(store: Store, one: int, two: int) -> int | None:
    """The first event whose outcome differs between two stored replays of a trace; None: none that both have.

    one, two: numbers of replays. Bisection over the hashes of runs of outcomes: 2 look-ups a step.
    Raises StoreError where one of them has none (it is of an older vmastore).
    """
    with store._read() as connection:
        last = min(
            connection.exec_driver_sql(
                "SELECT coalesce(max(seq), 0) FROM outcome_t WHERE replay=?", (r,)
            ).scalar_one()
            for r in (one, two)
        )
        return first_unlike(connection, one, two, last) if last else None
