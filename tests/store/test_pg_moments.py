"""Time travel in SQL on PostgreSQL: what any client finds there, plans, limits, an interrupt.

test_moments.py, test_saved.py and cli/test_sql.py run there too (`make test-postgresql`).
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from postgres import new_store

from vmastore.errors import StoreError
from vmastore.events import TraceHeader
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store, open_store, query, saved
from vmastore.store.derived import ReplayWriter
from vmastore.store.library import LIBRARY
from vmastore.store.moments import alive, held, overlapped
from vmastore.store.nodes import keep

RECORDING = Path(__file__).parents[2] / "docs" / "data" / "python-imports.vmatrace.jsonl.gz"


def fill(place: str) -> Store:
    """A recording under two kernels."""
    store = open_store(place)
    reader = open_traces(RECORDING)[0]
    trace = StoredTrace(store, store.import_events(store.create_trace(reader.header._replace(name="py")), reader))
    for kernel in ("6.1", "6.18"):
        derive(trace, preset(kernel))
    return store


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with fill(new_store()) as store:
        yield store


@pytest.fixture(scope="module")
def file(server: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The same in SQLite."""
    with fill(str(tmp_path_factory.mktemp("same") / "s.db")) as store:
        yield store


def rows(store: Store, sql: str, **params: object) -> list[tuple[Any, ...]]:
    return list(query(store, sql, params)[1])


ASKED: dict[str, dict[str, object]] = {
    "flagged": {"flag": "ac"},
    "who": {"addr": 0x7FE400C85000},
    "between": {"low": 0, "high": 1 << 47, "first": 10, "last": 20},
    "kernels-differ": {"kernel": "6.18", "against": "6.1"},
    "first-failure": {"errno": "ENOENT"},
    "near-limit": {"percent": 1, "limit": 200},
    "changes": {"a": 10, "b": 20},
    "density": {"limit": 1000},
}


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_shipped_queries_answer_as_in_sqlite(server: Store, file: Store, name: str) -> None:
    """The same columns and rows; equal ones may come in another order."""
    answers = []
    for store in (server, file):
        found = saved.find(store, name)
        columns, got = query(store, found.sql, saved.complete(store, found, dict(ASKED.get(name, {}))))
        answers.append((columns, sorted(got, key=repr)))
    assert answers[0] == answers[1]


def test_moments_are_those_of_sqlite(server: Store, file: Store) -> None:
    """At random moments, ranges and addresses, those of 2^63 and more among them."""
    random = Random(9)
    high = (0xFFFFFFFFFF600000 - (1 << 64), 0, 1 << 46)
    starts = [row[0] for row in rows(file, "SELECT DISTINCT vm_start FROM vmas ORDER BY 1")]
    for _ in range(12):
        a, b = sorted(random.choices(range(-1, 309), k=2))
        addr = random.choice([*starts, *high])
        for sql in (
            "SELECT * FROM vmas_at('py', :a)",
            "SELECT * FROM vmas_at('py', :a, '6.1')",
            "SELECT * FROM vma_diff('py', :a, :b)",
            "SELECT * FROM vma_history('py', :addr)",
            "SELECT * FROM vmas_between('py', :addr, :addr + 1048576, :a, :b)",
        ):
            params = {name: value for name, value in (("a", a), ("b", b), ("addr", addr)) if f":{name}" in sql}
            assert sorted(rows(server, sql, **params), key=repr) == sorted(rows(file, sql, **params), key=repr), sql


def test_any_client_has_the_functions(server: Store) -> None:
    """From psql too: traces by name and by number, addresses as text and as numbers, columns of other tables."""
    text = "SELECT count(*) FROM {}"
    with server.engine.connect() as connection:

        def count(what: str) -> int:
            return int(connection.exec_driver_sql(text.format(what)).scalar_one())

        assert count("vmas_at('py', 303)") == count("vmas_at(1, 303)") == count("vmas_at('1', -6)") == 75
        assert count("vma_history('py', '0x7fe400b42000')") == count(f"vma_history(1, {0x7FE400B42000})") > 0
        low, top = "'0x7fe400000000'", 0x7FE500000000
        assert count(f"vmas_between('py', {low}, {top}, 1, -1)") == count(f"vmas_between(1, {low}, '{top}', 1, -1)")
        lateral = "events e, vmas_at(e.trace, e.seq) v WHERE e.seq IN (303, 304)"
        assert count(lateral) == count("vmas_at('py', 303)") + count("vmas_at('py', 304)")
        described = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_proc WHERE proname IN ('vmas_at', 'vma_diff', 'vma_history', 'vmas_between')"
            " AND obj_description(oid) IS NULL"
        )
        assert described.scalar_one() == 0


def test_a_moment_hides_no_with_and_no_order(server: Store) -> None:
    """`--as-of` goes with queries that have a WITH, an ORDER BY, a comment or a semicolon of their own."""
    from vmastore.store.moments import AsOf

    sql = "WITH x AS (SELECT vm_start FROM vmas) SELECT vm_start FROM x ORDER BY 1 DESC LIMIT 2; -- the highest"
    found = [row[0] for row in query(server, sql, as_of=AsOf("py", 303))[1]]
    assert found == sorted(row[0] for row in rows(server, "SELECT vm_start FROM vmas_at('py', 303)"))[:-3:-1]
    with pytest.raises(StoreError, match="no event 999"):
        query(server, "SELECT 1", as_of=AsOf("py", 999))


