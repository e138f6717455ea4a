"""A store in PostgreSQL is the same store: rows, views, errors, guarantees.

`make test-postgresql` runs the other tests of the store and the commands there.
"""

from __future__ import annotations

import builtins
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from postgres import new_database
from sqlalchemy.exc import DatabaseError

from vmastore.errors import ConcurrencyError, StoreError
from vmastore.events import Event, TraceHeader
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset
from vmastore.replay.check import check_replays
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store, migrate, open_store, query
from vmastore.store.check import check_store
from vmastore.store.engine import to_url
from vmastore.store.upgrade import schema_of, upgrade_store
from vmastore.store.views import VIEWS

DATA = Path(__file__).parent.parent / "data"
SOURCES = ("strace/sh.log", "vmatrace/v1.vmatrace.jsonl")
ORDER = {
    "skipped": "trace, source_line",
    "vmas": "replay, mm, vm_start, born_seq",
    "lost_merges": "replay, mm, boundary",
}


@pytest.fixture
def url() -> str:
    return new_database()


def call(seq: int, pid: int = 7) -> Event:
    return Event(seq, 1, pid, pid, None, "munmap", (4096, 4096), 0, 0)


def filled(place: str) -> Store:
    """The samples imported and replayed."""
    store = open_store(place)
    for name in SOURCES:
        source = open_traces(str(DATA / name))[0]
        info = store.import_events(store.create_trace(source.header), source)
        derive(StoredTrace(store, info), preset("6.12"))
    return store


def rows(store: Store, view: str) -> list[tuple[Any, ...]]:
    """A view in a fixed order, what differs by nature left out: the time of the import, the spelling of JSON."""
    order = ORDER.get(view, "1, 2, 3, 4")
    columns = [name for name, _, _ in next(v for v in VIEWS if v.name == view).columns if name != "created_at"]
    quoted = ", ".join(f'"{name}"' for name in columns)
    found = list(query(store, f"SELECT {quoted} FROM {view} ORDER BY {order}")[1])
    if "args" not in columns:
        return found
    at = columns.index("args")
    return [(*row[:at], _arguments(row[at]), *row[at + 1 :]) for row in found]


def _arguments(text: str) -> dict[str, Any]:
    """Arguments of a view; SQLite's JSON functions end a string at a NUL."""
    found = json.loads(text)
    return {key: value.split("\0")[0] if isinstance(value, str) else value for key, value in found.items()}


def test_every_view_has_the_same_rows_as_in_sqlite(url: str, tmp_path: Path) -> None:
    """Import, replay and the views give the same in both; both are sound."""
    with filled(url) as server, filled(str(tmp_path / "s.db")) as file:
        for view in VIEWS:
            ours, theirs = rows(server, view.name), rows(file, view.name)
            assert ours == theirs, view.name
            assert ours, view.name
        assert check_store(server) == check_store(file)
        assert check_replays(server) == check_replays(file) == ([], 2, [])
        for one, other in zip(server.traces(), file.traces(), strict=True):
            assert list(server.events(one.trace)) == list(file.events(other.trace))
            assert server.files(one.trace) == file.files(other.trace)


def test_sql_functions_are_the_same(url: str, store: Store) -> None:
    """hex_addr, addr, perms and flag_names."""
    text = (
        "SELECT hex_addr(-4096), addr('0xfffffffffffff000'), addr('18446744073709547520'), addr('4096'), "
        "perms(131), perms(18), flag_names(19), hex_addr(NULL)"
    )
    with open_store(url) as server:
        assert list(query(server, text)[1]) == list(query(store, text)[1])


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM trace_t",
        "INSERT INTO about_t VALUES ('a', 'b') RETURNING key",
        "WITH gone AS (DELETE FROM trace_t RETURNING trace) SELECT * FROM gone",
        "SELECT 1; COMMIT; DELETE FROM trace_t",
        "COMMIT",
        "SET TRANSACTION READ WRITE",
        "COPY trace_t TO STDOUT",
        "SELECT nextval('trace_t_trace_seq')",
    ],
)
def test_sql_only_reads(url: str, statement: str) -> None:
    """Whatever the statement, nothing is written, and the refusal is a StoreError of one line."""
    with open_store(url) as server:
        server.create_trace(TraceHeader("a", "a", "strace"))
        with pytest.raises(StoreError) as error:
            list(query(server, statement)[1])
        assert "\n" not in error.value.message
        assert len(server.traces()) == 1


