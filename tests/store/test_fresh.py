"""A new store is what the migrations make, made without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmastore.errors import StoreError, UnknownTraceError
from vmastore.events import Event, TraceHeader
from vmastore.store import fresh, open_store
from vmastore.store.engine import make_engine, to_url
from vmastore.store.migrate import migrate_to_head, migrating

EVENT = Event(1, 1, 5, 5, None, "munmap", (4096, 4096), 0, 0, None, False, None, None, None)


def _made(path: Path) -> list[Any]:
    engine = make_engine(to_url(path))
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type <> 'view'")
        made = [*found.fetchall(), connection.exec_driver_sql("SELECT * FROM alembic_version").fetchall()]
    engine.dispose()
    return made


def test_the_schema_is_the_migrations(tmp_path: Path) -> None:
    """The generated statements make the tables, indexes, triggers and revision that all migrations make."""
    engine = make_engine(to_url(tmp_path / "migrated.db"))
    with migrating(engine) as connection:
        migrate_to_head(connection)
        generated = fresh.script(connection)
    engine.dispose()
    assert generated == fresh.FILE.read_text(), "`make docs` writes it anew"
    with open_store(tmp_path / "new.db"):
        pass
    new, migrated = _made(tmp_path / "new.db"), _made(tmp_path / "migrated.db")
    assert new == migrated
    assert {row[0] for row in new[:-1]} == {"table", "index", "trigger"}


def test_an_event_of_no_trace_is_refused(tmp_path: Path) -> None:
    """What no foreign key guards, since appending does without, is asked for."""
    with open_store(tmp_path / "s.db") as store, pytest.raises(UnknownTraceError, match="no trace 7"):
        store.append(7, [EVENT])


def test_foreign_keys_are_off_for_appending_alone(tmp_path: Path) -> None:
    """What is written after an append, over the same connection, is held to its references again."""
    with open_store(tmp_path / "s.db") as store:
        trace = store.create_trace(TraceHeader("t", "t", "jsonl")).trace
        store.append(trace, [EVENT])
        with pytest.raises(StoreError, match="FOREIGN KEY"), store._write() as connection:
            connection.exec_driver_sql("INSERT INTO observed_t VALUES (99, 1, x'00')")
        store.append(trace, [EVENT._replace(seq=2)])
        with store._read() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []
