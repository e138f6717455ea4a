"""What is PostgreSQL's own: its driver, how its transactions begin, the SQL functions of the views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, Table, create_engine, event, text
from sqlalchemy.engine import URL

from vmastore.errors import StoreError
from vmastore.mm.flags import LETTERS, VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE
from vmastore.store.views import View

BUSY_SECONDS = 30
_LOCK = 0x766D6173  # of the writers, within the database


def make_engine(url: URL) -> Engine:
    """An engine that takes the store's SQL as it is written for SQLite. Raises StoreError: no driver.

    Writers take turns, as they do in SQLite: a lock from the beginning of a writing transaction to its
    end keeps `seq` free of gaps. Readers see the database as of their first look, and cannot write.
    """
    try:
        engine = create_engine(url, isolation_level="READ COMMITTED")
    except ImportError:
        raise StoreError(
            f"{url.render_as_string(hide_password=True)}: the driver of PostgreSQL is not installed",
            hint="pip install 'vmastore[postgresql]'",
        ) from None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("reading"):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        else:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def _placeholders(
        _connection: Connection, _cursor: Any, statement: str, parameters: Any, context: Any, _many: bool
    ) -> tuple[str, Any]:
        if context is not None and context.compiled is None and parameters:
            statement = statement.replace("%", "%%").replace("?", "%s")
        return statement, parameters

    return engine


def comments(tables: Iterable[Table], views: Iterable[View]) -> list[str]:
    """Statements that put the schema's comments where the server's own clients show them."""
    found = {}
    for view in views:
        found[f"VIEW {view.name}"] = view.comment
        found.update({f'COLUMN {view.name}."{name}"': comment for name, _, comment in view.columns})
    for table in tables:
        found.update({f'COLUMN {table.name}."{column.name}"': column.comment or "" for column in table.columns})
    return [f"COMMENT ON {what} IS '{text.replace(chr(39), chr(39) * 2)}'" for what, text in found.items()]


def query(engine: Engine, sql: str, params: Mapping[str, Any], timeout: float | None) -> CursorResult[Any]:
    """The result of one SELECT in a transaction that can only read, its rows fetched as they are asked for.

    params: for :name in the query. timeout: seconds. The caller closes the result's connection.
    """
    connection = engine.execution_options(reading=True).connect()
    try:
        if timeout is not None:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int(timeout * 1000))}")
        # a cursor is declared for it: that takes one statement, which has to be a SELECT
        return connection.execute(text(sql), dict(params), execution_options={"stream_results": True})
    except BaseException:
        connection.close()
        raise


def functions() -> list[str]:
    """Statements that make hex_addr, addr, perms and flag_names."""
    letter = "CASE WHEN ($1 & {0}) <> 0 THEN '{1}' ELSE '{2}' END".format
    perms = " || ".join(
        letter(bit, yes, no)
        for bit, yes, no in ((VM_READ, "r", "-"), (VM_WRITE, "w", "-"), (VM_EXEC, "x", "-"), (VM_MAYSHARE, "s", "p"))
    )
    names = ", ".join(f"CASE WHEN ($1 & {bit}) <> 0 THEN '{letters}' END" for bit, letters in LETTERS)
    hexadecimal = "('x' || lpad(substr($1, 3), 16, '0'))::bit(64)::bigint"
    decimal = "(CASE WHEN $1::numeric >= 2::numeric ^ 63 THEN $1::numeric - 2::numeric ^ 64 ELSE $1::numeric END)"
    addr = f"CASE WHEN lower(left($1, 2)) = '0x' THEN {hexadecimal} ELSE {decimal}::bigint END"
    bodies = {
        "hex_addr(bigint) RETURNS text": "'0x' || to_hex($1)",
        "addr(text) RETURNS bigint": addr,
        "addr(bigint) RETURNS bigint": "$1",
        "perms(bigint) RETURNS text": perms,
        "flag_names(bigint) RETURNS text": f"concat_ws(' ', {names})",
    }
    return [
        f"CREATE OR REPLACE FUNCTION {head} LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT {body} $$"
        for head, body in bodies.items()
    ]
