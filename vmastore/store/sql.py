"""Read-only SQL: no write, no ATTACH, no extension, a time limit."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from vmastore.errors import StoreError
from vmastore.store.moments import AsOf, alive, expand
from vmastore.store.readable import Readable, StoreFile
from vmastore.store.resolve import Resolver
from vmastore.store.sqlite import BUSY_SECONDS, read_only_uri, register

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_PRAGMAS = {"table_info", "table_list", "table_xinfo", "index_list", "database_list", "compile_options"}
_STEPS = 10_000  # virtual machine steps between two looks at the clock


def query(
    store: Readable,
    sql: str,
    params: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
    as_of: AsOf | None = None,
) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """(column names, rows) of one SELECT. Raises StoreError: wrong SQL, a write, the time limit (seconds).

    as_of: `vmas` shows the VMAs alive at that moment alone.
    """
    expanded = expand(sql)
    if not isinstance(store, StoreFile) and store.dialect == "postgresql":
        from vmastore.store import pgquery

        return pgquery.query(store, sql, params or {}, timeout=timeout, as_of=as_of)
    resolver = Resolver(lambda: _open(store))
    connection = _open(store)
    resolver.register(connection)
    if as_of is not None:
        replay, seq = resolver.replay(as_of.trace, as_of.kernel), resolver.seq(as_of.trace, as_of.seq)
        connection.execute(f"CREATE TEMP VIEW vmas AS {alive(str(replay), str(seq))}")
    limit = _restrict(connection, timeout)
    refusal = partial(_refusal, resolver=resolver, limit=limit)
    try:
        cursor = connection.execute(expanded, {} if params is None else params)
        # the first row now: what is wrong with a query shows before anything is printed
        first = cursor.fetchone() if cursor.description is not None else None
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise refusal(error) from None
    except KeyboardInterrupt:
        raise refusal(sqlite3.OperationalError("interrupted")) from None
    if cursor.description is None:
        raise StoreError("the statement gives no rows", hint="`vmastore sql` reads only: write a SELECT")
    return [column[0] for column in cursor.description], _rows(connection, cursor, first, resolver, refusal)


class _Unknown(dict[str, Any]):
    def __missing__(self, name: str) -> None:
        return None


def check(store: Readable, sql: str) -> None:
    """Refuse a text that is no SELECT on this store, without running it. Raises StoreError."""
    if not isinstance(store, StoreFile) and store.dialect == "postgresql":
        from vmastore.store import pgquery

        expand(sql)
        pgquery.check(store, sql)
        return
    columns, rows = query(store, f"EXPLAIN {sql}", _Unknown())
    if not any(row[columns.index("opcode")] == "ResultRow" for row in rows):
        raise StoreError("the statement gives no rows", hint="`vmastore sql` reads only: write a SELECT")


def connect(store: Readable, timeout: float | None = None) -> sqlite3.Connection:
    """A connection that can only read. Raises StoreError for other databases than SQLite."""
    connection = _open(store)
    _restrict(connection, timeout)
    return connection


def _open(store: Readable) -> sqlite3.Connection:
    if not store.file:
        raise StoreError("read-only SQL needs a SQLite store", hint="use the database's own client")
    uri = read_only_uri(store.file)
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
    register(connection)
    return connection


class _Limit:
    """SQLite's progress handler: stops a query whose time is up. Ctrl-C is seen while it runs, too."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.end = None if seconds is None else time.monotonic() + seconds
        self.up = False

    def __call__(self) -> bool:
        self.up = self.end is not None and time.monotonic() > self.end
        return self.up


def _restrict(connection: sqlite3.Connection, timeout: float | None) -> _Limit:
    connection.execute("PRAGMA query_only=ON")
    connection.set_authorizer(authorize)
    limit = _Limit(timeout)
    connection.set_progress_handler(limit, _STEPS)
    return limit


def authorize(action: int, one: str | None, two: str | None, *_: Any) -> int:
    """SQLite's authorizer for reading only: no write, no ATTACH, no extension."""
    if action in _ALLOWED:
        if action == sqlite3.SQLITE_FUNCTION and two == "load_extension":
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and one in _PRAGMAS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _rows(
    connection: sqlite3.Connection,
    cursor: sqlite3.Cursor,
    first: tuple[Any, ...] | None,
    resolver: Resolver,
    refusal: Callable[[Exception], StoreError],
) -> Iterator[tuple[Any, ...]]:
    try:
        if first is not None:
            yield first
            yield from cursor
    except sqlite3.Error as error:
        raise refusal(error) from None
    finally:
        connection.close()
        resolver.close()


def _refusal(error: Exception, limit: _Limit, resolver: Resolver | None = None) -> StoreError:
    text = str(error)
    if resolver is not None and resolver.error is not None and "user-defined function" in text:
        return resolver.error
    if any(word in text for word in ("not authorized", "prohibited", "readonly", "authorization denied")):
        return StoreError(f"refused: {text}", hint="`vmastore sql` reads only: no write, no ATTACH, no extension")
    if "interrupted" in text and not limit.up:
        return StoreError("the query was interrupted")
    if "interrupted" in text:
        return StoreError(f"the query took longer than {limit.seconds:g} s", hint="give more with --timeout")
    return StoreError(f"SQL: {text}", hint="`vmastore sql --schema` shows the views and their columns")
