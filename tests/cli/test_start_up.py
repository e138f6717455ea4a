"""A command imports what it needs: the others' modules stay out, and none is lost by that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from vmastore.cli.main import COMMANDS, asked, commands

MAIN = "import json, sys; from vmastore.cli.main import main\n"
SHOW = "finally: print(json.dumps(sorted(sys.modules)), file=sys.stderr)"


def names(app: typer.Typer) -> list[str]:
    """The commands and groups of an app."""
    return [c.name or "" for c in app.registered_commands] + [g.name or "" for g in app.registered_groups]


@pytest.mark.parametrize("module", COMMANDS)
def test_each_module_has_the_commands_that_are_said(module: str) -> None:
    """A command whose module is not known by its name would be unknown when it is called."""
    assert names(commands([module])) == list(COMMANDS[module])


def test_the_first_word_decides() -> None:
    """The module of a command; all where it is an option, nothing, or no command."""
    assert list(asked(["sql", "select 1"])) == ["sql_cmd"]
    assert list(asked(["db", "check"])) == ["db_cmd"]
    for words in ([], ["--help"], ["--store", "sql"], ["squl"]):
        assert list(asked(words)) == list(COMMANDS)


def test_sql_imports_no_other_command(tmp_path: Path) -> None:
    """Nor SQLAlchemy, Alembic, the importers, the recorder or rich: they take longer than the query."""
    store = tmp_path / "s.db"
    code = "import sys; from vmastore.store import open_store; open_store(sys.argv[1]).close()"
    subprocess.run([sys.executable, "-c", code, str(store)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", f"{MAIN}try: main()\n{SHOW}", "sql", "--store", str(store), "select 1 AS one"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    loaded = json.loads(done.stderr)
    assert done.returncode == 0 and "1" in done.stdout
    ours = {name.split(".")[-1] for name in loaded if name.startswith("vmastore.cli.")}
    assert {name for name in ours if name.endswith("_cmd")} == {"sql_cmd"}
    theirs = {"sqlalchemy", "alembic", "psycopg", "rich.console"}
    assert not (theirs | {"vmastore.importers", "vmastore.recorder"}) & set(loaded)
