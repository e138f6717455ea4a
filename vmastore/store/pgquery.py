"""Read-only SQL on a store in PostgreSQL: one statement, in a transaction that can only read, under a time limit."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from vmastore.errors import StoreError
from vmastore.store.engine import PIECE, reader
from vmastore.store.guard import explain
from vmastore.store.moments import AsOf, expand
from vmastore.store.pgfunctions import ENGINE, REFUSED
from vmastore.store.store import Store
from vmastore.version import engine

_TOKEN = re.compile(
    r"[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(\$\w*\$).*?\1|--[^\n]*|/\*.*?(?:\*/|$)"
    r"|::|:[A-Za-z_]\w*|[A-Za-z_]\w*|\s+|.",
    re.S,
)
_CLOCKED = re.compile(r"\b(trace_of|replay_of|seq_of|peak_of)$", re.I)
_MOMENT = "vmas AS (SELECT * FROM vmas_at(%(as_of_trace)s, %(as_of_seq)s, %(as_of_kernel)s))"
_READS_ONLY = "`vmastore sql` reads only: write a SELECT"
_REFUSALS = {"25006", "42501", "0A000"}  # read-only transaction, no right to it, writing within WITH
_WRITES = re.compile(r'at or near "(INSERT|UPDATE|DELETE|MERGE)"', re.I)
_SYNTAX = "42601"
_CANCELED = "57014"
_NO_FUNCTION = "42883"


class _Statement(NamedTuple):
    """A query as the driver takes it, and its parameters."""

    sql: str
    params: dict[str, Any]
    explains: bool


def query(
    store: Store, sql: str, params: Mapping[str, Any], *, timeout: float | None = None, as_of: AsOf | None = None
) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """(column names, rows) of one SELECT, or of EXPLAIN and one. Raises StoreError.

    params: for :name in the query. timeout: seconds, for all of it. as_of: `vmas` shows that moment alone.
    """
    run = _Run(store, sql, timeout)
    try:
        statement = _statement(sql, params, as_of)
        if as_of is not None:  # an unknown moment is an error in any query
            run.first("SELECT replay_of(%s, %s), seq_of(%s, %s)", (as_of.trace, as_of.kernel, as_of.trace, as_of.seq))
        columns, rows = run.begin(statement)
    except BaseException as error:
        run.close()
        raise run.refusal(error) from None
    return columns, rows


def check(store: Store, sql: str) -> None:
    """Refuse a text that is no SELECT on this store, without running or planning it. Raises StoreError."""
    from psycopg import errors, pq

    statement = _statement(sql, _Any(), None)
    numbers = {name: f"${n}" for n, name in enumerate(statement.params, 1)}
    text = re.sub(r"%%|%\((\w+)\)s", lambda found: numbers[found[1]] if found[1] else "%", statement.sql)
    run = _Run(store, sql, None)
    try:
        raw: Any = run.connection.connection.driver_connection
        told = raw.pgconn.prepare(b"", f"DECLARE c CURSOR FOR {text}".encode())
        if told.status != pq.ExecStatus.COMMAND_OK:
            raise errors.error_from_result(told)
    except Exception as error:
        raise run.refusal(error) from None
    finally:
        run.close()


class _Any(dict[str, Any]):
    """Some value for each parameter."""

    def __missing__(self, name: str) -> None:
        return None


def _statement(sql: str, params: Mapping[str, Any], as_of: AsOf | None) -> _Statement:
    """The query with its parameters as the driver has them. Raises StoreError: one has no value, bad arguments."""
    expand(sql)  # a wrong number of arguments is told in the words of any store
    tokens = [found[0] for found in _TOKEN.finditer(sql)]
    while tokens and (tokens[-1].isspace() or tokens[-1] == ";" or tokens[-1].startswith(("--", "/*"))):
        tokens.pop()
    bound: dict[str, Any] = {}
    words = [n for n, t in enumerate(tokens) if not (t.isspace() or t.startswith(("--", "/*")))]
    first = tokens[words[0]].upper() if words else ""
    pieces = [_bound(token, params, bound) for token in _asked_once(tokens)]
    if as_of is not None:
        bound |= {"as_of_trace": as_of.trace, "as_of_seq": as_of.seq, "as_of_kernel": as_of.kernel}
        second = tokens[words[1]].upper() if len(words) > 1 else ""
        ahead = words[second == "RECURSIVE"] + 1 if first == "WITH" else 0
        pieces.insert(ahead, f" {_MOMENT}," if ahead else f"WITH {_MOMENT} ")
    if not first:
        raise StoreError("the statement gives no rows", hint=_READS_ONLY)
    return _Statement("".join(pieces), bound, first == "EXPLAIN")


def _bound(token: str, params: Mapping[str, Any], bound: dict[str, Any]) -> str:
    if token.startswith(":") and len(token) > 1 and token != "::":
        name = token[1:]
        try:
            bound[name] = params[name]
        except KeyError:
            raise StoreError(f"SQL: no value for {token}", hint=f"-p {name}=…") from None
        return f"%({name})s"
    return token.replace("%", "%%")


def _asked_once(tokens: list[str]) -> list[str]:
    """Each call of replay_of and the like within a scalar subquery: the server then asks once, not for each row."""
    found: list[str] = []
    depth, ends = 0, []
    for n, token in enumerate(tokens):
        opens = next((t for t in tokens[n + 1 :] if not t.isspace()), "") == "(" if _CLOCKED.match(token) else False
        if opens:
            found.append("(SELECT ")
            ends.append(depth)
        found.append(token)
        depth += (token == "(") - (token == ")")
        if token == ")" and ends and ends[-1] == depth:
            ends.pop()
            found.append(")")
    return found


class _Run:
    """One query on a connection of its own."""

    def __init__(self, store: Store, sql: str, timeout: float | None) -> None:
        self.store = store
        self.sql = sql
        self.timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout
        try:
            self.connection: Connection = reader(store.engine).connect()
            self.first("SELECT set_config(%s, %s, true)", (ENGINE, engine()))
        except SQLAlchemyError as error:
            raise explain(store.engine, error) from None

    def close(self) -> None:
        """End the transaction."""
        self.connection.close()

    def first(self, sql: str, params: tuple[Any, ...]) -> Any:
        """The first row of a query of our own, within the limit."""
        self._limit()
        options = {"native": True}
        return self.connection.exec_driver_sql(sql, params, execution_options=options).fetchone()

    def _limit(self) -> None:
        """The server's limit for the next statement: what is left of the time."""
        if self._end is not None:
            left = max(1, int((self._end - time.monotonic()) * 1000))
            self.connection.exec_driver_sql(f"SET LOCAL statement_timeout = {left}")

    def begin(self, statement: _Statement) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """(columns, rows), the first of which have been fetched: what is wrong shows before anything is printed."""
        self._limit()
        if statement.explains:
            return self._explained(statement)
        # a cursor is declared for it: that takes one statement, which has to be a SELECT
        options = {"native": True, "stream_results": True, "max_row_buffer": PIECE}
        result = self.connection.exec_driver_sql(statement.sql, statement.params, execution_options=options)
        self._limit()
        first = result.fetchmany(1)
        rows = self._rows(result, first)
        next(rows)  # begun, so that closing it ends the transaction
        return list(result.keys()), rows

    def _rows(self, result: Any, first: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        try:
            yield ()
            rows = first
            while rows:
                for row in rows:
                    yield tuple(map(_plain, row))
                rows = self._more(result)
        finally:
            self.close()

    def _more(self, result: Any) -> Sequence[Any]:
        try:
            self._limit()
            found: Sequence[Any] = result.fetchmany(PIECE)
            return found
        except (SQLAlchemyError, KeyboardInterrupt) as error:
            raise self.refusal(error) from None

    def _explained(self, statement: _Statement) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """EXPLAIN has no cursor; prepared, it is one statement all the same."""
        raw: Any = self.connection.connection.driver_connection
        cursor = raw.execute(statement.sql, statement.params, prepare=True)
        rows = [tuple(row) for row in cursor.fetchall()]
        self.close()
        return [column.name for column in cursor.description], iter(rows)

    def refusal(self, error: BaseException) -> BaseException:
        """An error as a user can act on it; what is no error of a query comes back as it is."""
        if isinstance(error, KeyboardInterrupt):
            return StoreError("the query was interrupted")  # the driver has cancelled it on the server
        original: Any = getattr(error, "orig", error)
        state = getattr(original, "sqlstate", None)
        if state is None:
            return explain(self.store.engine, error) if isinstance(error, SQLAlchemyError) else error
        told = original.diag.message_primary or str(original).splitlines()[0]
        return self._told(state, told, original.diag.message_hint)

    def _told(self, state: str, told: str, hint: str | None) -> StoreError:
        if state == REFUSED:
            return StoreError(told, hint=hint)
        if state == _CANCELED and "statement timeout" in told:
            return StoreError(f"the query took longer than {self.timeout:g} s", hint="give more with --timeout")
        if state == _CANCELED:
            return StoreError("the query was interrupted")
        writes = state == _SYNTAX and (_WRITES.search(told) or not _selects(self.sql))
        if state in _REFUSALS or writes:
            return StoreError(f"refused: {told.replace('DECLARE CURSOR', 'the query')}", hint=_READS_ONLY)
        if state == _NO_FUNCTION:
            return StoreError(f"SQL: {told}", hint="`vmastore sql --schema` shows the functions and their arguments")
        return StoreError(f"SQL: {told}", hint="`vmastore sql --schema` shows the views and their columns")


def _selects(sql: str) -> bool:
    """Whether a text is one statement that begins as one that gives rows."""
    return re.match(r"\s*(?:--[^\n]*\n\s*)*\(*\s*(?:SELECT|WITH|VALUES|TABLE|EXPLAIN)\b", sql, re.I) is not None


def _plain(value: Any) -> Any:
    """A sum or an average of integers as a number: PostgreSQL's is a Decimal."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
