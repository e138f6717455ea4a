"""SQLite without SQLAlchemy: what state a file is in, what is set and registered on each connection."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vmastore.errors import StoreError
from vmastore.mm.flags import U64, perms, vmflags_letters

APPLICATION_ID = 0x766D6173  # "vmas": marks a SQLite file as a store
BUSY_SECONDS = 30  # that a writer waits for another


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
