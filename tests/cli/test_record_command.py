"""`record` from the words a user types, and the line that tells how far long work has come."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmastore.cli.common import parse_duration
from vmastore.errors import InputError

SAMPLE = Path(__file__).parent.parent / "data" / "vmafuzz" / "all-6.1.jsonl.gz"
MAIN = "from vmastore.cli.main import main; main()"
KEYS = """trace name events address_spaces status signal interrupted kernel faults note skipped wall_s program_cpu_s
strace_cpu_s holds held_s observations observations_missed observations_late log_lines log_bytes faults_seen
faults_kept faults_lost held_back held_back_s"""


def run(folder: Path, *words: str | Path, code: str = MAIN) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def _strace_works() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-qo", os.devnull, "true"], check=False).returncode == 0


@pytest.mark.usefixtures("served")
@pytest.mark.skipif(not _strace_works(), reason="strace is not installed, or may not trace here")
def test_record_says_what_it_measured(tmp_path: Path) -> None:
    """The status is the program's; --json is the last line of stdout, with the keys that --help names."""
    done = run(tmp_path, "record", "--json", "--hold", "50ms", "--name", "x", "--", "sh", "-c", "echo hello; exit 3")
    assert done.returncode == 3 and done.stderr == ""
    hello, document = done.stdout.splitlines()
    found = json.loads(document)
    assert hello == "hello" and list(found) == KEYS.split()
    assert (found["name"], found["status"], found["signal"], found["interrupted"]) == ("x", 3, None, False)
    assert found["log_lines"] >= found["events"] // 2 > 0 and found["observations"] >= 1
    words = " ".join(run(tmp_path, "record", "--help").stdout.replace("│", " ").split())
    assert "Keys: " + ", ".join(KEYS.split()) in words
    said = run(tmp_path, "record", "--name", "x", "--", "true").stderr
    assert "recorded x-2: " in said and "how long it takes unrecorded is not known" in said


def test_durations() -> None:
    """A number with or without a unit; anything else is refused."""
    assert [parse_duration(text) for text in ("5s", "500ms", "1.5", "2m", ".5s")] == [5.0, 0.5, 1.5, 120.0, 0.5]
    for text in ("", "0", "0s", "-1", "5 s", "s", "1e3", "inf", "nan"):
        with pytest.raises(InputError, match="not a duration"):
            parse_duration(text)


@pytest.mark.usefixtures("served")
def test_log_and_export_give_json(tmp_path: Path) -> None:
    """`log --json` is one document with the rows of --nl; `export --json` says what it wrote."""
    run(tmp_path, "import", SAMPLE, "--name", "s")
    rows = json.loads(run(tmp_path, "log", "s@40", "--json").stdout)
    lines = run(tmp_path, "log", "s@40", "--nl").stdout.splitlines()
    assert rows == [json.loads(line) for line in lines] and len(rows) == 40
    assert list(rows[0]) == ["seq", "mm", "tid", "ts_ns", "call", "cases", "map_count", "certain", "divergence"]
    unknown = run(tmp_path, "log", "s@1", "--mm", "999", "--json")
    assert (unknown.returncode, unknown.stdout) == (2, "") and "999" in unknown.stderr
    assert run(tmp_path, "log", "s@0", "--json").stdout == "[]\n"
    wrote = json.loads(run(tmp_path, "export", "s@40", "-o", "s.jsonl", "--json").stdout)
    assert wrote == {"trace": "s", "format": "jsonl", "output": "s.jsonl", "events": 40, "left_out": {}}
    assert run(tmp_path, "export", "s", "--json").returncode == 2


@pytest.mark.parametrize("verb", ["import", "verify", "replay"])
def test_progress_is_for_a_terminal_only(tmp_path: Path, verb: str) -> None:
    """A terminal sees how many events have passed; a pipe sees nothing of it."""
    run(tmp_path, "import", SAMPLE, "--name", "s")
    words = {"import": [str(SAMPLE)], "verify": ["s"], "replay": ["s", "--summary"]}[verb]
    code = f"from vmastore.cli import progress; progress.FROM = 0; {MAIN}"
    stores = ["--store", "p.db"], ["--store", "t.db"]
    if verb != "import":
        stores = [], []
    piped = run(tmp_path, verb, *words, *stores[0], code=code)
    assert piped.returncode == 0 and "ing " not in piped.stderr
    doing = {"import": "importing ", "verify": "verifying ", "replay": "replaying "}[verb]
    assert doing in _on_terminal(tmp_path, code, verb, *words, *stores[1])


def _on_terminal(folder: Path, code: str, *words: str) -> str:
    """What a terminal shows of a command."""
    master, slave = os.openpty()
    process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=folder, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 1 << 16)
        except OSError:  # nobody has the terminal open any more
            break
        if not part:
            break
        seen += part
    os.close(master)
    assert process.wait() == 0, seen
    return seen.decode()
