"""How a store's file is opened, by what may be written there."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from vmastore.errors import StoreError
from vmastore.events.types import TraceHeader
from vmastore.store import open_store
from vmastore.store.sqlite import frozen, read_only_uri

HEADER = TraceHeader("one", "test", "jsonl")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store with one trace, closed."""
    with open_store(tmp_path / "s.db") as store:
        store.create_trace(HEADER)
    return tmp_path / "s.db"


@pytest.fixture
def locked(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where the file system lets nothing be written (root may write what modes forbid)."""
    monkeypatch.setattr("vmastore.store.sqlite.os.access", lambda path, mode: False)
    return place


def test_what_cannot_be_written_is_read_as_it_lies_there(locked: Path) -> None:
    """No file appears beside it, it is not changed, and a write is one error."""
    before = locked.read_bytes()
    assert frozen(str(locked)) and "immutable" in read_only_uri(str(locked))
    with open_store(locked, create=False) as store:
        assert [info.header.name for info in store.traces()] == ["one"]
        with pytest.raises(StoreError, match="cannot be written"):
            store.create_trace(HEADER)
    assert list(locked.parent.iterdir()) == [locked] and locked.read_bytes() == before


def test_changes_in_the_wal_alone_are_not_passed_over(locked: Path) -> None:
    """A -wal that holds something and cannot be read refuses the store; an empty one holds nothing."""
    wal = Path(f"{locked}-wal")
    wal.touch()
    assert frozen(str(locked))
    wal.write_bytes(b"x")
    with pytest.raises(StoreError, match=r"s\.db-wal holds changes") as caught:
        open_store(locked, create=False)
    assert "copy" in str(caught.value.hint)


def test_a_store_that_somebody_has_open_is_read_with_its_wal(place: Path, tmp_path: Path) -> None:
    """The newest changes are seen, though they are in the -wal only."""
    with closing(sqlite3.connect(place)) as other:
        other.execute("UPDATE trace_t SET name='two'")
        other.commit()
        assert Path(f"{place}-shm").exists() and not frozen(str(place))
        with open_store(place, create=False) as store:
            assert [info.header.name for info in store.traces()] == ["two"]
        copy = tmp_path / "copy"
        copy.mkdir()
        for end in ("", "-wal"):
            shutil.copy(f"{place}{end}", copy)
    with open_store(copy / "s.db", create=False) as store:
        assert [info.header.name for info in store.traces()] == ["two"]


def test_a_change_by_somebody_else_meanwhile_is_said(locked: Path) -> None:
    """Nothing locks a file that is read as it lies there: what was read may be half old, half new."""
    with pytest.raises(StoreError, match="changed while"), open_store(locked, create=False) as store:
        store.traces()
        with closing(sqlite3.connect(locked)) as other:
            other.execute("UPDATE trace_t SET name='a longer name'")
            other.commit()
