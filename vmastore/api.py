"""What Python programs use: a store and its traces as objects. The command line calls the same functions.

    import vmastore
    with vmastore.connect("vmastore.db") as db:
        trace = db.import_file("app.log")[0]
        trace.replay()
        for vma in trace.at(-1).vmas: ...
        db.sql("SELECT call, count(*) AS n FROM events GROUP BY call").df()

Addresses and lengths are unsigned bytes in events and VMAs, signed 64-bit in SQL; `seq` counts events
from 1, 0 is the state before the first, negative counts from the end. Every error is a VmastoreError.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vmastore.errors import InputError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import RuleSet, resolve
from vmastore.replay.trace import StoredTrace
from vmastore.store.moments import AsOf
from vmastore.store.sql import query
from vmastore.store.store import Store, TraceInfo, open_store

if TYPE_CHECKING:
    from vmastore.replay.bisect import Difference as Parting
    from vmastore.replay.bisect import Found
    from vmastore.replay.derive import Summary
    from vmastore.replay.space import Difference, Space
    from vmastore.replay.verify_report import Report


def connect(place: str | Path = "vmastore.db", *, create: bool = False) -> Database:
    """The store at a path or SQLAlchemy URL. create: make it if it is not there. Raises StoreError."""
    return Database(open_store(place, create=create))


class Database:
    """An open store. A context manager; use one a thread."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.store.close()

    def traces(self) -> list[Trace]:
        """All traces, oldest first."""
        return [Trace(self.store, info) for info in self.store.traces()]

    def trace(self, name: str | int) -> Trace:
        """A trace by name or number. Raises UnknownTraceError."""
        return Trace(self.store, self.store.trace(name))

    def create(self, name: str, **facts: Any) -> Trace:
        """A new trace without events. facts: other fields of TraceHeader (release, version, config, faults, …)."""
        header = TraceHeader(name, **{"source": "api", "format": "jsonl", **facts})
        return Trace(self.store, self.store.create_trace(header))

    def import_file(
        self,
        path: str | Path,
        name: str | None = None,
        format: str = "auto",
        *,
        execs: Sequence[str | Path] | None = None,
        maps: Sequence[str | Path] = (),
        faults_from: str | Path | None = None,
        strict: bool = False,
    ) -> list[Trace]:
        """Import a file in any form that is known (strace, jsonl, …); one trace, or several. Raises InputError.

        What the same file and options gave before is not imported again, but returned, under the name that it has.
        execs: executables that show what exec mapped in a strace log (--exec); None: those that are at their paths
        here, where the log bears them out (the header's note says what it refutes); empty: none (--no-exec).
        maps: saved maps or smaps, each [PID=]FILE[@LINE|@TIME] (--maps). faults_from: page faults of the same run,
        FILE[@SECONDS] (--faults-from). Both are of strace logs. strict: a line that becomes no event is an error.
        """
        from vmastore.intake.groups import Beside
        from vmastore.intake.imported import import_group

        beside = Beside(
            tuple(map(str, maps)),
            tuple(map(str, execs or ())),
            execs is None or bool(execs),
            None if faults_from is None else str(faults_from),
        )
        done = import_group(self.store, [str(path)], beside, format=format, name=name, strict=strict)
        return [Trace(self.store, one.info) for one in done]

    def sql(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        *,
        as_of: tuple[str, int] | None = None,
        timeout: float | None = None,
    ) -> Result:
        """One SELECT on the public views, read-only. Raises StoreError.

        params: for :name. as_of: (trace, seq): `vmas` shows that moment. timeout: seconds.
        """
        columns, rows = query(
            self.store, sql, params, timeout=timeout, as_of=None if as_of is None else AsOf(str(as_of[0]), as_of[1])
        )
        return Result(columns, rows)

    def saved(self, name: str, **params: Any) -> Result:
        """A saved query by name, shipped ones included. Raises StoreError."""
        from vmastore.store import saved

        found = saved.find(self.store, name)
        return self.sql(found.sql, saved.complete(self.store, found, params))


class Result:
    """The rows of a query, read as they are asked for, once: iterate, or take them in another form."""

    def __init__(self, columns: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
        self.columns = columns
        self._rows = rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows."""
        return list(self._rows)

    def dicts(self) -> list[dict[str, Any]]:
        """All rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self._rows]

    def df(self) -> Any:
        """A pandas DataFrame. Raises InputError where pandas is not installed."""
        pandas = _optional("pandas", "dataframes")
        return pandas.DataFrame.from_records(self.rows(), columns=self.columns)

    def pl(self) -> Any:
        """A polars DataFrame. Raises InputError where polars is not installed."""
        polars = _optional("polars", "dataframes")
        return polars.DataFrame(self.rows(), schema=self.columns, orient="row", infer_schema_length=None)


