"""The rows of a view as a Parquet file, batch by batch: memory does not grow with the trace."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from typing import Any

from vmastore.errors import InputError
from vmastore.store import Store, query
from vmastore.store.views import VIEWS

_BATCH = 50_000
# the type of each column that is not an integer; views are plain, so a name has one type in all of them
_TEXT = {
    "name", "source", "kernel", "created_at", "origin", "call", "errno", "args", "file", "site", "reason", "api",
    "options", "engine", "action", "case", "reason_prev", "reason_next", "certainty", "cases", "divergence", "perms",
    "path",
}  # fmt: skip
_MOMENT = {"events": "seq", "decisions": "seq", "outcomes": "seq", "vmas": "born_seq", "lost_merges": "seq"}


def export_parquet(store: Store, trace: int, view: str, stop: int, path: str) -> int:
    """Write the rows of `view` for a trace, up to event `stop`, to a file. Returns how many.

    Raises InputError: no such view, no pyarrow, no file to write to.
    """
    found = next((v for v in VIEWS if v.name == view), None)
    if found is None:
        raise InputError(f"no view {view!r}", hint=f"one of {', '.join(v.name for v in VIEWS)}")
    if path == "-":
        raise InputError("a Parquet file needs a name", hint="-o FILE.parquet")
    try:
        from pyarrow import Table, int64, parquet, schema, string
    except ImportError:
        raise InputError("pyarrow is not installed", hint="pip install 'vmastore[parquet]'") from None
    names = [name for name, _, _ in found.columns]
    moment = _MOMENT.get(view)
    upto = "" if moment is None else f" AND {moment} <= {stop}"
    columns = ", ".join(f'"{name}"' for name in names)
    _, rows = query(store, f"SELECT {columns} FROM {view} WHERE trace = {trace}{upto}")
    shape = schema([(name, string() if name in _TEXT else int64()) for name in names])
    partial = f"{path}.part"
    count = 0
    try:
        with parquet.ParquetWriter(partial, shape) as writer:
            for chunk in _chunks(rows):
                writer.write_table(Table.from_arrays([list(c) for c in zip(*chunk, strict=True)], schema=shape))
                count += len(chunk)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    return count


def _chunks(rows: Iterable[tuple[Any, ...]]) -> Iterable[list[tuple[Any, ...]]]:
    source = iter(rows)
    while chunk := list(islice(source, _BATCH)):
        yield chunk
