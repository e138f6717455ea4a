"""Stores of every earlier schema come up to date, whole, whatever happens on the way."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import event

from vmastore.errors import StoreError
from vmastore.events import TraceHeader
from vmastore.events import upcasters as upcasters_module
from vmastore.replay.check import check_replays
from vmastore.replay.rebuild import rebuild
from vmastore.store import backup as backup_module
from vmastore.store import migrate, open_store
from vmastore.store.check import check_store
from vmastore.store.derived import derived_rows, replays, stored_replays
from vmastore.store.engine import make_engine, to_url
from vmastore.store.upgrade import schema_of, upgrade_store

pytestmark = pytest.mark.sqlite("files of older schemas (test_pg_upgrade.py has PostgreSQL's)")
STORES = Path(__file__).parent.parent / "data" / "stores"
OLD = sorted(path.name.split(".")[0] for path in STORES.glob("*.db.gz"))


def unpacked(revision: str, folder: Path) -> Path:
    """A copy of the kept store of a revision."""
    place = folder / "old.db"
    place.write_bytes(gzip.decompress((STORES / f"{revision}.db.gz").read_bytes()))
    return place


def contents(place: Path) -> dict[str, object]:
    """What the kept stores' descriptions say, read by hand."""
    with closing(sqlite3.connect(place)) as raw:
        traces = raw.execute(
            "SELECT name, head_seq, head_hash, (SELECT count(*) FROM address_space_t s WHERE s.trace = t.trace), "
            "(SELECT count(*) FROM event_t e WHERE e.trace = t.trace) FROM trace_t t ORDER BY trace"
        ).fetchall()
        counts = {
            key: raw.execute(f"SELECT {what}").fetchone()[0]
            for key, what in {
                "files": "count(*) FROM file_t",
                "skipped": "sum(count) FROM skip_t",
                "observed": "count(*) FROM observed_t",
                "sites": "count(*) FROM site_t",
            }.items()
        }
    assert all(row[1] == row[4] for row in traces)
    return {"traces": [{"name": n, "events": e, "head_hash": h.hex(), "mm": m} for n, e, h, m, _ in traces], **counts}


def shape(place: Path) -> list[tuple[str, str]]:
    """Every table, view, index and trigger with its SQL, and the revision."""
    with closing(sqlite3.connect(place)) as raw:
        found = raw.execute("SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_master ORDER BY 1").fetchall()
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [*found, *raw.execute("SELECT 'revision', version_num FROM alembic_version")]


def test_the_kept_stores_are_of_known_schemas() -> None:
    """From the first one on, each with a description of what it holds."""
    assert OLD[0] == "0001"
    revisions = {script.revision for script in ScriptDirectory.from_config(migrate.config()).walk_revisions()}
    assert set(OLD) <= revisions
    assert all((STORES / f"{revision}.json").exists() for revision in OLD)


@pytest.mark.parametrize("revision", OLD)
def test_an_old_store_upgraded_is_whole(revision: str, tmp_path: Path) -> None:
    """Refused until it is upgraded; then sound, of the newest schema, with all it held, and the old one beside it."""
    place = unpacked(revision, tmp_path)
    held = json.loads((STORES / f"{revision}.json").read_text())
    assert schema_of(place) == revision
    with pytest.raises(StoreError, match=f"schema {revision}, this vmastore needs {migrate.head()}") as refusal:
        open_store(place)
    assert refusal.value.hint == "run `vmastore db upgrade` (it backs up first)"

    have, want, copy = upgrade_store(place)
    assert (have, want, copy) == (revision, migrate.head(), tmp_path / f"old.db.{revision}.bak")
    assert contents(place) == contents(copy) == held
    assert schema_of(copy) == revision
    with open_store(place) as store:
        assert check_store(store)[0] == []
        for info in store.traces():
            assert [e.seq for e in store.events(info.trace)] == list(range(1, info.events + 1))
        with store.engine.begin() as connection:
            command.check(migrate.config(connection))
        fresh = open_store(tmp_path / "fresh.db")
        fresh.close()
        assert {name for name, _ in shape(place)} == {name for name, _ in shape(tmp_path / "fresh.db")}
    assert upgrade_store(place) == (migrate.head(), migrate.head(), None)


