"""Stores of earlier schemas in PostgreSQL come up to date, whole, whatever happens on the way."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from behind import Behind, ask
from postgres import copy_of, new_database
from sqlalchemy import event

from vmastore.errors import StoreError
from vmastore.mm.rules import preset
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import migrate, open_store, query
from vmastore.store.check import check_store
from vmastore.store.engine import make_engine, to_url
from vmastore.store.upgrade import schema_of, upgrade_store
from vmastore.store.views import VIEWS

STORES = Path(__file__).parent.parent / "data" / "stores"
OLD = sorted(path.name.split(".")[0] for path in STORES.glob("*.db.gz"))


def older(revision: str, folder: Path) -> str:
    """A database with the schema of a revision and the rows of the kept store."""
    url = new_database()
    engine = make_engine(to_url(url))
    with migrate.migrating(engine) as connection:
        command.upgrade(migrate.config(connection), revision)
    engine.dispose()
    kept = folder / f"{revision}.db"
    kept.write_bytes(gzip.decompress((STORES / f"{revision}.db.gz").read_bytes()))
    with closing(sqlite3.connect(kept)) as file, Behind(url) as server:
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE name LIKE '%_t'")]
        for table in tables:
            cursor = file.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            columns, marks = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
            for row in cursor:
                server.run(f"INSERT INTO {table} ({columns}) VALUES ({marks})", row)
        for table, key in (("trace_t", "trace"), ("call_t", "call"), ("site_t", "site"), ("replay_t", "replay")):
            server.run(f"SELECT setval('{table}_{key}_seq', (SELECT coalesce(max({key}), 0) + 1 FROM {table}))")
    return url


def contents(url: str) -> dict[str, Any]:
    """What the kept stores' descriptions say."""
    traces = ask(
        url,
        "SELECT name, head_seq, encode(head_hash, 'hex'), (SELECT count(*) FROM address_space_t s"
        " WHERE s.trace = t.trace) FROM trace_t t ORDER BY trace",
    )
    counts = {
        key: int(ask(url, f"SELECT {what}")[0][0])
        for key, what in {
            "files": "count(*) FROM file_t",
            "skipped": "sum(count) FROM skip_t",
            "observed": "count(*) FROM observed_t",
            "sites": "count(*) FROM site_t",
        }.items()
    }
    return {"traces": [{"name": n, "events": e, "head_hash": h, "mm": m} for n, e, h, m in traces], **counts}


@pytest.mark.parametrize("revision", OLD)
def test_an_older_schema_is_refused_then_upgraded(revision: str, tmp_path: Path) -> None:
    """Every row is what it was, the store is sound, its views and functions are today's, and it is written again."""
    url, held = older(revision, tmp_path), json.loads((STORES / f"{revision}.json").read_text())
    with pytest.raises(StoreError, match=f"schema {revision}, this vmastore needs") as refused:
        open_store(url)
    assert "pg_dump" in str(refused.value.hint)
    assert upgrade_store(url) == (revision, migrate.head(), None)
    assert contents(url) == held
    with open_store(url) as store:
        assert check_store(store)[0] == []
        for view in VIEWS:
            list(query(store, f"SELECT * FROM {view.name}")[1])
        trace = StoredTrace(store, store.traces()[0])
        derive(trace, preset("6.1"))
        assert list(query(store, "SELECT count(*) > 0 FROM vmas_at(:name, -1)", {"name": trace.header.name})[1]) == [
            (True,)
        ]


def killed_at(url: str, step: int) -> bool:
    """Upgrade in a process that is killed before its statement of this number, or its commit. False: it ended."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        with suppress(BaseException):
            left = step

            def tick(*_: object) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            engine = make_engine(to_url(url))
            event.listen(engine, "before_cursor_execute", tick)
            event.listen(engine, "commit", tick)
            migrate.upgrade(engine)
            os._exit(0)
        os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_an_upgrade_killed_at_any_step_can_be_run_again(tmp_path: Path) -> None:
    """After SIGKILL at a statement or at the commit the store is the old one, whole, and is upgraded by the next."""
    base = older(OLD[0], tmp_path)
    held = json.loads((STORES / f"{OLD[0]}.json").read_text())
    low, high = 1, 4096  # between a step that exists and one that does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if killed_at(copy_of(base), middle) else (low, middle)
    assert low > 50
    for step in sorted({1, low, *random.Random(4).sample(range(2, low), 6)}):
        url = copy_of(base)
        assert killed_at(url, step)
        assert schema_of(url) == OLD[0] and contents(url) == held
        upgrade_store(url)
        assert schema_of(url) == migrate.head() and contents(url) == held


def test_views_and_rights_of_others_are_kept(tmp_path: Path) -> None:
    """Views over ours, views over those, and who may read ours: after an upgrade as before it."""
    url = older(OLD[-1], tmp_path)
    upgrade_store(url)
    with Behind(url) as server:
        server.run("CREATE VIEW mine AS SELECT trace, count(*) AS n FROM events GROUP BY trace")
        server.run("CREATE VIEW alive AS SELECT m.n, v.* FROM mine m, vmas_at(m.trace, 0) v")
        server.run("DROP ROLE IF EXISTS reader")
        server.run("CREATE ROLE reader")
        server.run("GRANT SELECT ON events, mine TO reader")
    engine = make_engine(to_url(url))
    with migrate.migrating(engine) as connection:  # what an upgrade does besides its steps
        migrate.finish(connection, migrate.drop_views(connection))
    engine.dispose()
    rights = "SELECT has_table_privilege('reader', '{}', 'SELECT')"
    assert [ask(url, rights.format(name))[0][0] for name in ("events", "mine", "vmas")] == [True, True, False]
    assert ask(url, "SELECT sum(n) FROM mine")[0][0] == sum(
        e for _, e in ask(url, "SELECT name, head_seq FROM trace_t")
    )
    assert ask(url, "SELECT count(*) FROM pg_views WHERE viewname = 'alive'") == [(1,)]
