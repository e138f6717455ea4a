"""`vmastore bisect`: git's habits, kept in the store, and the questions of `bisect find`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from vmastore.cli.main import main

TRACE = Path(__file__).parent.parent.parent / "docs" / "data" / "python-imports.vmatrace.jsonl.gz"
OTHER = Path(__file__).parent.parent / "data" / "vmafuzz" / "all-6.1.jsonl.gz"
SMALL = "sh -c 'test $(wc -l < $VMASTORE_MAPS) -le 60'"
FIRST = 232  # the first event of the trace with more than 60 VMAs


class Done(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[[str], Done]


@pytest.fixture
def run(served: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process, in a folder of its own with the trace imported as py."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["vmastore", *shlex.split(line)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Done(int(stopped.value.code or 0), out, err)

    assert run(f"import {TRACE} --name py").status == 0
    return run


def test_step_by_step(run: Run) -> None:
    """Marks narrow the range down as git says it, and the end is the event, explained."""
    assert run("bisect start py").out == "status: waiting for a bad event and a good one\n"
    assert "waiting for a bad event; a good event is known" in run("bisect good 0").out
    said = run("bisect bad").out.splitlines()
    assert said[0] == "Bisecting: 153 events left to test after this (roughly 8 steps)"
    assert said[1].startswith("[py@153] close(3)")
    for _ in range(9):
        seq = int(said[1].partition("@")[2].partition("]")[0])
        done = run("bisect good" if seq < FIRST else "bisect bad")
        said = done.out.splitlines()
        if "first bad event" in said[0]:
            break
    assert done.status == 0 and said[0] == f"py@{FIRST} is the first bad event  (6.18)"
    assert "split at" in done.out and "before  [" in done.out
    assert run("bisect next").out == done.out


def test_run(run: Run) -> None:
    """A command finds the event; the named boundaries are verified, the state comes on stdin and as a file."""
    assert "roughly" in run(f"bisect start py 307 {FIRST - 40}").out
    Path("ask").write_text("test $(tee last | wc -l) -le 60 && cmp -s last $VMASTORE_MAPS && echo $VMASTORE_SEQ")
    done = run("bisect run sh ask")
    assert done.status == 0 and f"py@{FIRST} is the first bad event" in done.out
    lines = done.out.splitlines()
    assert lines[0].endswith(f"at the good event {FIRST - 40}") and lines[1] == str(FIRST - 40)
    assert lines[2].endswith("at the bad event 307")
    assert sum(line.startswith("running") for line in lines) <= 2 + 7


def test_run_goes_on_where_it_stopped(run: Run) -> None:
    """Every answer is stored at once; an abort keeps them, and the next run asks nothing again."""
    run("bisect start py 307 0")
    Path("asked").write_text("")
    script = "echo $VMASTORE_SEQ >> asked; test $(wc -l < asked) -lt 6 || exit 200"
    Path("ask").write_text(script + "; test $(wc -l < $VMASTORE_MAPS) -le 60")
    done = run("bisect run sh ask")
    assert done.status == 2 and "exited with 200" in done.err
    asked = Path("asked").read_text().split()
    assert len(asked) == 6 and asked[:2] == ["0", "307"]
    done = run(f"bisect run {SMALL}")
    assert done.status == 0 and f"py@{FIRST} is the first bad event" in done.out
    again = [line.rpartition(" ")[2] for line in done.out.splitlines() if line.startswith("running")]
    assert asked[-1] in again and not set(asked[:-1]) & set(again)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sh -c 'exit 0'", "at event 307, which is marked bad"),
        ("sh -c 'exit 1'", "at event 0, which is marked good"),
        ("sh -c 'exit 125'", "at event 0, which is marked good"),
        ("sh -c 'exit 127'", "did not find the command"),
        ("sh -c 'exit 126'", "did not find the command"),
        ("sh -c 'kill -9 $$'", "exited with 137"),
        ("./no-such-script", "cannot run ./no-such-script"),
    ],
)
def test_boundaries_are_verified(run: Run, command: str, says: str) -> None:
    """What the command says of the named events must be what they are marked; 126 and 127 there mean no command."""
    run("bisect start py 307 0")
    done = run(f"bisect run {command}")
    assert done.status == 2 and says in done.err and ("Hint:" in done.err or "cannot" in says)
    assert "left to test" in run("bisect next").out


@pytest.mark.parametrize("status", [1, 124, 126, 127, 128, 255])
def test_exit_statuses(run: Run, status: int) -> None:
    """1 to 127 but 125 are bad, from 128 on the search stops."""
    run("bisect start py 307 0")
    Path("ask").write_text(f"test $VMASTORE_SEQ -lt 300 || exit 1; test $VMASTORE_SEQ -lt 250 || exit {status}")
    done = run("bisect run sh ask")
    if status < 128:
        assert done.status == 0 and "py@250 is the first bad event" in done.out
    else:
        assert done.status == 2 and f"exited with {status}" in done.err


def test_skips_leave_suspects(run: Run) -> None:
    """Where only skipped events are left, each that it may be is listed, and the status is 1."""
    run("bisect start py 307 0")
    Path("ask").write_text("case $VMASTORE_SEQ in 23[1-4]) exit 125;; esac; test $(wc -l < $VMASTORE_MAPS) -le 60")
    done = run("bisect run sh ask")
    assert done.status == 1 and "one of these 5:" in done.out and "We cannot bisect more!" in done.out
    assert "[py@231]" in done.out and "[py@235]" in done.out and "[py@236]" not in done.out
    view = run("bisect view").out.splitlines()
    assert view[0] == "5 suspects: after py@230, up to py@235" and view[1].startswith(" skip [py@231]")


def test_skip_a_range(run: Run) -> None:
    """A..B is what comes after A, up to and with B."""
    run("bisect start py 307 0")
    run("bisect skip 100..200 py@50")
    log = run("bisect log").out
    assert "vmastore bisect skip 100..200\n" in log and "vmastore bisect skip 50\n" in log
    assert "[py@100]" in run("bisect next").out or "[py@201]" in run("bisect next").out
    assert run("bisect skip 9..9").status == 2


def test_only_a_bad_event(run: Run) -> None:
    """Without a good event the search goes back, further each time, and then halves."""
    assert "looking further back" in run("bisect start py 307").out
    done = run(f"bisect run {SMALL}")
    asked = [int(x.rpartition(" ")[2]) for x in done.out.splitlines() if x.startswith("running")]
    assert asked[:8] == [307, 306, 305, 303, 299, 291, 275, 243] and asked[8] == 179
    assert f"py@{FIRST} is the first bad event" in done.out
    run("bisect start py 307")
    done = run("bisect run sh -c 'exit 1'")
    assert done.status == 1 and "py is bad before the first event" in done.out


def test_terms(run: Run) -> None:
    """Old and new, or words of one's own, instead of good and bad; they do not mix."""
    run("bisect start py")
    assert run("bisect terms").out == "Your current terms are good for the old state\nand bad for the new state.\n"
    run("bisect new")
    assert run("bisect terms --term-new").out == "new\n"
    assert "its terms are old and new" in run("bisect good 3").err
    run("bisect start py --term-old few --term-new many")
    assert run("bisect few 0").status == 0 and "left to test" in run("bisect many @-1").out
    assert "vmastore bisect many 307" in run("bisect log").out
    assert "many" in run(f"bisect run {SMALL}").out
    assert run("bisect frobnicate").status == 2
    assert "cannot be a term" in run("bisect start py --term-old run --term-new many").err
    assert "must differ" in run("bisect start py --term-old x --term-new x").err


