"""The open file descriptions of a trace, as rows and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from vmastore.events.codec import clean
from vmastore.events.types import FileInfo
from vmastore.store.seals import FILE, file_rows, seal_files

_WRITE = (
    f"INSERT INTO file_t (trace,{FILE}) VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (trace, file) DO UPDATE SET "
    + ", ".join(f"{name}=excluded.{name}" for name in FILE.split(",")[1:])
)


def write_files(connection: Connection, trace: int, files: Sequence[FileInfo]) -> None:
    """Store descriptions, each in place of what was stored under its number, and the digest of all."""
    rows = {info.file: (trace, *_storable(info)) for info in files}
    if not rows:  # a recording has let go of them all
        return
    numbers = list(rows)
    before = file_rows(connection, trace, numbers)
    connection.exec_driver_sql(_WRITE, list(rows.values()))
    after = file_rows(connection, trace, numbers)
    found = connection.exec_driver_sql("SELECT files_hash FROM trace_t WHERE trace=?", (trace,)).fetchone()
    if found is not None:  # else a foreign key says so
        sealed = seal_files(after, found[0], before)
        connection.exec_driver_sql("UPDATE trace_t SET files_hash=? WHERE trace=?", (sealed, trace))


def read_files(connection: Connection, trace: int) -> dict[int, FileInfo]:
    """All descriptions of a trace, by number."""
    rows = connection.exec_driver_sql(f"SELECT {FILE} FROM file_t WHERE trace=?", (trace,))
    return {r[0]: FileInfo(r[0], r[1], r[2], _bool(r[3]), _bool(r[4]), *r[5:]) for r in rows}


def _storable(info: FileInfo) -> tuple[Any, ...]:
    """A description as a row; bytes of a path that are no UTF-8 are written as \\xNN."""
    path = None if info.path is None else clean(info.path)
    readable, writable = (None if flag is None else int(flag) for flag in (info.readable, info.writable))
    return (info.file, path, info.kind, readable, writable, *info[5:])


def _bool(value: int | None) -> bool | None:
    return None if value is None else bool(value)
