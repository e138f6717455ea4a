"""Views as Parquet files: the same rows, whole or not at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vmastore.errors import InputError
from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.reports import export_parquet as module
from vmastore.reports.export_parquet import export_parquet
from vmastore.store import Store, query
from vmastore.store.views import VIEWS


@pytest.fixture
def trace(store: Store) -> StoredTrace:
    """A small trace, replayed."""
    info = store.create_trace(TraceHeader("p", "x", "jsonl", "6.18.44", None, {}, "recorded"))
    events = [
        Event(n, 1, 7, 7, None, "mmap", ((n + 16) << 13, 4096, 3, 0x32, -1, 0), (n + 16) << 13, 0)
        for n in range(1, 31)
    ]
    store.append(info.trace, [*events, Event(31, 1, 7, 7, None, "munmap", ((1 << 64) - 4096, 1 << 63), None, 22)])
    found = StoredTrace(store, store.trace(info.trace))
    derive(found, preset("6.18"))
    return found


@pytest.mark.parametrize("view", [v.name for v in VIEWS if v.name != "traces"])
def test_rows_are_those_of_the_view(
    trace: StoredTrace, tmp_path: Path, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every view, in several batches."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(module, "_BATCH", 7)
    path = tmp_path / "x.parquet"
    count = export_parquet(trace.store, trace.info.trace, view, trace.info.events, str(path))
    columns, rows = query(trace.store, f"SELECT * FROM {view}")
    wanted = [dict(zip(columns, row, strict=True)) for row in rows]
    table = parquet.read_table(path)
    assert count == len(wanted) and table.column_names == columns
    assert sorted(table.to_pylist(), key=str) == sorted(wanted, key=str)


def test_it_ends_where_asked(trace: StoredTrace, tmp_path: Path) -> None:
    """Up to an event."""
    pytest.importorskip("pyarrow")
    assert export_parquet(trace.store, trace.info.trace, "events", 5, str(tmp_path / "x.parquet")) == 5


def test_what_cannot_be_done_is_said(trace: StoredTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown view, standard output, no pyarrow, a folder that is not there: one sentence, no file."""
    where = str(tmp_path / "no" / "x.parquet")
    with pytest.raises(InputError, match="no view 'nope'"):
        export_parquet(trace.store, 1, "nope", 1, where)
    with pytest.raises(InputError, match="needs a name"):
        export_parquet(trace.store, 1, "events", 1, "-")
    if "pyarrow" in sys.modules or pytest.importorskip("pyarrow"):
        with pytest.raises(InputError, match="No such file"):
            export_parquet(trace.store, 1, "events", 1, where)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="pyarrow is not installed"):
        export_parquet(trace.store, 1, "events", 1, where)
