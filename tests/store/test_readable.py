"""A store opened for queries alone: without SQLAlchemy where it is a plain file, else as any other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from vmastore.errors import StoreError
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store, open_readable, open_store, query, saved
from vmastore.store.hints import hint_for
from vmastore.store.readable import StoreFile
from vmastore.store.resolve import stale

TRACE = Path(__file__).parents[2] / "docs" / "data" / "python-imports.vmatrace.jsonl.gz"
pytestmark = pytest.mark.sqlite("files")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store with one trace."""
    path = tmp_path / "s.db"
    with open_store(path) as store:
        reader = open_traces(TRACE)[0]
        store.import_events(store.create_trace(reader.header), reader)
    return path


def test_both_ways_answer_alike(place: Path) -> None:
    """Queries, saved ones, parameters and stale replays; nothing is left beside the file."""
    with open_store(place) as store:
        derive(StoredTrace(store, store.trace(1)), preset("6.18"))
        saved.save(store, "mine", "SELECT 7")
        with store._write() as connection:
            connection.exec_driver_sql("UPDATE replay_t SET engine='0.0.9'")
    causes = saved.LIBRARY["causes"]
    asked: tuple[Callable[[Store | StoreFile], object], ...] = (
        lambda store: [*query(store, "SELECT call, count(*) FROM events GROUP BY call")[1]],
        lambda store: [*query(store, "SELECT trace_of(:name)", {"name": 1})[1]],
        lambda store: saved.find(store, "mine").sql,
        lambda store: [*saved.queries(store)],
        lambda store: saved.complete(store, causes, {}),
        stale,
    )
    with open_readable(place) as quick, open_store(place) as whole:
        assert isinstance(quick, StoreFile) and isinstance(whole, Store)
        assert (quick.place, quick.file, quick.dialect) == (whole.place, whole.file, whole.dialect)
        for ask in asked:
            assert ask(quick) == ask(whole)
        assert stale(quick)
    assert [path.name for path in place.parent.iterdir()] == ["s.db"]


def test_nothing_can_be_written(place: Path) -> None:
    """Not by the connection that may, either."""
    with open_readable(place) as store, pytest.raises(StoreError, match="readonly") as error:
        store.rows("DELETE FROM event_t")
    assert error.value.hint == hint_for("readonly")


def _older(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num='0001'")


def _foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")


def _damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:200] + b"\xff" * 4000 + content[4200:])


@pytest.mark.parametrize(
    "change",
    [_older, _foreign, _damaged, Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_text("no")],
)
def test_what_is_wrong_is_said_as_ever(place: Path, change: Callable[[Path], object]) -> None:
    """An older schema, another program's database, damage, no file, an empty one, a text."""
    change(place)
    with pytest.raises(StoreError) as usual:
        open_store(place, create=False)
    with pytest.raises(StoreError) as error:
        open_readable(place)
    assert (error.value.message, error.value.hint) == (usual.value.message, usual.value.hint)


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory"):
        open_readable(tmp_path)
