"""Opening databases: where they are, what state they are in, what is registered on each connection."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from vmastore.errors import StoreError
from vmastore.mm.flags import U64, perms, vmflags_letters
from vmastore.store import postgresql

APPLICATION_ID = 0x766D6173  # "vmas": marks a SQLite file as a store
BUSY_SECONDS = postgresql.BUSY_SECONDS
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


def check_file(path: str) -> None:
    """Refuse what is there but is no store: a directory, a foreign or damaged file. Raises StoreError."""
    file = Path(path)
    if file.is_dir():
        raise StoreError(f"{path} is a directory", hint="name a file: --store vmastore.db")
    if not file.exists():
        if not file.parent.is_dir():
            raise StoreError(f"{path}: the folder {file.parent} does not exist")
        return
    try:
        with open(file, "rb") as stream:
            head = stream.read(100)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    if head and not head.startswith(b"SQLite format 3\x00"):
        raise StoreError(f"{path} is not a vmastore database (no SQLite file)")
    if len(head) == 100 and int.from_bytes(head[68:72], "big") not in (APPLICATION_ID, 0):
        raise StoreError(f"{path} is a database of another program")


def writable(path: str) -> bool:
    """Whether this process may write a database that is there: SQLite needs to write its folder too."""
    return os.access(path, os.W_OK) and os.access(Path(path).parent, os.W_OK | os.X_OK)


def frozen(path: str) -> bool:
    """Whether a database can only be read as it lies there, without the files that WAL needs beside it.

    So it is when it cannot be written and nobody has it open. Raises StoreError when it holds changes that
    are in its -wal file alone and cannot be read without writing.
    """
    if not Path(path).exists() or writable(path):
        return False
    if Path(f"{path}-shm").exists():
        return False  # somebody has it open, or had: SQLite reads what is there
    wal = Path(f"{path}-wal")
    if not wal.exists() or wal.stat().st_size == 0:
        return True
    if os.access(wal.parent, os.W_OK | os.X_OK):
        return False
    raise StoreError(
        f"{path} cannot be read where it is: {wal.name} holds changes, and the folder cannot be written",
        hint=f"copy {path} and {wal.name} to a folder of your own",
    )


def read_only_uri(path: str) -> str:
    """The URI by which SQLite opens a database for reading."""
    return f"file:{quote(path)}?mode=ro{'&immutable=1' if frozen(path) else ''}"


def stamp(path: str) -> tuple[int, int, int]:
    """What changes when a database is written: its inode, its size, its time."""
    info = os.stat(path)
    return info.st_ino, info.st_size, info.st_mtime_ns


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


def prepare(connection: sqlite3.Connection) -> None:
    """Pragmas and SQL functions of a writing connection."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        try:
            cursor.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError:
            if not pragma.startswith("journal_mode"):
                raise
    cursor.close()
    register(connection)


def register(connection: sqlite3.Connection) -> None:
    """The SQL functions of design: hex_addr, addr, perms, flag_names."""
    one = {"deterministic": True}
    connection.create_function("hex_addr", 1, lambda n: None if n is None else f"0x{n & U64:x}", **one)
    connection.create_function("addr", 1, _addr, **one)
    connection.create_function("perms", 1, lambda f: None if f is None else perms(f), **one)
    connection.create_function("flag_names", 1, lambda f: None if f is None else vmflags_letters(f), **one)


def _addr(text: Any) -> int | None:
    if text is None or isinstance(text, int):
        return text
    value = int(str(text), 16 if str(text)[:2].lower() == "0x" else 10)
    return value - (1 << 64) if value >> 63 else value