def test_sql_has_a_time_limit_and_parameters(url: str) -> None:
    """As in SQLite."""
    with open_store(url) as server:
        with pytest.raises(StoreError, match=r"longer than 0\.2 s"):
            list(query(server, "SELECT pg_sleep(60)", timeout=0.2)[1])
        found = query(server, "SELECT :n + 1 AS m, '5 %' AS p", {"n": 41})
        assert (found[0], list(found[1])) == (["m", "p"], [(42, "5 %")])
        sums = "SELECT sum(n) AS s, avg(n) AS a FROM (VALUES (1), (2)) AS v (n)"
        assert repr(list(query(server, sums)[1])) == "[(3, 1.5)]"


def test_events_are_append_only(url: str) -> None:
    """The server itself refuses UPDATE, DELETE and TRUNCATE."""
    with open_store(url) as server:
        server.append(server.create_trace(TraceHeader("a", "a", "strace")).trace, [call(1)])
        for statement in ("UPDATE event_t SET mm = 2", "DELETE FROM event_t", "TRUNCATE event_t"):
            with pytest.raises(DatabaseError, match="append-only"), server.engine.begin() as connection:
                connection.exec_driver_sql(statement)


def test_a_changed_event_is_named(url: str) -> None:
    """Behind the trigger's back."""
    with open_store(url) as server:
        server.append(server.create_trace(TraceHeader("a", "a", "strace")).trace, [call(n) for n in range(1, 9)])
        with server.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE event_t DISABLE TRIGGER USER")
            connection.exec_driver_sql("UPDATE event_t SET errno = 8 WHERE seq = 5")
        assert check_store(server)[0] == ["a: event 5: its hash does not follow from what is stored"]


def test_models_equal_migrations_down_and_up(url: str) -> None:
    """`alembic check` finds nothing, after a downgrade to nothing too."""
    with open_store(url) as server:
        with migrate.migrating(server.engine) as connection:
            command.check(migrate.config(connection))
            migrate.drop_views(connection)
            command.downgrade(migrate.config(connection), "0001")
        assert schema_of(url) == "0001"
        with pytest.raises(StoreError, match="schema 0001, this vmastore needs"):
            open_store(url)
        assert upgrade_store(url) == ("0001", migrate.head(), None)
        with server.engine.begin() as connection:
            command.check(migrate.config(connection))


def test_nul_and_numbers_that_do_not_fit(url: str) -> None:
    """One clear error, and nothing is stored."""
    with open_store(url) as server:
        trace = server.create_trace(TraceHeader("a", "a", "strace")).trace
        with pytest.raises(StoreError, match="a number does not fit 64 bits"):
            server.append(trace, [call(1)._replace(ts_ns=1 << 70)])
        with pytest.raises(StoreError, match="NUL"):
            server.append(trace, [call(1)._replace(site="a\0b")])
        odd = call(1)._replace(call="openat", args=(-100, "/tmp/\udcff\0", 0, None), site="f\udcff")
        server.append(trace, [odd])
        assert server.event(trace, 1).args == odd.args
        assert check_store(server) == ([], 1)


def _append(url: str, writer: int) -> None:
    with open_store(url) as store:
        done, version = 0, 0
        while done < 40:
            try:
                version = store.append(1, [call(version + 1, writer)], expected_version=version)
                done += 1
            except ConcurrencyError:
                version = store.trace(1).events


def test_writers_take_turns(url: str) -> None:
    """No gap, no loss, each event once."""
    with open_store(url) as server:
        server.create_trace(TraceHeader("a", "a", "strace"))
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(url, n)) for n in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    with open_store(url) as server:
        assert sorted(event.pid for event in server.events(1)) == sorted([1, 2, 3] * 40)
        assert check_store(server) == ([], 120)


def test_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """postgresql:// means psycopg; its absence, another database and a server that is not there are said."""
    assert to_url("postgresql://u@h/d").drivername == "postgresql+psycopg"
    with pytest.raises(StoreError, match="a store is in SQLite or PostgreSQL"):
        open_store("mysql://u:secret@h/d")
    absent = builtins.__import__

    def no_psycopg(name: str, *rest: Any, **named: Any) -> Any:
        if name == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'")
        return absent(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", no_psycopg)
    with pytest.raises(StoreError, match=r"u:\*\*\*@h/d: the driver of PostgreSQL is not installed") as error:
        open_store("postgresql+psycopg://u:secret@h/d")
    assert error.value.hint == "pip install 'vmastore[postgresql]'"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """One line, with the URL but not its password."""
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as error:
        open_store(f"postgresql+psycopg://u:secret@/d?host={tmp_path}")
    assert "\n" not in error.value.message and "secret" not in error.value.message
    assert error.value.message.startswith("postgresql+psycopg://u:***@/d?host=")
