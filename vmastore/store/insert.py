"""Inserting event rows: many in one statement, and what nearly all of them leave empty not bound at all.

Bound one by one, a row of 16 values costs SQLite and its driver twice as much as eleven values in a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat

from sqlalchemy import Connection

from vmastore.store.engine import run
from vmastore.store.rows import COLUMNS, LONG, SHORT, Run

# rows of two shapes: (seq, what these name, hash), in this order
PLAIN = "mm,task,ts,call,args,result,line,source_offset"  # errno 0, no file, call site or injection
_EMPTY = {PLAIN: ("errno,file,injected,site", "0,NULL,0,NULL")}  # columns that a shape leaves out, their values
_SHAPES = {SHORT: PLAIN, LONG: COLUMNS}
_BLOCK = 50  # rows a statement: SQLite before 3.32 takes at most 999 values


def insert_events(connection: Connection, trace: int, runs: Sequence[Run]) -> None:
    """Insert the rows of `event_rows` in their order."""
    together = _BLOCK if connection.dialect.name == "sqlite" else 1  # psycopg sends many rows at once by itself
    for width, flat in runs:
        whole = len(flat) // (width * together) * width * together
        for rows, values in ((together, flat[:whole]), (1, flat[whole:])):
            step = width * rows
            if values:
                cut = [values[at : at + step] for at in range(0, len(values), step)]
                run(connection, _statement(trace, width, rows), cut)


@lru_cache(maxsize=16)
def _statement(trace: int, width: int, rows: int) -> str:
    """The INSERT of that many rows of that many values."""
    columns = _SHAPES[width]
    absent, values = _EMPTY.get(columns, ("", ""))
    names = ",".join(filter(None, ("trace,seq", columns, "hash", absent)))
    row = f"({','.join(filter(None, (str(trace), *repeat('?', width), values)))})"
    return f"INSERT INTO event_t ({names}) VALUES {','.join(repeat(row, rows))}"
