"""reduce and export: exit status, keys, forms, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import Shell

from vmastore.events import Event, TraceHeader
from vmastore.store import open_store

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


def test_idle_vmas_count_towards_the_limit(tmp_path: Path) -> None:
    """What no event comes near is made only where nothing shows without: here it fills the address space up."""
    top = 0x7F0000000000
    lines = [[top + 8192 * n, top + 8192 * n + 4096, "rw-p", 0, "00:00", 0, "", None, True] for n in range(40)]
    config = {"max_map_count": 41}
    header = TraceHeader("full", "test", "jsonl", release="6.18.44", config=config, faults="recorded")
    base = 0x100000000000
    calls = [
        ("maps", ("baseline", len(lines), None, lines), None, 0),
        ("mprotect", (base + 0x100000, 4096, 1), None, 12),  # a hole
        ("mmap", (base, 32768, 3, 0x32, -1, 0), base, 0),
        ("mprotect", (base + 4096, 4096, 1), None, 12),  # the limit
    ]
    events = [Event(n, 1, 1, 1, None, *call) for n, call in enumerate(calls, 1)]
    shell = Shell(tmp_path)
    with open_store(tmp_path / "t.db") as store:
        store.append(store.create_trace(header).trace, events)
    options = ("--store", str(tmp_path / "t.db"))
    when = "errno ENOMEM and map_count > 40"
    found = json.loads(shell.ok(*options, "reduce", "full", "--when", when, "--json"))
    assert [step["call"] for step in found["operations"]][-1] == "mprotect" and found["max_map_count"] is not None
    assert found["goal"].startswith("errno ENOMEM") and "by the map limit" in found["goal"]
    hole = json.loads(shell.ok(*options, "reduce", "full", "--when", "errno ENOMEM", "--json"))
    assert hole["left"] == 1 and "by a hole in its range" in hole["goal"]


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
