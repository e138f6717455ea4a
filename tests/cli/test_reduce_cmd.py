"""reduce and export: exit status, keys, forms, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import Shell

PYTHON = Path(__file__).parents[2] / "docs" / "data" / "python-imports.vmatrace.jsonl.gz"


@pytest.fixture
def shell(tmp_path: Path, place: str) -> Shell:
    made = Shell(tmp_path, place)
    made.ok("import", PYTHON, "--name", "py")
    return made


def test_reduce(shell: Shell) -> None:
    """Two operations for a three-way split; the result can be kept, and shows it again; keys are public."""
    found = json.loads(shell.ok("reduce", "py", "--when", "splits >= 2", "--json", "--name", "small"))
    assert set(found) == {
        "found", "goal", "kernel", "events", "left", "replays", "max_map_count", "files", "operations", "vmas",
    }  # fmt: skip
    assert found["found"] and found["left"] == 2 and len(found["operations"]) == 2
    text = shell.ok("bisect", "find", "small", "--when", "splits >= 2")
    assert text.startswith("first event with splits >= 2: small@2")
    assert "2 of " in shell.ok("reduce", "py", "--at", "232")


def test_what_is_not_shown(shell: Shell) -> None:
    """Exit status 1, and what was looked for."""
    done = shell.run("reduce", "py", "--when", "errno ENOMEM and seq > 0")
    assert done.returncode == 1 and "py does not show it" in done.stdout
    done = shell.run("reduce", "py", "--kernel", "6.1", "--against", "6.18", "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["found"] is False


def test_forms(shell: Shell) -> None:
    """Each form is written; JSON lines import again."""
    assert "int main(void)" in shell.ok("reduce", "py", "--at", "232", "--to", "c")
    assert "def test_" in shell.ok("reduce", "py", "--at", "232", "--to", "pytest")
    assert shell.ok("reduce", "py", "--at", "232", "--to", "report").startswith("Subject: ")
    shell.ok("reduce", "py", "--at", "232", "--to", "jsonl", "-o", "small.vmatrace.jsonl")
    assert ": 2 events" in shell.ok("import", "small.vmatrace.jsonl", "--name", "again")
    assert "Left out: brk" in shell.ok("export", "py@100", "--to", "c")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("reduce", "py"), "one of --when"),
        (("reduce", "py", "--when", "splits", "--at", "3"), "one of --when"),
        (("reduce", "py", "--when", "splits >"), "predicate"),
        (("reduce", "py", "--at", "1"), "no operation on the VMAs"),
        (("reduce", "py", "--when", "splits", "--to", "pascal"), "--to 'pascal'"),
        (("reduce", "py", "--against", "9"), "9"),
        (("reduce", "py", "--when", "splits >= 2", "--to", "c", "-o", "no/such/folder.c"), "cannot be written"),
        (("export", "py@1", "--to", "c"), "no operation on VMAs"),
    ],
)
def test_bad_words_are_one_error(shell: Shell, words: tuple[str, ...], says: str) -> None:
    error = shell.fails(*words)
    assert "Error: " in error and says in error