@pytest.mark.parametrize("revision", OLD)
def test_replays_of_an_old_store_are_made_again(revision: str, tmp_path: Path) -> None:
    """The upgrade leaves them known, stale and without rows; `db rebuild` makes them as they should be."""
    place = unpacked(revision, tmp_path)
    upgrade_store(place)
    with open_store(place) as store:
        known = [(found.trace, found.kernel, found.options) for found in stored_replays(store)]
        assert known and check_replays(store).replays == 0
        assert not any(list(derived_rows(store, found.replay)) for found in stored_replays(store))
        assert rebuild(store) == len(known)
        assert replays(store) == known and check_replays(store) == ([], len(known), [])


@pytest.mark.parametrize("revision", OLD)
def test_down_to_an_old_schema_and_up_again(revision: str, tmp_path: Path) -> None:
    """A downgrade gives back the schema that the kept store has, with what it held."""
    place = unpacked(revision, tmp_path)
    before = [row for row in shape(place) if not row[0].startswith("view")]
    upgrade_store(place)
    with migrate.migrating(make_engine(to_url(place))) as connection:
        migrate.drop_views(connection)
        command.downgrade(migrate.config(connection), revision)
    after = [row for row in shape(place) if not row[0].startswith("view")]
    assert [name for name, _ in after] == [name for name, _ in before]
    assert contents(place) == json.loads((STORES / f"{revision}.json").read_text())
    upgrade_store(place)
    with open_store(place) as store:
        assert check_store(store)[0] == []


def test_a_view_of_the_users_own_survives(tmp_path: Path) -> None:
    """An upgrade remakes the public views and keeps the others."""
    place = unpacked(OLD[0], tmp_path)
    with closing(sqlite3.connect(place)) as raw:
        raw.execute("CREATE VIEW mine AS SELECT call, count(*) AS n FROM events GROUP BY call")
    upgrade_store(place)
    with closing(sqlite3.connect(place)) as raw:
        assert sum(row[1] for row in raw.execute("SELECT * FROM mine")) == 242


