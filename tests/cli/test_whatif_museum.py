"""whatif and museum: keys, exit status, errors; the trace stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import Shell

NAMES = Path(__file__).parents[2] / "docs" / "data" / "names.vmatrace.jsonl"


@pytest.fixture
def shell(tmp_path: Path, place: str) -> Shell:
    made = Shell(tmp_path, place)
    made.ok("import", NAMES)
    return made


def test_whatif(shell: Shell) -> None:
    """Keys are public; the store is not changed."""
    before = shell.ok("sql", "SELECT count(*), max(seq) FROM events")
    found = json.loads(shell.ok("whatif", "names", "--ignore", "names", "--json"))
    assert set(found) == {"mm", "changed", "original", "edited", "first_difference"}
    assert set(found["edited"]) == {"kernel", "peak", "peak_seq", "end", "failed"}
    assert (found["original"]["end"], found["edited"]["end"], found["changed"]) == (40, 1, 40)
    assert found["first_difference"]["seq"] == 4
    assert shell.ok("sql", "SELECT count(*), max(seq) FROM events") == before
    same = json.loads(shell.ok("whatif", "names", "--max-map-count", "100", "--json"))
    assert same["first_difference"] is None
    assert json.loads(shell.ok("whatif", "names", "--max-map-count", "9", "--json"))["edited"]["failed"] > 0


def test_museum(shell: Shell) -> None:
    """Listed, shown, played, kept."""
    document = json.loads(shell.ok("museum", "list", "--json"))
    names = [entry["name"] for entry in document["exhibits"]]
    assert names[0] == "series-v1" and len(names) >= 23 and len(document["notes"]) == 9
    assert "with the bug: series-v1" in shell.ok("museum", "show", "series-v1")
    played = json.loads(shell.ok("museum", "play", "series-v1", "--json"))
    assert played["bug"]["oops"] and not played["fix"]["oops"] and played["fix"]["errno"] == 12
    assert "kept as kept" in shell.ok("museum", "play", "missed-merge", "--name", "kept")
    found = json.loads(shell.ok("bisect", "find", "kept", "--kernel", "6.12", "--against", "6.18", "--json"))
    assert found["found"] == 5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("whatif", "names"), "nothing is changed"),
        (("whatif", "names", "--ignore", "colours"), "colours"),
        (("whatif", "names", "--replace", "a=b"), "a=b"),
        (("whatif", "names", "--drop", "7-"), "7-"),
        (("museum", "show", "nobody"), "nobody"),
        (("museum", "play", "stackrot"), "cannot be played"),
    ],
)
def test_bad_words_are_one_error(shell: Shell, words: tuple[str, ...], says: str) -> None:
    error = shell.fails(*words)
    assert "Error: " in error and says in error
