"""What the chain of events does not cover: digests of a trace's header, of its files, of the names of arguments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection

HEADER = "name,source,format,release,version,config,faults,note,source_key,created_at,complete"
FILE = "file,path,kind,readable,writable,dev,inode,size,origin,flags"
SIZE = 16  # bytes of a digest
_MASK = (1 << 8 * SIZE) - 1
_AT_ONCE = 500  # numbers in one statement


def seal(row: Iterable[Any]) -> bytes:
    """The digest of a stored row: of its values as JSON has them."""
    return blake2b(json.dumps(list(row)).encode(), digest_size=SIZE).digest()


def seal_files(
    rows: Iterable[Sequence[Any]], since: bytes | None = None, less: Iterable[Sequence[Any]] = ()
) -> bytes:
    """The digest of a set of rows, whatever their order: the sum of theirs, modulo 2^128.

    since: that of a set that `rows` come to, and `less` go from.
    """
    total = int.from_bytes(since or b"", "big")
    total += sum(int.from_bytes(seal(row), "big") for row in rows)
    total -= sum(int.from_bytes(seal(row), "big") for row in less)
    return (total & _MASK).to_bytes(SIZE, "big")


def seal_header(connection: Connection, trace: int) -> None:
    """Write the digest of a trace's header as it now is: after each change of it, in the same transaction."""
    row = connection.exec_driver_sql(f"SELECT {HEADER} FROM trace_t WHERE trace=?", (trace,)).fetchone()
    if row is not None:
        connection.exec_driver_sql("UPDATE trace_t SET header_hash=? WHERE trace=?", (seal(row), trace))


def file_rows(connection: Connection, trace: int, files: Sequence[int]) -> list[Sequence[Any]]:
    """The stored rows (FILE) of some files of a trace."""
    found: list[Sequence[Any]] = []
    for start in range(0, len(files), _AT_ONCE):
        some = files[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        found += connection.exec_driver_sql(
            f"SELECT {FILE} FROM file_t WHERE trace=? AND file IN ({marks})", (trace, *some)
        )
    return found


def broken(connection: Connection, trace: int) -> list[str]:
    """What of a trace's header and files is not as it was stored."""
    found = []
    header, files, *row = connection.exec_driver_sql(
        f"SELECT header_hash,files_hash,{HEADER} FROM trace_t WHERE trace=?", (trace,)
    ).one()
    if header != seal(row):
        found.append("its header (name, source, kernel, configuration, …) is not what was stored")
    rows = connection.exec_driver_sql(f"SELECT {FILE} FROM file_t WHERE trace=?", (trace,))
    if seal_files(rows) != (files or bytes(SIZE)):
        found.append("its files are not those that were stored")
    return found


def broken_calls(connection: Connection) -> list[str]:
    """The calls whose name, version or names of arguments are not as they were stored."""
    rows = connection.exec_driver_sql("SELECT name,version,arg_names,hash FROM call_t ORDER BY call")
    return [
        f"call {row[0]}: the names of its arguments are not what was stored"
        for row in rows
        if row[3] != seal(row[:3])
    ]