def test_a_newer_store_is_refused_with_the_version_it_needs(tmp_path: Path) -> None:
    """By every command, `db upgrade` too; nothing is changed."""
    place = tmp_path / "s.db"
    open_store(place).close()
    with closing(sqlite3.connect(place)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
        raw.execute("UPDATE about_t SET value = '7.1.0' WHERE key = 'needs'")
        raw.commit()
    for refused in (open_store, upgrade_store):
        with pytest.raises(StoreError, match=f"schema 9999, newer than this vmastore's {migrate.head()}") as error:
            refused(place)
        assert error.value.hint == "it needs vmastore 7.1.0 or newer"
    assert schema_of(place) == "9999" and not list(tmp_path.glob("*.bak*"))


def test_a_backup_never_overwrites_another(tmp_path: Path) -> None:
    """The same content keeps its name; a different one of that name is left, and the new one numbered."""
    place = unpacked(OLD[0], tmp_path)
    first = backup_module.back_up(place, "bak")
    assert backup_module.back_up(place, "bak") == first
    first.write_bytes(b"something of the user's")
    second = backup_module.back_up(place, "bak")
    assert second.name == "old.db.bak.2" and first.read_bytes() == b"something of the user's"
    assert not list(tmp_path.glob("*.part"))


def test_no_place_for_the_backup_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upgrade stops before it has begun."""
    place = unpacked(OLD[0], tmp_path)
    before = shape(place)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_module.os, "replace", full)
    with pytest.raises(StoreError, match="No space left") as error:
        upgrade_store(place)
    assert error.value.hint == "the backup copy could not be made; nothing was changed"
    assert shape(place) == before and not list(tmp_path.glob("*.part"))


def killed_at(place: Path, step: int) -> bool:
    """Upgrade in a process that kills itself at its nth step: a statement, a commit, a piece of the backup.

    Returns whether it was killed; a process that came to its end had fewer steps.
    """
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            _upgrade_until(place, step)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def _upgrade_until(place: Path, step: int) -> None:
    left = step

    def tick(*_: object, **__: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    backup_module.PAGES = 16
    engine = make_engine(to_url(place))
    event.listen(engine, "before_cursor_execute", tick)
    event.listen(engine, "commit", tick)
    migrate.upgrade(engine, tick)
    tick()


def each_kill(make: Callable[[], Path], check: Callable[[Path, int], None]) -> int:
    """Kill an upgrade at its first step, its second, … until one comes to its end. Returns the steps."""
    step = 1
    while True:
        place = make()
        killed = killed_at(place, step)
        check(place, step)
        if not killed:
            return step - 1
        step += 1


@pytest.mark.parametrize("revision", OLD[:1])
def test_an_upgrade_killed_at_any_step_can_be_run_again(revision: str, tmp_path: Path) -> None:
    """After SIGKILL at each statement and each piece of the copy the store is the old one or the new one, whole."""
    old = unpacked(revision, tmp_path)
    held = json.loads((STORES / f"{revision}.json").read_text())
    before, content = shape(old), old.read_bytes()
    upgraded = tmp_path / "new.db"
    upgraded.write_bytes(content)
    upgrade_store(upgraded)
    after = shape(upgraded)
    seen = set()

    def make() -> Path:
        place = tmp_path / "killed.db"
        for leftover in tmp_path.glob("killed.db*"):
            leftover.unlink()
        place.write_bytes(content)
        return place

    def check(place: Path, step: int) -> None:
        found = shape(place)
        assert found in (before, after), step
        seen.add(found == after)
        assert contents(place) == held
        for copy in place.parent.glob(f"killed.db.{revision}.bak"):
            assert contents(copy) == held and schema_of(copy) == revision
        if step % 8 == 0:
            upgrade_store(place)
            assert shape(place) == after

    assert each_kill(make, check) > 30
    assert seen == {True, False}


def test_events_of_an_older_version_are_upcast_when_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored events of version 1, kept by a real store, are read in today's form through every step; the chain
    covers them as they were stored, and what is appended now has the new version."""
    place = unpacked("0001", tmp_path)
    upgrade_store(place)
    with open_store(place) as store:
        trace = store.trace("sh").trace
        plain = list(store.events(trace))
    assert any(e.call == "mprotect" for e in plain)
    # version 2 of mprotect also has the protection key, version 3 has it in front
    steps = (lambda args: (*args, -1), lambda args: (args[3], *args[:3]))
    monkeypatch.setitem(upcasters_module.STEPS, "mprotect", steps)  # type: ignore[arg-type]
    with open_store(place) as store:
        read = list(store.events(trace))
        for old, new in zip(plain, read, strict=True):
            assert new == (old._replace(args=(-1, *old.args)) if old.call == "mprotect" else old)
        last = next(e for e in read if e.call == "mprotect")
        store.append(trace, [last._replace(seq=len(read) + 1, args=(5, *last.args[1:]))])
        assert store.event(trace, len(read) + 1).args[0] == 5
        assert check_store(store)[0] == []
        with closing(sqlite3.connect(place)) as raw:
            versions = raw.execute("SELECT version, name FROM call_t WHERE name = 'mprotect' ORDER BY 1").fetchall()
            assert versions == [(1, "mprotect"), (3, "mprotect")]
            raw.execute("UPDATE call_t SET version = 2 WHERE version = 3")  # tampering: the chain tells
            raw.commit()
        assert f"event {len(read) + 1}" in check_store(store)[0][0]
    monkeypatch.undo()
    with open_store(place) as store, pytest.raises(StoreError, match="mprotect is stored in version 2") as error:
        list(store.events(trace))
    assert error.value.hint == "upgrade vmastore to read it"


def test_a_batch_with_a_key_is_stored_once(tmp_path: Path) -> None:
    """A retry returns what the first append did; the key of other events is an error."""
    from vmastore.events import Event

    def call(seq: int, addr: int = 4096) -> Event:
        return Event(seq, 1, 7, 7, None, "munmap", (addr, 4096), 0, 0)

    with open_store(tmp_path / "s.db") as store:
        trace = store.create_trace(TraceHeader("a", "a", "strace")).trace
        assert store.append(trace, [call(1), call(2)], expected_version=0, key="one") == 2
        assert store.append(trace, [call(3)], expected_version=2, key="two") == 3
        assert store.append(trace, [call(1), call(2)], expected_version=0, key="one") == 2
        assert store.trace(trace).events == 3
        for other in ([call(1)], [call(1), call(2, 8192)], [call(2), call(3)]):
            with pytest.raises(StoreError, match="the key 'one' is that of events 1 to 2, which are others"):
                store.append(trace, other, key="one")
        assert check_store(store) == ([], 3)