def _optional(module: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise InputError(f"{module} is not installed", hint=f"pip install 'vmastore[{extra}]'") from None


class Trace:
    """One trace of a store. `kernel` names a rule set or a release; else the trace's own is taken.

    faults: what is not recorded of page faults: recorded, written or untouched. stored: the trace as the
    layers below know it.
    """

    def __init__(self, store: Store, info: TraceInfo) -> None:
        self.stored = StoredTrace(store, info)

    @property
    def name(self) -> str:
        return self.stored.header.name

    @property
    def header(self) -> TraceHeader:
        """What is known of the recording: kernel, configuration, source."""
        return self.stored.header

    @property
    def files(self) -> dict[int, FileInfo]:
        """Its open file descriptions, by number."""
        return self.stored.files

    def __len__(self) -> int:
        """Its events."""
        return self.stored.info.events

    def __iter__(self) -> Iterator[Event]:
        return self.events()

    def events(self, start: int = 1, stop: int | None = None) -> Iterator[Event]:
        """Its events, start to stop (both included)."""
        return self.stored.events(start, stop)

    def event(self, seq: int) -> Event:
        """One event. Raises StoreError."""
        return self.stored.store.event(self.stored.info.trace, self.seq(seq))

    def rules(self, kernel: str | None = None) -> RuleSet:
        """The rule set: of `kernel`, else of the trace's release, else of the running kernel."""
        if kernel is not None:
            return resolve(kernel)
        if self.header.release:
            return resolve(self.header.release, self.header.version)
        uname = os.uname()
        return resolve(uname.release, uname.version)

    def seq(self, seq: int) -> int:
        """An event's number, counted from the end where it is negative. Raises InputError."""
        found = seq + len(self) + 1 if seq < 0 else seq
        if not 0 <= found <= len(self):
            raise InputError(f"{self.name} has events 1 to {len(self)}, no event {seq}")
        return found

    def append(
        self, events: Iterable[Event], *, expected_version: int | None = None, files: Iterable[FileInfo] = ()
    ) -> int:
        """Append events in one transaction; they follow on without a gap. Returns the number of the last.

        Raises ConcurrencyError when the trace is not at `expected_version`.
        """
        store, number = self.stored.store, self.stored.info.trace
        version = store.append(number, list(events), expected_version=expected_version, files=list(files))
        self.stored = StoredTrace(store, store.trace(self.name))
        return version

    def replay(
        self, kernel: str | None = None, *, faults: str = "recorded", max_map_count: int | None = None
    ) -> Summary:
        """Replay the whole trace and store what it came to: views, snapshots. Returns the sums."""
        from vmastore.replay.derive import derive

        return derive(self.stored, self.rules(kernel), faults=faults, max_map_count=max_map_count)[1]

    def at(
        self,
        seq: int = -1,
        mm: int | None = None,
        kernel: str | None = None,
        *,
        faults: str = "recorded",
        max_map_count: int | None = None,
    ) -> Space:
        """The address space after event `seq` (mm None: the one with most events). Raises InputError."""
        from vmastore.replay.space import space_at

        return space_at(
            self.stored, self.seq(seq), mm, self.rules(kernel), faults=faults, max_map_count=max_map_count
        )

    def diff(self, a: int, b: int, mm: int | None = None, kernel: str | None = None) -> Difference:
        """The VMAs that two moments do not share."""
        from vmastore.replay.space import compare

        return compare(self.at(a, mm, kernel).vmas, self.at(b, mm, kernel).vmas)

    def explain(self, seq: int, kernel: str | None = None) -> Found:
        """An event (from 1) with its outcome, decisions and reasons, and the VMAs before and after."""
        from vmastore.replay.bisect import look

        return look(self.stored, self.seq(seq), self.rules(kernel))

    def verify(self, kernel: str | None = None, *, faults: str = "recorded") -> Report:
        """Compare the replay with every observed maps of the trace."""
        from vmastore.replay.verify import Verifier

        return Verifier(self.stored.world(self.rules(kernel), faults=faults)).run(self.events())

    def bisect(self, predicate: str, mm: int | None = None, kernel: str | None = None) -> int | None:
        """The first event after which a predicate holds (`map_count > 60000`), or None. Raises InputError.

        As `vmastore bisect find`: where the replay is stored, a few states from its snapshots are enough.
        """
        from vmastore.replay.bisect import PredicateJudge, Side, first_held
        from vmastore.replay.predicate import parse

        judge = PredicateJudge(parse(predicate), mm)
        first = first_held(self.stored, Side(self.rules(kernel)), judge, len(self)).first
        return None if first is None else first.event.seq

    def parting(self, kernel: str, against: str) -> Parting | None:
        """The first event that two rule sets decide differently, or None.

        As `vmastore bisect find --against`: where both replays are stored, their outcomes tell.
        """
        from vmastore.replay.bisect import Difference, Side, differ, first_decided, look

        one, two = (Side(resolve(name)) for name in (kernel, against))
        seq, found, _ = first_decided(self.stored, one, two, len(self))
        if seq is None or found:
            return found[0] if found else None
        seen = [look(self.stored, seq, side.rules) for side in (one, two)]
        outcomes = seen[0].outcome, seen[1].outcome
        return Difference(seen[0].event, outcomes, "outcome" if differ(*outcomes) else "vmas")
