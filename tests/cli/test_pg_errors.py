"""What is wrong with a server, an account or a database is one line that names it, and a hint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from behind import Behind
from postgres import new_database, new_store
from test_cli import Shell

from vmastore.store.engine import to_url

SAMPLE = Path(__file__).parents[1] / "data" / "vmatrace" / "v1.vmatrace.jsonl"


@pytest.fixture
def url() -> str:
    """An empty store."""
    return new_store()


def error(folder: Path, place: str, *words: str | Path) -> tuple[str, str]:
    """(the error, its hint) of a command that must fail: one line each."""
    lines = Shell(folder, place).fails(*words).splitlines()
    assert len(lines) == 2 and lines[0].startswith("Error: ") and lines[1].startswith("Hint: "), lines
    return lines[0], lines[1]


def test_a_server_that_cannot_be_reached(tmp_path: Path) -> None:
    """By its socket and by its port; the password is not shown."""
    for place in (f"postgresql://u:secret@/d?host={tmp_path}", "postgresql+psycopg://u:secret@127.0.0.1:1/d"):
        said, hint = error(tmp_path, place, "traces")
        assert "u:***@" in said and "secret" not in said + hint and "host and port" in hint


@pytest.fixture
def locked(url: str) -> Iterator[str]:
    """The URL of an account with a password, without it."""
    with Behind(url) as server:
        server.run("CREATE ROLE locked LOGIN PASSWORD 'right'")
        yield to_url(url).set(username="locked").render_as_string()
        server.run("DROP OWNED BY locked")
        server.run("DROP ROLE locked")


def test_passwords_and_rights(url: str, locked: str, tmp_path: Path) -> None:
    """A wrong password, none, then the right one of an account that may only read, which says so at a write."""
    for password in ("wrong", ""):
        said, hint = error(tmp_path, str(_with(locked, password)), "traces")
        assert "password" in said and "wrong" not in said and "~/.pgpass" in hint
    Shell(tmp_path, url).ok("import", SAMPLE, "--name", "a")
    with Behind(url) as server:
        server.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO locked")
    reader = Shell(tmp_path, _with(locked, "right"))
    assert [found["name"] for found in json.loads(reader.ok("traces", "--json"))] == ["a"]
    assert int(reader.ok("sql", "SELECT count(*) FROM events", "--raw")) == 60
    done = reader.run("replay", "a", "--summary")
    assert done.returncode == 0 and "60 events" in done.stdout and "cannot be written" in done.stderr
    said, hint = error(tmp_path, _with(locked, "right"), "sql", "--save", "mine", "SELECT 1")
    assert "permission denied for table query_t" in said and "may only read" in hint


def _with(url: str, password: str) -> str:
    return to_url(url).set(password=password or None).render_as_string(hide_password=False)


def test_databases_that_are_no_store(url: str, tmp_path: Path) -> None:
    """One that is not there, an empty one, another program's, one of a newer vmastore."""
    absent = to_url(url).set(database="nowhere").render_as_string()
    said, hint = error(tmp_path, absent, "traces")
    assert 'database "nowhere" does not exist' in said and "createdb nowhere" in hint
    said, hint = error(tmp_path, new_database(), "traces")
    assert "an empty database, not a store" in said and "vmastore import" in hint
    foreign = new_database()
    with Behind(foreign) as server:
        server.run("CREATE TABLE theirs (a int)")
    assert "a database of another program" in Shell(tmp_path, foreign).fails("import", SAMPLE)
    with Behind(url) as server:
        server.run("UPDATE alembic_version SET version_num = '9999'")
    said, hint = error(tmp_path, url, "traces")
    assert "has schema 9999, newer than this vmastore's" in said and "or newer" in hint
