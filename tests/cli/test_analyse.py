"""blame, history, headroom, assert, lost-merges and diff: output, keys, exit status, processes and files."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
from test_cli import DATA, Shell

PYTHON = Path(__file__).parents[2] / "docs" / "data" / "python-imports.vmatrace.jsonl.gz"
SMAPS = DATA / "maps" / "cat.smaps"
MAPS = DATA / "maps" / "cat.maps"


@pytest.fixture
def shell(tmp_path: Path, place: str) -> Shell:
    made = Shell(tmp_path, place)
    made.ok("import", PYTHON, "--name", "py")
    return made


def test_blame_counts_every_vma(shell: Shell) -> None:
    """The sums are those of the address space, whatever they are grouped by; keys are public."""
    state = json.loads(shell.ok("replay", "py@300", "--format", "json"))
    for by in ("call", "call,reason", "how", "tid,site"):
        rows = json.loads(shell.ok("blame", "py@300", "--by", by, "--json"))
        assert sum(row["vmas"] for row in rows) == state["map_count"]
        assert sum(row["bytes"] for row in rows) == sum(v["end"] - v["start"] for v in state["vmas"])
    rows = json.loads(shell.ok("blame", "py@300", "--json"))
    assert list(rows[0]) == ["vmas", "bytes", "call", "site", "tid", "how", "reason", "first_seq", "last_seq"]
    each = json.loads(shell.ok("blame", "py@300", "--vmas", "--json"))
    assert list(each[0]) == ["start", "end", "perms", "name", "seq", "call", "tid", "site", "how", "reason"]
    only = json.loads(shell.ok("blame", "py@300", "--vmas", "--call", "mprotect", "--json"))
    assert only == [row for row in each if row["call"] == "mprotect"] and only
    assert shell.ok("blame", "py@300", "--flag", "lo") == (
        "vmas\tbytes\tcall\tsite\ttid\thow\treason\tfirst_seq\tlast_seq\n"
    )


def test_history(shell: Shell) -> None:
    """Each touch with what it did; the keys are public."""
    text = shell.ok("history", "py@307", "0x7fe400c85000")
    assert "split at 0x7fe400c85000" in text and "mapped over, r--p → rw-p" in text
    rows = json.loads(shell.ok("history", "py", "0x7fe400c85000", "--json"))
    assert list(rows[0]) == ["seq", "mm", "tid", "call", "what", "certain", "before", "after"]
    assert [row["seq"] for row in rows] == [229, 230, 232, 234, 239, 308]
    assert shell.ok("history", "py", "0x1000").startswith("no event up to 308 touched 0x1000")


def test_headroom(shell: Shell) -> None:
    """Numbers, and an exit status for CI."""
    found = json.loads(shell.ok("headroom", "py", "--json"))
    assert found["map_count"] == 75 and found["limit"] == 65530 and found["left"] == 65455
    assert set(found) == {
        "limit", "map_count", "peak", "peak_seq", "events", "per_event", "per_second", "events_left",
        "seconds_left", "left", "used", "limit_known", "warn_at", "warned",
    }  # fmt: skip
    assert "75 VMAs of 80" in shell.ok("headroom", "py", "--max-map-count", "80")
    done = shell.run("headroom", "py", "--max-map-count", "80", "--warn", "90%")
    assert done.returncode == 1 and "at or above 72 VMAs" in done.stdout
    assert shell.run("headroom", "py", "--warn", "75").returncode == 1
    assert shell.run("headroom", "py", "--warn", "76").returncode == 0
    assert "--warn" in shell.fails("headroom", "py", "--warn", "lots")


def test_assert(shell: Shell) -> None:
    """0 and one line where it holds; 1 and the first event that broke it where it does not."""
    assert shell.ok("assert", "py", "map_count < 76").startswith("holds after each of 308 events")
    done = shell.run("assert", "py", "map_count < 60", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and found["seq"] == 232 and found["map_count"] == 61 and not found["holds"]
    assert shell.ok("assert", "py@231", "map_count < 61")
    assert "broken: map_count < 60  at py@232" in shell.run("assert", "py", "map_count < 60").stdout
    assert "predicate" in shell.fails("assert", "py", "map_count <")


def test_lost_merges_on_a_saved_file(shell: Shell) -> None:
    """A saved smaps stands for a trace; the pairs are those of its lines that touch."""
    rows = json.loads(shell.ok("lost-merges", SMAPS, "--kernel", "6.18", "--json"))
    assert list(rows[0]) == ["vmas", "alone", "assumed", "reason"]
    lines = [line.split()[0] for line in MAPS.read_text().splitlines() if "[vsyscall]" not in line]
    touching = sum(a.split("-")[1] == b.split("-")[0] for a, b in itertools.pairwise(lines))
    assert sum(row["vmas"] for row in rows) == touching
    pairs = json.loads(shell.ok("lost-merges", SMAPS, "--kernel", "6.18", "--pairs", "--json"))
    assert len(pairs) == touching
    assert sum(r["vmas"] for r in json.loads(shell.ok("blame", SMAPS, "--kernel", "6.18", "--json"))) == len(lines)
    assert json.loads(shell.ok("headroom", SMAPS, "--kernel", "6.18", "--json"))["limit_known"] is False


def test_a_process(shell: Shell) -> None:
    """A PID stands for a trace too: this test's own process."""
    pid = f"pid:{os.getpid()}"
    found = json.loads(shell.ok("headroom", pid, "--json"))
    assert found["map_count"] > 20 and found["limit_known"] is True
    assert json.loads(shell.ok("lost-merges", pid, "--json"))
    assert json.loads(shell.ok("blame", pid, "--json"))[0]["how"] == "observed"
    assert "no such process" in shell.fails("blame", "pid:999999999")
    assert "not a line of" in shell.fails("blame", PYTHON)


def test_diff_of_files(shell: Shell) -> None:
    """A file and itself: nothing. maps and smaps of one moment: nothing. A line less: that line."""
    assert shell.ok("diff", SMAPS, SMAPS, "--kernel", "6.18") == ""
    lines = MAPS.read_text().splitlines(keepends=True)
    (shell.folder / "less.maps").write_text("".join(lines[1:]))
    done = shell.run("diff", MAPS, "less.maps", "--kernel", "6.18")
    assert done.returncode == 1 and done.stdout == "-" + lines[0]
