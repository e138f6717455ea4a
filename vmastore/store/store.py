"""The event store: traces, append-only events, and what belongs to them."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, OperationalError

from vmastore.errors import ConcurrencyError, StoreError, UnknownTraceError
from vmastore.events.brief import Given
from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.events.upcasters import Step, steps_from
from vmastore.store import appending, chunks, migrate
from vmastore.store.engine import make_engine, named, scan, to_url
from vmastore.store.files import read_files, write_files
from vmastore.store.guard import Guarded, explain
from vmastore.store.postgresql import analyze, read_only
from vmastore.store.reading import SELECT, event_chunks
from vmastore.store.rows import Names, Tasks
from vmastore.store.seals import seal_header
from vmastore.store.sqlite import check_file, stamp, writable

BATCH = 5_000  # events a transaction


class TraceInfo(NamedTuple):
    """A trace as stored: its number, its header, how far it goes."""

    trace: int
    header: TraceHeader
    events: int
    complete: bool
    created_at: str


def open_store(place: str | Path, *, create: bool = True) -> Store:
    """The store at a path or SQLAlchemy URL. Raises StoreError (missing, foreign, older, newer, locked)."""
    url = to_url(place)
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        check_file(url.database)
        if not create and not Path(url.database).exists():
            raise StoreError(
                f"{url.database}: no such store", hint="make one with `vmastore import` or `vmastore record`"
            )
        if not create and Path(url.database).stat().st_size == 0:
            raise StoreError(f"{url.database}: an empty database, not a store")
    engine = make_engine(url)
    try:
        if migrate.current(engine) is None:
            if not create:
                raise StoreError(
                    f"{named(engine)}: an empty database, not a store",
                    hint="make one in it with `vmastore import` or `vmastore record`",
                )
            migrate.create(engine)
        else:
            migrate.check(engine)
    except (DatabaseError, OperationalError) as error:
        raise explain(engine, error) from None
    return Store(engine)


class Store:
    """An open store. A context manager; one at a time a thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._as_read = engine.get_execution_options().get("as_read")  # the file's stamp, where nothing locks it
        self._names = Names()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Raises StoreError if what could only be read was changed by somebody meanwhile."""
        self.engine.dispose()
        if self._as_read is not None and self._as_read != stamp(self.place):
            raise StoreError(f"{self.place} was changed while it was being read", hint="run the command again")

    @property
    def read_only(self) -> bool:
        """Whether this process may not write the store's file, or its folder; in a server, its tables."""
        if self.engine.dialect.name == "postgresql":
            return read_only(self.engine)
        place = self.engine.url.database
        return self.engine.dialect.name == "sqlite" and place not in (None, ":memory:") and not writable(str(place))

    @property
    def dialect(self) -> str:
        """sqlite or postgresql: SQLAlchemy's name of the database."""
        return self.engine.dialect.name

    @property
    def file(self) -> str | None:
        """The SQLite database's file; None in a server."""
        return self.engine.url.database if self.dialect == "sqlite" else None

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT of the store's own."""
        with self._read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql, tuple(params))]

    @property
    def place(self) -> str:
        """The file, or the URL without its password."""
        return named(self.engine)

    # -- traces ------------------------------------------------------------------------------------

    def create_trace(self, header: TraceHeader, *, source_key: str | None = None) -> TraceInfo:
        """A new, empty trace; its name gets a number if it is taken. Raises StoreError."""
        with self._write() as connection:
            if source_key is not None:
                row = connection.exec_driver_sql(
                    "SELECT name FROM trace_t WHERE source_key=?", (source_key,)
                ).fetchone()
                if row is not None:
                    raise ConcurrencyError(
                        f"{header.source}: it is trace {row[0]} already", hint="another program is importing it"
                    )
            name = self._free_name(connection, header.name)
            made = connection.exec_driver_sql(
                "INSERT INTO trace_t (name,source,format,release,version,config,faults,note,source_key,"
                "created_at,complete,head_seq) VALUES (?,?,?,?,?,?,?,?,?,?,0,0) RETURNING trace",
                (
                    name,
                    header.source,
                    header.format,
                    header.release,
                    header.version,
                    json.dumps(header.config),
                    header.faults,
                    header.note,
                    source_key,
                    datetime.now(UTC).isoformat(timespec="seconds"),
                ),
            )
            seal_header(connection, made.scalar_one())
        return self.trace(name)

    def _free_name(self, connection: Connection, wanted: str) -> str:
        taken = {row[0] for row in connection.exec_driver_sql("SELECT name FROM trace_t")}
        name, n = wanted, 2
        while name in taken:
            name, n = f"{wanted}-{n}", n + 1
        return name

    def set_header(self, trace: int, header: TraceHeader) -> None:
        """Write what became known of a trace while it was read (faults, note, configuration)."""
        with self._write() as connection:
            connection.exec_driver_sql(
                "UPDATE trace_t SET release=?, version=?, config=?, faults=?, note=? WHERE trace=?",
                (header.release, header.version, json.dumps(header.config), header.faults, header.note, trace),
            )
            seal_header(connection, trace)

    def traces(self) -> list[TraceInfo]:
        """All traces, oldest first."""
        with self._read() as connection:
            rows = connection.exec_driver_sql(_TRACES + " ORDER BY trace").fetchall()
        return [_info(row) for row in rows]

    def trace(self, name: str | int) -> TraceInfo:
        """A trace by name or number. Raises UnknownTraceError."""
        text = str(name)
        with self._read() as connection:
            row = connection.exec_driver_sql(_TRACES + " WHERE name=?", (text,)).fetchone()
            if row is None and text.isdigit():
                row = connection.exec_driver_sql(_TRACES + " WHERE trace=?", (int(text),)).fetchone()
            known = [r[0] for r in connection.exec_driver_sql("SELECT name FROM trace_t ORDER BY trace DESC LIMIT 5")]
        if row is None:
            hint = (
                f"known: {', '.join(known)}"
                if known
                else "the store is empty: `vmastore import` or `vmastore record`"
            )
            raise UnknownTraceError(f"no trace {text!r} in {self.place}", hint=hint)
        return _info(row)

    def by_source(self, source_key: str) -> TraceInfo | None:
        """The trace that was made from this source, if it was."""
        with self._read() as connection:
            row = connection.exec_driver_sql(_TRACES + " WHERE source_key=?", (source_key,)).fetchone()
        return None if row is None else _info(row)

    # -- appending ---------------------------------------------------------------------------------

    def append(
        self,
        trace: int,
        events: Sequence[Given],
        *,
        expected_version: int | None = None,
        files: Sequence[FileInfo] = (),
        key: str | None = None,
    ) -> int:
        """Append a batch in one transaction: all of it or nothing. Returns the new version (the last seq).

        Events must follow on without a gap. `key` names the batch: a second append of the same key to the
        same trace stores nothing and returns what the first one did, so a writer that did not see the answer
        may ask again. Raises ConcurrencyError, naming both versions, when the trace is not at
        `expected_version`; StoreError when the key was used for other events, and otherwise.
        """
        try:
            with self._append() as connection:
                head = appending.head_of(connection, trace)
                version = head.version
                if key is not None:
                    done = appending.batch_of_key(connection, self._names, trace, key, events)
                    if done is not None:
                        return done
                if expected_version is not None and version != expected_version:
                    raise ConcurrencyError(f"trace {trace} is at event {version}, not at {expected_version}")
                last = appending.append_batch(connection, self._names, trace, head, events, files)
                if key is not None:
                    connection.exec_driver_sql(
                        "INSERT INTO append_t VALUES (?,?,?,?)", (trace, key, version + 1, last)
                    )
                return last
        except BaseException:
            self._names = Names()  # the numbers given in what was rolled back will be given to others
            raise

    def import_events(self, info: TraceInfo, reader: Any, *, batch: int = BATCH) -> TraceInfo:
        """Stream a reader's events in, batch by batch; an interrupted import goes on where it stopped.

        reader: a TraceReader. Memory stays flat; every batch is one transaction.
        """
        stored, described = info.events, 0
        enabled = gc.isenabled()
        gc.disable()
        try:
            for chunk in appending.chunks_of(reader, batch, stored):
                files = reader.files[described:]
                described = len(reader.files)
                stored = self.append(info.trace, chunk, expected_version=stored, files=files)
        finally:
            if enabled:
                gc.enable()
        self._finish(info.trace, reader)
        return self.trace(info.header.name)

    def import_batches(
        self,
        info: TraceInfo,
        reader: Any,
        batches: Iterable[Sequence[Given]],
        *,
        source_key: Callable[[], str] | None = None,
    ) -> TraceInfo:
        """Store a reader's events as they come, each batch at once; what an earlier run has stored is passed over.

        source_key: asked for when the batches have ended, for what the trace is known by from then on; None: for
        what cannot be read a second time.
        """
        stored, seen, described = info.events, 0, 0
        for batch in batches:
            fresh = batch[max(0, stored - seen) :]
            seen += len(batch)
            if fresh:
                files = reader.files[described:]
                described = len(reader.files)
                stored = self.append(info.trace, fresh, expected_version=stored, files=files)
        self._finish(info.trace, reader)
        key = None if source_key is None else source_key()
        if key is not None and self.by_source(key) is None:
            with self._write() as connection:
                connection.exec_driver_sql("UPDATE trace_t SET source_key=? WHERE trace=?", (key, info.trace))
                seal_header(connection, info.trace)
        return self.trace(info.header.name)

    def _finish(self, trace: int, reader: Any) -> None:
        with self._write() as connection:
            connection.exec_driver_sql("DELETE FROM skip_t WHERE trace=?", (trace,))
            skips = [(trace, n, *skip) for n, skip in enumerate(reader.skips())]
            if skips:
                connection.exec_driver_sql("INSERT INTO skip_t VALUES (?,?,?,?,?,?,?)", skips)
            write_files(connection, trace, reader.files)
            connection.exec_driver_sql("UPDATE trace_t SET complete=1 WHERE trace=?", (trace,))
            analyze(connection, ("event_t",))
            seal_header(connection, trace)
        self.set_header(trace, reader.header)

    # -- reading -----------------------------------------------------------------------------------

    def events(self, trace: int, start: int = 1, stop: int | None = None) -> Iterator[Event]:
        """The events from start to stop (both included), in order."""
        for chunk in self.event_chunks(trace, start, stop):
            yield from chunk

    def event_chunks(
        self, trace: int, start: int = 1, stop: int | None = None, *, rows: bool = False
    ) -> Iterator[list[Event]]:
        """The same in lists, for loops over many: a connection is held until the last.

        rows: from the rows alone, even where chunks hold the same events.
        """
        last = (1 << 62) if stop is None else stop
        with self._read() as connection:
            names, steps = self._calls(connection)
            payload = self.payloads(connection, trace)
            base = connection.exec_driver_sql("SELECT base_ns FROM trace_t WHERE trace=?", (trace,)).scalar()

            def site_text(number: int) -> str:
                found = connection.exec_driver_sql("SELECT text FROM site_t WHERE site=?", (number,))
                return str(found.scalar_one())

            def from_rows(low: int, high: int) -> Iterator[list[Event]]:
                pieces = scan(connection, SELECT, (base, trace, low, high))
                return event_chunks(pieces, names, Tasks(connection), steps, site_text, payload)

            if rows:
                yield from from_rows(start, last)
            else:
                yield from chunks.read(connection, trace, start, last, from_rows, payload)

    def payloads(self, connection: Connection, trace: int) -> Callable[[int], bytes | None]:
        """What gives the observed lines, packed, of a `maps` event by its number; None: it has none."""

        def payload(seq: int) -> bytes | None:
            found = connection.exec_driver_sql("SELECT payload FROM observed_t WHERE trace=? AND seq=?", (trace, seq))
            stored = found.scalar_one_or_none()
            return None if stored is None else bytes(stored)

        return payload

    def event(self, trace: int, seq: int) -> Event:
        """One event. Raises StoreError if there is none."""
        for found in self.events(trace, seq, seq):
            return found
        raise StoreError(f"trace {trace} has no event {seq}")

    def _calls(self, connection: Connection) -> tuple[dict[int, str], dict[int, tuple[Step, ...]]]:
        """(names, steps from older versions) of calls by number. Raises StoreError for arguments newer than ours."""
        rows = connection.exec_driver_sql("SELECT call, name, version FROM call_t").fetchall()
        try:
            steps = {number: found for number, name, version in rows if (found := steps_from(name, version))}
        except ValueError as error:
            raise StoreError(f"{self.place}: {error}", hint="upgrade vmastore to read it") from None
        return {row[0]: row[1] for row in rows}, steps

    def files(self, trace: int) -> dict[int, FileInfo]:
        """The open file descriptions of a trace, by number."""
        with self._read() as connection:
            return read_files(connection, trace)

    def skips(self, trace: int) -> list[tuple[Any, ...]]:
        """(tid, call, reason, source_line, count) of what became no event."""
        with self._read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT tid,call,reason,source_line,count FROM skip_t WHERE trace=? ORDER BY n", (trace,)
            ).fetchall()
        return [tuple(r) for r in rows]

    def address_spaces(self, trace: int) -> list[tuple[Any, ...]]:
        """(mm, pid, parent_mm, origin, born_seq, died_seq, events) of each address space."""
        with self._read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT mm,pid,parent_mm,origin,born_seq,died_seq,events FROM address_space_t"
                " WHERE trace=? ORDER BY mm",
                (trace,),
            ).fetchall()
        return [tuple(r) for r in rows]

    # -- connections -------------------------------------------------------------------------------

    def _write(self) -> Guarded:
        return Guarded(self.engine, write=True)

    def _append(self) -> Guarded:
        """For rows whose references were looked up or made in the same transaction."""
        return Guarded(self.engine, write=True, append=True)

    def _read(self) -> Guarded:
        return Guarded(self.engine, write=False)


_TRACES = (
    "SELECT trace,name,source,format,release,version,config,faults,note,complete,created_at,head_seq FROM trace_t"
)


def _info(row: Any) -> TraceInfo:
    header = TraceHeader(row[1], row[2], row[3], row[4], row[5], json.loads(row[6]), row[7], row[8])
    return TraceInfo(row[0], header, row[11] or 0, bool(row[9]), row[10])
