"""`vmastore sql`: the forms of its output, parameters, saved queries, moments, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import POSTGRESQL
from typer.testing import CliRunner

from vmastore.cli.main import app
from vmastore.errors import VmastoreError
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import open_store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(new_place: Callable[[], str]) -> str:
    """A store with a recording and its replay."""
    path = new_place()
    with open_store(path) as store:
        reader = open_traces(ROOT / "docs" / "data" / "python-imports.vmatrace.jsonl.gz")[0]
        info = store.import_events(store.create_trace(reader.header._replace(name="py")), reader)
        derive(StoredTrace(store, info), preset("6.18"))
    return path


def run(place: str, *words: str, text: str | None = None) -> str:
    """The output of `vmastore sql`; an error comes out as the exception that says it."""
    done = CliRunner().invoke(app, ["sql", *words, "--store", place], input=text)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


BYTES = r"'\x00ff'::bytea" if POSTGRESQL else "x'00ff'"
QUERY = f"SELECT 1 AS a, NULL AS b, 'x,y' AS c, {BYTES} AS d"


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("--csv", 'a,b,c,d\n1,,"x,y",00ff\n'),
        ("--tsv", "a\tb\tc\td\n1\t\tx,y\t00ff\n"),
        ("--nl", '{"a": 1, "b": null, "c": "x,y", "d": "00ff"}\n'),
        ("--json", '[{"a": 1, "b": null, "c": "x,y", "d": "00ff"}]\n'),
        ("--raw", "1\n"),
        ("--no-headers", "1\t\tx,y\t00ff\n"),
    ],
)
def test_forms(place: str, option: str, wanted: str) -> None:
    """Each form, byte for byte."""
    assert run(place, QUERY, option) == wanted


def test_table_in_a_pipe(place: str) -> None:
    """--table draws one where the output is no terminal."""
    assert "┃" in run(place, QUERY, "--table")


def test_where_the_query_comes_from(place: str, tmp_path: Path) -> None:
    """An argument, a file, standard input."""
    (tmp_path / "q.sql").write_text("SELECT 5")
    assert run(place, "-f", str(tmp_path / "q.sql"), "--raw") == "5\n"
    assert run(place, "-", "--raw", text="SELECT 6") == "6\n"


def test_parameters(place: str) -> None:
    """Decimal, hex, text; what is over 63 bits is bound as the store keeps it."""
    sql = f"SELECT :a || '|' || :b || '|' || :c || '|' || {'pg_typeof' if POSTGRESQL else 'typeof'}(:a)"
    got = run(place, sql, "--raw", "-p", "a=0x10", "-p", "b=x=y", "-p", "c=0xffffffffffffffff")
    assert got == f"16|x=y|-1|{'smallint' if POSTGRESQL else 'integer'}\n"
    with pytest.raises(VmastoreError, match="64 bits"):
        run(place, sql, "-p", "a=99999999999999999999999")


def test_as_of(place: str) -> None:
    """`vmas` shows one moment, counted from either end."""
    everything = int(run(place, "SELECT count(*) FROM vmas", "--raw"))
    at = int(run(place, "--as-of", "py@303", "SELECT count(*) FROM vmas", "--raw"))
    assert at == 75 < everything
    assert run(place, "--as-of", "py@-1", "SELECT count(*) FROM vmas", "--raw") == "0\n"
    with pytest.raises(VmastoreError, match=r"under 6\.1 is stored"):
        run(place, "--as-of", "py@3", "--kernel", "6.1", "SELECT 1")
    with pytest.raises(VmastoreError, match="no event 999"):
        run(place, "--as-of", "py@999", "SELECT 1")


def test_saved_queries(place: str) -> None:
    """Save, list, show, run, forget."""
    run(place, "--save", "mine", "SELECT :x AS x")
    listed = json.loads(run(place, "--list", "--json"))
    assert listed[0]["name"] == "mine" and {"who", "peak", "lost"} <= {q["name"] for q in listed}
    assert run(place, "mine", "--show") == "SELECT :x AS x\n"
    assert run(place, "mine", "-p", "x=3", "--raw") == "3\n"
    run(place, "--forget", "mine")
    with pytest.raises(VmastoreError, match="no saved query 'mine'"):
        run(place, "mine")


def test_time_limit(place: str) -> None:
    """A query that would never end is stopped."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(VmastoreError, match="took longer than"):
        run(place, endless, "--timeout", "0.05")


@pytest.mark.sqlite("its progress handler (test_pg_moments.py has PostgreSQL's)")
def test_ctrl_c(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while SQLite works stops the query, with a time limit or without."""
    from vmastore.store import sql

    def interrupted(_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(sql._Limit, "__call__", interrupted)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    for words in ([], ["--timeout", "1000"]):
        with pytest.raises(VmastoreError, match="the query was interrupted"):
            run(place, endless, *words)


def test_stale_data_is_named(new_place: Callable[[], str]) -> None:
    """A query on derived data of another engine works, and says so; one on events says nothing."""
    copy = new_place()
    with open_store(copy) as store:
        reader = open_traces(ROOT / "docs" / "data" / "python-imports.vmatrace.jsonl.gz")[0]
        derive(StoredTrace(store, store.import_events(store.create_trace(reader.header), reader)), preset("6.18"))
        with store.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE replay_t SET engine='0.0.9'")
    for query, told in (("SELECT count(*) FROM outcomes", True), ("SELECT count(*) FROM events", False)):
        done = CliRunner().invoke(app, ["sql", query, "--store", copy])
        assert done.exit_code == 0 and ("is stale: vmastore 0.0.9 made it" in done.stderr) == told
    assert run(copy, "SELECT engine FROM replays", "--raw") == "0.0.9\n"


def test_schema_names_everything(place: str) -> None:
    """Views, tables with arguments, functions."""
    text = run(place, "--schema")
    for word in ("lost_merges", "vmas_between", "peak_of", "died_seq"):
        assert word in text