def test_log_and_replay(run: Run) -> None:
    """A log, perhaps with lines taken out, brings a bisection back, options included."""
    run("bisect start py@300 290 10 --kernel 6.12 --rule mmap-merge-new-range=off --max-map-count 999")
    run("bisect good")
    run("bisect skip 200..210")
    log = run("bisect log").out
    Path("log").write_text(log)
    after = run("bisect next").out
    run("bisect reset")
    done = run("bisect replay log")
    assert done.out == after and run("bisect log").out == log
    lines = log.splitlines()
    Path("less").write_text("\n".join(x for x in lines if "skip" not in x))
    run("bisect replay less")
    assert "skip" not in run("bisect log").out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "first command is not"),
        ("vmastore bisect good 3", "first command is not"),
        ("vmastore bisect start py 100 5\nrm -rf x", "line 2: not a line of"),
        ("vmastore bisect start py 100 5\nvmastore bisect good 200", "line 2: event 200 is marked good"),
        ("vmastore bisect start nothing", "no trace"),
        ("vmastore bisect start py --nonsense", "line 1:"),
        ("vmastore bisect start 'py", "line 1:"),
        ("vmastore bisect start py\nvmastore bisect run touch x", "line 2: not a line of"),
    ],
    ids=range(8),
)
def test_a_wrong_log_changes_nothing(run: Run, text: str, says: str) -> None:
    """The bisection that was going on goes on."""
    run("bisect start py 100 5")
    before = run("bisect log").out
    Path("log").write_text(text)
    done = run("bisect replay log")
    assert done.status == 2 and says in done.err and not Path("x").exists()
    assert run("bisect log").out == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("bisect good 300", "event 300 is marked good and event 200 bad"),
        ("bisect bad 3", "must come before"),
        ("bisect good 400", "from 0 to event 307"),
        ("bisect good other@3", "the bisection is of py"),
        ("bisect good x", "is no event"),
        ("bisect start py 5 9", "must come before"),
        ("bisect start missing", "no trace"),
        ("bisect run", "Missing argument"),
    ],
)
def test_wrong_marks_are_refused(run: Run, line: str, says: str) -> None:
    """An error, and what was marked before stays."""
    run("bisect start py 200 10")
    done = run(line)
    assert done.status == 2 and says in done.err


