"""Inserting event rows: many in one statement, and what nearly all of them leave empty not bound at all.

Bound one by one, a row of 16 values costs SQLite and its driver twice as much as eleven values in a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, groupby, repeat
from typing import Any

from sqlalchemy import Connection

from vmastore.store.engine import run
from vmastore.store.rows import COLUMNS

# rows of two shapes, told apart by their length: (seq, what these name, hash), in this order
PLAIN = "mm,task,ts,call,args,result,line,source_offset"  # errno 0, no file, call site or injection
_EMPTY = {PLAIN: ("errno,file,injected,site", "0,NULL,0,NULL")}  # columns that a shape leaves out, their values
_SHAPES = {len(columns.split(",")) + 2: columns for columns in (PLAIN, COLUMNS)}
_BLOCK = 50  # rows a statement: SQLite before 3.32 takes at most 999 values


def insert_events(connection: Connection, trace: int, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert the rows of `event_rows` in their order."""
    together = _BLOCK if connection.dialect.name == "sqlite" else 1  # psycopg sends many rows at once by itself
    for width, found in groupby(rows, len):
        alike = list(found)
        whole = len(alike) // together * together if together > 1 else 0
        if whole:
            blocks = [tuple(chain.from_iterable(alike[at : at + together])) for at in range(0, whole, together)]
            run(connection, _statement(trace, width, together), blocks)
        if alike[whole:]:
            run(connection, _statement(trace, width, 1), alike[whole:])


@lru_cache(maxsize=16)
def _statement(trace: int, width: int, rows: int) -> str:
    """The INSERT of that many rows of that many values."""
    columns = _SHAPES[width]
    absent, values = _EMPTY.get(columns, ("", ""))
    names = ",".join(filter(None, ("trace,seq", columns, "hash", absent)))
    row = f"({','.join(filter(None, (str(trace), *repeat('?', width), values)))})"
    return f"INSERT INTO event_t ({names}) VALUES {','.join(repeat(row, rows))}"