def test_colons_and_percents_in_text_are_text(server: Store) -> None:
    """Only what stands as a parameter is one."""
    sql = """SELECT ':a %s ?' AS ":b", $x$:c$x$, E'it\\'s :d', '1'::int + :n, (ARRAY[1, :n])[2] -- :e 100 %"""
    assert rows(server, sql, n=2) == [(":a %s ?", ":c", "it's :d", 3, 2)]
    with pytest.raises(StoreError, match="no value for :m"):
        query(server, "SELECT :m")


def test_explain_shows_a_plan_and_runs_nothing(server: Store) -> None:
    """EXPLAIN is read-only too, and one statement."""
    assert "Function Scan on vmas_at" in rows(server, "EXPLAIN SELECT * FROM vmas_at('py', :n)", n=3)[0][0]
    for sql in ("EXPLAIN ANALYZE DELETE FROM trace_t", "EXPLAIN SELECT 1; DELETE FROM trace_t"):
        with pytest.raises(StoreError):
            query(server, sql)
    assert len(server.traces()) == 1


@pytest.mark.parametrize(
    "sql",
    ["DELETE FROM trace_t", "WITH x AS (DELETE FROM trace_t RETURNING 1) SELECT * FROM x", "SELECT 1; SELECT 2"],
)
def test_what_writes_is_not_saved(server: Store, sql: str) -> None:
    """One SELECT is, with parameters of any type; neither is run."""
    with pytest.raises(StoreError):
        saved.save(server, "bad", sql)
    saved.save(server, "good", "SELECT pg_sleep(1000), :a || ' %', :b + 1 FROM vmas_at(:trace, :seq)")
    assert "good" in saved.queries(server)
    saved.forget(server, "good")


def test_the_limit_is_for_all_of_a_query(server: Store) -> None:
    """Also when each row by itself comes in time, and for what --as-of asks first."""
    endless = "SELECT i, pg_sleep(0.0001) FROM generate_series(1, 100000000) i"
    with pytest.raises(StoreError, match=r"took longer than 0\.3 s"):
        for _ in query(server, endless, timeout=0.3)[1]:
            pass


def test_ctrl_c_ends_the_query_on_the_server(server: Store) -> None:
    """An interrupt while the server works: one error, and the server works no more."""
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    url = server.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as other:

        def sleepers() -> int:
            found = other.execute(sleeping).fetchone()
            assert found is not None
            return int(found[0])

        def interrupt() -> None:
            while query_goes_on and not sleepers():
                pass  # each look waits for the server
            os.kill(os.getpid(), signal.SIGINT)

        # what a shell starts in the background ignores the signal
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        query_goes_on = [True]
        watcher = threading.Thread(target=interrupt)
        watcher.start()
        with pytest.raises(StoreError, match="the query was interrupted"):
            try:
                query(server, "SELECT pg_sleep(1001)", timeout=60)
            finally:
                query_goes_on.clear()
                watcher.join()
                signal.signal(signal.SIGINT, before)
        assert sleepers() == 0


def test_lifetimes_are_found_through_an_index() -> None:
    """Of many, whatever is asked, with values known to the planner and without; derived data is analysed at once."""
    random = Random(3)
    with open_store(new_store()) as store:
        trace = store.create_trace(TraceHeader("a", "a", "strace")).trace
        with ReplayWriter(store, trace, "6.1", "{}", engine="x", basis="") as writer:
            for born in range(30_000):
                start = random.randrange(1 << 35) << 12
                end, died = start + (random.randrange(1, 64) << 12), born + random.randrange(1, 2000)
                keep(writer.vmas, writer.vma_pages, born, 1, start, end, 0, 1, born, died)
        with store.engine.connect() as connection:
            connection.exec_driver_sql("SET enable_seqscan = off")  # 30,000 rows are few: it would do, too
            for select, count, values in (
                (alive("$1", "$2"), 2, "1, 29000"),
                (held("$1", "$2"), 2, "1, 4096000"),
                (overlapped("$1", "$2", "$3", "$4", "$5"), 5, "1, 0, 1099511627776, 29000, 29100"),
                (overlapped("$1", "$2", "$3", "$4", "$5"), 5, "1, 4096000, 8192000, 0, 30000"),
            ):
                types = ", ".join(["bigint"] * count)
                connection.exec_driver_sql(f"PREPARE asked ({types}) AS {select}")
                for mode in ("force_custom_plan", "force_generic_plan"):
                    connection.exec_driver_sql(f"SET plan_cache_mode = {mode}")
                    plan = [row[0] for row in connection.exec_driver_sql(f"EXPLAIN EXECUTE asked ({values})")]
                    looks = [
                        n for n, line in enumerate(plan) if "Scan" in line and re.search("pk_vma_(page_)?t", line)
                    ]
                    assert looks and all("_node = " in plan[n + 1] or "_node >= " in plan[n + 1] for n in looks), plan
                    assert not any("Seq Scan on vma_" in line for line in plan), plan
                connection.exec_driver_sql("DEALLOCATE asked")
