"""SQLAlchemy's engines: where a database is, how its transactions begin, statements past its own rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from vmastore.errors import StoreError
from vmastore.store import postgresql
from vmastore.store.sqlite import BUSY_SECONDS, frozen, prepare, read_only_uri, register, stamp

PIECE = 2000  # rows fetched at a time


def to_url(place: str | Path) -> URL:
    """The SQLAlchemy URL of a path or URL; postgresql:// means psycopg. Raises StoreError."""
    text = str(place)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise StoreError(f"{text} is not a database URL: {error}") from None
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def named(engine: Engine) -> str:
    """What a message calls a database: the file, or the URL without its password."""
    url = engine.url
    return url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def _frozen_engine(url: URL, path: str) -> Engine:
    """An engine that reads a database as it lies there, without locks; its option as_read is the file's stamp."""
    as_read = stamp(path)
    uri = read_only_uri(path)

    def connect() -> sqlite3.Connection:
        made = sqlite3.connect(uri, uri=True, check_same_thread=False)
        made.isolation_level = None
        register(made)
        return made

    engine = create_engine(url, creator=connect, execution_options={"as_read": as_read})

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        if not connection.get_execution_options().get("reading"):
            raise StoreError(f"{path} cannot be written", hint="check its permissions and its folder's")
        connection.exec_driver_sql("BEGIN")

    return engine


def make_engine(url: URL) -> Engine:
    """An engine whose SQLite connections have WAL, a busy timeout, foreign keys and our functions.

    Raises StoreError: another database than SQLite and PostgreSQL, or its driver is missing.
    """
    backend = url.get_backend_name()
    if backend == "postgresql":
        return postgresql.make_engine(url)
    if backend != "sqlite":
        raise StoreError(
            f"{url.render_as_string(hide_password=True)}: a store is in SQLite or PostgreSQL",
            hint="--store PATH or --store postgresql+psycopg://USER@HOST/DATABASE",
        )
    if url.database and url.database != ":memory:" and frozen(url.database):
        return _frozen_engine(url, url.database)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing: `_begin` does
        prepare(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        options = connection.get_execution_options()
        keys = not options.get("appending", False)
        if connection.info.get("foreign_keys", True) != keys:  # a pragma that does nothing within a transaction
            raw: Any = connection.connection.driver_connection
            raw.execute(f"PRAGMA foreign_keys={'ON' if keys else 'OFF'}")
            connection.info["foreign_keys"] = keys
        connection.exec_driver_sql("BEGIN" if options.get("reading") else "BEGIN IMMEDIATE")

    return engine


def appender(engine: Engine) -> Engine:
    """The same engine for transactions that append, and know that what the rows refer to is there.

    SQLite does not look each reference up again, which takes a tenth of an insert; `db check` does.
    """
    return engine.execution_options(appending=True)


def reader(engine: Engine) -> Engine:
    """The same engine for transactions that only read: they never wait for a writer."""
    return engine.execution_options(reading=True)


def scan(connection: Connection, sql: str, params: Sequence[Any]) -> Iterator[Sequence[tuple[Any, ...]]]:
    """The rows of a query, a piece at a time; on SQLite past SQLAlchemy's rows, which cost as much again."""
    if connection.dialect.name == "sqlite":
        cursor = connection.connection.cursor()
        cursor.execute(sql, params)
        while rows := cursor.fetchmany(PIECE):
            yield rows
        return
    streaming = connection.execution_options(stream_results=True, max_row_buffer=PIECE)
    for part in streaming.exec_driver_sql(sql, tuple(params)).partitions(PIECE):
        yield [tuple(row) for row in part]


def run(connection: Connection, sql: str, params: Any) -> Any:
    """Execute a statement (a list of rows: once for each); on SQLite past SQLAlchemy, whose share of it is most.

    Returns what has fetchone and fetchall. Errors may be sqlite3's own: Guarded tells them all alike.
    """
    if connection.dialect.name != "sqlite":
        return connection.exec_driver_sql(sql, [*map(tuple, params)] if isinstance(params, list) else params)
    cursor = connection.connection.cursor()
    return cursor.executemany(sql, params) if isinstance(params, list) else cursor.execute(sql, params)