def test_without_a_bisection(run: Run) -> None:
    """The verbs say that none is going on; reset is content."""
    for verb in ("good", "bad 3", "skip", "next", "log", "view", "terms", "run true"):
        done = run(f"bisect {verb}")
        assert done.status == 2 and "no bisection is going on" in done.err
    assert run("bisect reset").out == "We are not bisecting.\n"
    run("bisect start py")
    assert "forgotten" in run("bisect reset").out
    assert run("bisect next").status == 2


def test_find_with_a_command(run: Run) -> None:
    """`bisect find --command` is start and run in one, and stores nothing."""
    found = json.loads(run("bisect find py@307 --command 'test $(wc -l) -le 60' --json").out)
    assert found["found"] == FIRST and found["asked"] <= 11 and found["map_count"] == 61
    assert run("bisect next").status == 2
    assert "which is marked bad" in run("bisect find py@307 --command true").err


def test_find_lists_every_flip(run: Run) -> None:
    """--all has each change of the answer."""
    found = json.loads(run("bisect find py --when 'map_count >= 75' --all --json").out)
    assert found["flips"] == len(found["all"]) == 3
    assert [flip["holds"] for flip in found["all"]] == [True, False, True]
    assert found["found"] == found["all"][0]["seq"]
    text = run("bisect find py --when 'map_count >= 75' --all").out
    assert "the answer changes 3 times in events 1 to 308:" in text and "ceases at  py@" in text


def test_find_by_sql(run: Run) -> None:
    """A query over `vmas` as of the event; a wrong one is an error before any replay."""
    found = json.loads(run("bisect find py --sql 'SELECT count(*) > 60 FROM vmas' --json").out)
    assert found["found"] == FIRST
    assert "no such column" in run("bisect find py --sql 'SELECT colour FROM vmas'").err


def test_find_between_sides(run: Run) -> None:
    """Kernels, switches and options can be what differs; --all lists what each decides for itself."""
    run(f"import {OTHER} --name fz")
    kernels = json.loads(run("bisect find fz --kernel 6.1 --against 6.18 --all --json").out)
    assert kernels["found"] == kernels["all"][0]["seq"] and len(kernels["all"]) > 3
    switch = json.loads(run("bisect find fz --kernel 6.18 --rule map-stack-nohugepage=off --json").out)
    same = json.loads(run("bisect find fz --kernel 6.18 --against-rule map-stack-nohugepage=off --json").out)
    assert switch["found"] == same["found"] and switch["against"] == "6.18"
    limit = run("bisect find fz --against-max-map-count 20").out
    assert "--max-map-count 20" in limit and "ENOMEM" in limit
    assert run("bisect find fz --kernel 6.12 --against 6.12").status == 1


def test_find_between_runs(run: Run) -> None:
    """A run against itself has no difference; against another it has, with both sides explained."""
    assert run("bisect find py py").status == 1
    run(f"import {OTHER} --name fz")
    found = json.loads(run("bisect find py fz --json").out)
    assert found["found"]["kind"] == "calls" and len(found["sides"]) == 2
    text = run("bisect find py@100 py@90").out
    assert "only in py" in text and "py@91 … 100 only" in text


@pytest.mark.parametrize(
    "line",
    [
        "bisect find py",
        "bisect find py --when wx --sql 'SELECT 1'",
        "bisect find py py --when wx",
        "bisect find py --when wx --against 6.12",
    ],
    ids=range(4),
)
def test_find_answers_one_question(run: Run, line: str) -> None:
    """None, or two at once, is an error."""
    done = run(line)
    assert done.status == 2 and "question" in done.err


@pytest.mark.parametrize("line", ["log py --mm 99", "bisect find py --when 'map_count > 60' --mm 99"])
def test_an_address_space_that_is_not_there(run: Run, line: str) -> None:
    """It is an error, not a trace in which nothing happens."""
    done = run(line)
    assert done.status == 2 and "has no address space 99" in done.err and not done.out
