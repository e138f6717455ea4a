"""The commands, from the words a user types to what is printed and the exit status."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from behind import behind

from vmastore.store import migrate, open_store

DATA = Path(__file__).parent.parent / "data"
SAMPLE = DATA / "vmafuzz" / "all-6.1.jsonl.gz"
OTHER = DATA / "maprec" / "ls.maprec.jsonl.gz"


class Shell:
    """Runs vmastore in a folder of its own."""

    def __init__(self, folder: Path, place: str = "") -> None:
        self.folder = folder
        self.env = {**os.environ, "COLUMNS": "100"}
        self.env.pop("VMASTORE_STORE", None)
        if "://" in place:
            self.env["VMASTORE_STORE"] = place
        self.before: tuple[str, ...] = ()  # a program that starts the command
        self.code = "from vmastore.cli.main import main; main()"

    def run(self, *words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """One command; nothing is asserted."""
        command = [*self.before, sys.executable, "-c", self.code, *map(str, words)]
        return subprocess.run(command, cwd=self.folder, env=self.env, input=stdin, capture_output=True, text=True)

    def ok(self, *words: str | Path) -> str:
        """The output of a command that must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stored(self) -> object:
        """The whole store: the file's bytes; of a server's, what its tables hold."""
        if "VMASTORE_STORE" not in self.env:
            return (self.folder / "vmastore.db").read_bytes()
        tables = ("event_t", "trace_t", "replay_t", "outcome_t", "vma_t")
        counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
        return self.ok("sql", f"SELECT {counts}, (SELECT count(*) FROM skip_t)")

    def fails(self, *words: str | Path, status: int = 2) -> str:
        """The error of a command that must fail: `Error:` and no traceback."""
        done = self.run(*words)
        assert done.returncode == status, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def shell(tmp_path: Path, place: str) -> Shell:
    return Shell(tmp_path, place)


@pytest.fixture
def filled(shell: Shell) -> Shell:
    """With the sample imported as `sample`."""
    shell.ok("import", SAMPLE, "--name", "sample")
    return shell


def test_version_and_help(shell: Shell) -> None:
    """The version is one line; help names the commands."""
    assert shell.ok("--version") == "vmastore 0.1.0\n"
    text = shell.ok("--help")
    for command in ("import", "replay", "verify", "bisect", "explain", "sql"):
        assert command in text


def test_import_is_idempotent(filled: Shell) -> None:
    """The same file again adds nothing and says so."""
    text = filled.ok("import", SAMPLE, "--name", "sample")
    assert "already imported" in text
    assert len(json.loads(filled.ok("traces", "--json"))) == 1


def test_import_and_export_are_inverse(filled: Shell) -> None:
    """Exported JSON lines import to the same events, hashes included."""
    filled.ok("export", "sample", "-o", "x.vmatrace.jsonl.gz")
    filled.ok("import", "x.vmatrace.jsonl.gz", "--name", "again")
    heads = json.loads(filled.ok("sql", "--json", "SELECT head_hash FROM trace_t"))
    assert len(heads) == 2 and heads[0] == heads[1] and len(heads[0]["head_hash"]) == 32


def test_replay_prints_maps(filled: Shell) -> None:
    """TRACE@N is byte for byte what /proc/PID/maps would show; sums come with --summary."""
    first = filled.ok("replay", "sample@1").splitlines()
    assert all(line[12] == "-" or line[8] == "-" for line in first)
    summary = json.loads(filled.ok("replay", "sample", "--summary", "--json"))
    assert summary["kernel"] == "6.1" and summary["assumed"] == 0 and summary["divergences"] == 0
    rows = json.loads(filled.ok("sql", "SELECT count(*) n, sum(splits) s FROM outcomes", "--json"))
    assert rows == [{"n": summary["events"], "s": summary["splits"]}]
    assert summary["events"] == json.loads(filled.ok("traces", "--json"))[0]["events"]


def test_vmas_at_a_moment_equal_the_replay(filled: Shell) -> None:
    """Lifetimes in the store give the same VMAs as replaying to that event."""
    filled.ok("replay", "sample", "--summary")
    state = json.loads(filled.ok("replay", "sample@200", "--format", "json", "--mm", "1"))
    query = (
        "SELECT vm_start, vm_end, perms FROM vmas WHERE mm = 1 AND born_seq <= 200 "
        "AND (died_seq IS NULL OR died_seq > 200) ORDER BY vm_start"
    )
    rows = json.loads(filled.ok("sql", query, "--json"))
    assert [(v["start"], v["end"], v["perms"]) for v in state["vmas"]] == [tuple(r.values()) for r in rows]


def test_verify_exit_status(filled: Shell) -> None:
    """0 when the replay equals the kernel, 1 when it differs, with the first difference drawn."""
    report = json.loads(filled.ok("verify", SAMPLE, "--json"))
    assert report["mismatches"] == 0 and report["compared"] > 0 and report["first_mismatch"] is None
    assert json.loads(filled.ok("verify", "sample", "--json"))["compared"] == report["compared"]
    done = filled.run("verify", SAMPLE, "--kernel", "6.18")
    assert done.returncode == 1
    assert "first difference: after event" in done.stdout and "kernel:" in done.stdout


def test_verify_json_keys(filled: Shell) -> None:
    """The keys are public."""
    report = json.loads(filled.run("verify", SAMPLE, "--json", "--kernel", "6.18").stdout)
    for key in (
        "events",
        "compared",
        "mismatches",
        "mismatches_assumed",
        "assumed",
        "settled",
        "errno_mismatches",
        "errno_mismatches_assumed",
        "first_mismatch",
    ):
        assert key in report
    assert report["first_mismatch"]["certain"] is True


def test_bisect_finds_the_first_event(filled: Shell) -> None:
    """The event named is the first: before it the predicate does not hold, at it it does."""
    found = json.loads(filled.ok("bisect", "find", "sample", "--when", "map_count > 20", "--json"))
    seq = found["found"]
    assert found["map_count"] > 20
    rows = json.loads(filled.ok("log", f"sample@{seq - 1}", "--nl").join(["[", "]"]).replace("}\n{", "},{"))
    assert all(row["map_count"] <= 20 for row in rows if row["mm"] == 1)
    assert filled.run("bisect", "find", "sample", "--when", "map_count > 100000").returncode == 1


def test_bisect_against_another_kernel(filled: Shell) -> None:
    """The first event whose outcome differs, with both outcomes explained; none against itself."""
    text = filled.ok("bisect", "find", "sample", "--against", "6.18")
    assert "decide differently: sample@" in text and "6.1:" in text and "6.18:" in text
    assert filled.run("bisect", "find", "sample", "--kernel", "6.12", "--against", "6.12").returncode == 1


def test_explain_why_and_lost_merges(filled: Shell) -> None:
    """Decisions are named by function, case and first reason; adjacent VMAs by what keeps them apart."""
    found = json.loads(filled.ok("bisect", "find", "sample", "--when", "splits > 0", "--json"))["found"]
    text = filled.ok("explain", f"sample@{found}")
    assert "split at" in text and "before" in text and "after" in text
    pairs = json.loads(filled.ok("lost-merges", "sample@200", "--pairs", "--mm", "1", "--json"))
    assert pairs
    why = json.loads(filled.ok("why", "sample@200", pairs[0]["boundary"], "--mm", "1", "--json"))
    assert why["reason"] == pairs[0]["reason"]


def test_diff_of_two_points(filled: Shell) -> None:
    """Nothing for a point and itself, lines with - and + otherwise."""
    assert filled.ok("diff", "sample@50", "sample@50", "--mm", "1") == ""
    done = filled.run("diff", "sample@50", "sample@150", "--mm", "1")
    assert done.returncode == 1 and {line[0] for line in done.stdout.splitlines()} <= {"-", "+"}


def test_sql_output_forms(filled: Shell) -> None:
    """Tab-separated in a pipe, CSV, JSON, JSON lines, one value."""
    query = "SELECT call, count(*) AS n FROM events GROUP BY call ORDER BY n DESC LIMIT 2"
    assert filled.ok("sql", query).startswith("call\tn\n")
    assert filled.ok("sql", query, "--csv").startswith("call,n\n")
    rows = json.loads(filled.ok("sql", query, "--json"))
    assert [json.loads(line) for line in filled.ok("sql", query, "--nl").splitlines()] == rows
    assert filled.ok("sql", "SELECT :x + 1", "-p", "x=0x10", "--raw") == "17\n"
    assert "outcomes: One row" in filled.ok("sql", "--schema")


def test_kernels(shell: Shell) -> None:
    """Presets and switches, each with what it means and where it is on."""
    document = json.loads(shell.ok("kernels", "--json"))
    assert set(document["presets"]) == {"6.1", "6.7", "6.8", "6.12", "6.18", "7.3", "series-v1"}
    assert document["switches"]["mseal"]["on_in"] == ["6.12", "6.18", "7.3"]
    assert "anon-merge-source-chain" in shell.ok("kernels")


def test_db_check(filled: Shell) -> None:
    """Sound at first; a changed event is named and the exit status is 1."""
    assert "0 problems" in filled.ok("db", "check")
    behind(
        filled.env.get("VMASTORE_STORE", str(filled.folder / "vmastore.db")),
        "UPDATE event_t SET mm = 9 WHERE seq = 33",
    )
    done = filled.run("db", "check")
    assert done.returncode == 1 and "event 33" in done.stdout
    assert f"store: {migrate.head()}  needed: {migrate.head()}" in filled.ok("db", "current")


@pytest.mark.sqlite("files of older schemas (test_pg_upgrade.py has PostgreSQL's)")
def test_an_older_store_says_so_and_is_upgraded(shell: Shell) -> None:
    """Each command names both schemas and the way out; after it all of them work."""
    place = shell.folder / "vmastore.db"
    place.write_bytes(gzip.decompress((DATA / "stores" / "0001.db.gz").read_bytes()))
    for words in (("traces",), ("db", "check"), ("db", "rebuild"), ("sql", "SELECT 1"), ("import", SAMPLE)):
        error = shell.fails(*words)
        assert "Error: vmastore.db has schema 0001, this vmastore needs" in error
        assert "Hint: run `vmastore db upgrade` (it backs up first)" in error
    assert "store: 0001" in shell.ok("db", "current")
    assert "the old one is vmastore.db.0001.bak" in shell.ok("db", "upgrade")
    assert "already at" in shell.ok("db", "upgrade")
    assert "0 problems" in shell.ok("db", "check")
    assert "no such store" in shell.fails("db", "current", "--store", "missing.db")
    assert not (shell.folder / "missing.db").exists()


def test_rebuild_gives_the_same(filled: Shell) -> None:
    """Derived data dropped and made again is what it was."""
    filled.ok("replay", "sample", "--summary")
    query = "SELECT seq, cases, map_count FROM outcomes ORDER BY seq"
    before = filled.ok("sql", query)
    assert filled.ok("db", "rebuild") == "1 replays made again\n"
    assert filled.ok("sql", query) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("import", "missing.log"), "missing.log"),
        (("import", "/bin/true"), "/bin/true"),
        (("import", "."), "directory"),
        (("traces", "--store", "nowhere/x.db"), "nowhere"),
        pytest.param(("traces",), "no such store", marks=pytest.mark.sqlite("a file that is not there")),
        (("traces", "--store", "/bin/true"), "/bin/true"),
        (("verify", "missing/dir"), "missing/dir"),
        (("sql",), "no query"),
        (("kernels", "9.9"), "9.9"),
    ],
)
def test_bad_input_is_one_error(shell: Shell, words: tuple[str, ...], says: str) -> None:
    """One `Error:` line that names the thing, exit status 2."""
    error = shell.fails(*words)
    assert error.startswith("Error: ") and says in error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("replay", "nope"), "no trace 'nope'"),
        (("replay", "sample@x"), "follows @"),
        (("replay", "sample@99999999"), "has events 1 to"),
        (("replay", "sample", "--format", "xml"), "--format"),
        (("replay", "sample@1", "--mm", "77"), "no address space 77"),
        (("replay", "sample", "--kernel", "5"), "5"),
        (("replay", "sample", "--rule", "nothing=on"), "nothing"),
        (("replay", "sample", "--rule", "mseal"), "NAME=on"),
        (("bisect", "find", "sample"), "--when"),
        (("bisect", "find", "sample", "--when", "map_count >"), "ends too early"),
        (("bisect", "find", "sample", "--when", "foo > 1"), "foo"),
        (("why", "sample@5", "zzz"), "zzz"),
        (("why", "sample@5", "0x10"), "no two VMAs meet"),
        (("show", "sample@0"), "no event 0"),
        (("sql", "SELECT nothing FROM events"), "nothing"),
        (("sql", "DELETE FROM trace_t"), "refused: "),
        (("export", "sample", "--to", "pdf"), "pdf"),
        (("export", "sample", "--mm", "0"), "--mm says nothing about --to jsonl"),
        (("export", "sample", "--to", "strace", "--kernel", "6.1"), "--kernel says nothing about --to strace"),
        (("export", "sample", "--to", "c", "--against", "6.1"), "--against says nothing about --to c"),
        (("history", "sample", "0x1ffffffffffffffff"), "is not an address"),
    ],
)
def test_bad_words_are_one_error(filled: Shell, words: tuple[str, ...], says: str) -> None:
    """One `Error:` line that names the thing, exit status 2, the store unchanged."""
    before = filled.stored()
    error = filled.fails(*words)
    assert error.startswith("Error: ") and says in error
    assert filled.stored() == before


def test_a_truncated_recording_names_the_line(shell: Shell, tmp_path: Path) -> None:
    """What a damaged file still holds is kept, and the line that it breaks in is a counted skip."""
    whole = gzip.decompress(SAMPLE.read_bytes())
    (tmp_path / "cut.jsonl").write_bytes(whole[: len(whole) // 2])
    entry = json.loads(shell.ok("import", tmp_path / "cut.jsonl", "--json"))[0]
    assert entry["events"] > 0
    assert [(s["reason"], s["count"]) for s in entry["skipped"]] == [("truncated", 1)]
    assert "cut.jsonl:" in shell.fails("import", tmp_path / "cut.jsonl", "--strict", "--name", "x", "--store", "y.db")


@pytest.fixture
def unwritable(filled: Shell) -> Iterator[Shell]:
    """A store of mode 444 in a folder of mode 555; root has no capabilities there."""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and setpriv is not there to take that away")
        filled.before = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    (filled.folder / "vmastore.db").chmod(0o444)
    filled.folder.chmod(0o555)
    yield filled
    filled.folder.chmod(0o755)


@pytest.mark.sqlite("files and folders")
def test_a_store_that_may_not_be_written_is_one_error(unwritable: Shell) -> None:
    """A write to a read-only store names it and leaves it as it was: for root too, once it has no capabilities."""
    place = unwritable.folder / "vmastore.db"
    before = place.read_bytes()
    error = unwritable.fails("import", OTHER, "--name", "other")
    assert error.startswith("Error: ") and "vmastore.db" in error
    assert place.read_bytes() == before


@pytest.mark.sqlite("files and folders")
def test_a_store_that_may_not_be_written_can_be_read(unwritable: Shell) -> None:
    """Every command that only reads answers, and so does a replay, whose outcomes are not kept."""
    assert json.loads(unwritable.ok("traces", "--json"))[0]["name"] == "sample"
    assert int(unwritable.ok("sql", "SELECT count(*) FROM events", "--raw")) > 100
    assert unwritable.ok("replay", "sample@20") and unwritable.ok("log", "sample", "-n", "1")
    done = unwritable.run("replay", "sample", "--summary")
    assert done.returncode == 0 and "assumed outcomes" in done.stdout and "cannot be written" in done.stderr
    assert unwritable.ok("sql", "SELECT count(*) FROM outcomes", "--raw") == "0\n"
    assert "0 mismatches" in unwritable.ok("verify", "sample") and "0 problems" in unwritable.ok("db", "check")
    assert [path.name for path in unwritable.folder.iterdir()] == ["vmastore.db"]


def test_a_locked_store_is_one_error(filled: Shell) -> None:
    """A write while another program writes is given up after a wait; nothing is lost, and readers read on."""
    short = "from vmastore.store import engine, postgresql; engine.BUSY_SECONDS = postgresql.BUSY_SECONDS = 0.1; "
    filled.code = short + filled.code
    place = filled.env.get("VMASTORE_STORE", str(filled.folder / "vmastore.db"))
    before = filled.stored()
    with open_store(place) as other, other._write():
        error = filled.fails("import", OTHER, "--name", "other")
        assert error.startswith("Error: ") and place.rpartition("/")[2] in error and "lock" in error
        assert "another program is writing" in error
        assert len(json.loads(filled.ok("traces", "--json"))) == 1
    assert filled.stored() == before
    filled.ok("import", OTHER, "--name", "other")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nope",), "nope"),
        (("replay",), "target"),
        (("log", "x", "--last", "many"), "--last"),
        (("sql", "-f", "latin.sql"), "latin.sql: byte 0"),
    ],
)
def test_bad_usage_is_one_error_line(shell: Shell, words: tuple[str, ...], says: str) -> None:
    """What the parser, a file's bytes or a driver refuses is one `Error:` line too, before any hint."""
    (shell.folder / "latin.sql").write_bytes(b"\xff\xfe")
    lines = shell.fails(*words).splitlines()
    assert lines[0].startswith("Error: ") and says in lines[0]
    assert len(lines) <= 2


@pytest.mark.sqlite("files")
def test_the_store_can_be_named_before_the_command(filled: Shell) -> None:
    """--store before the command holds for it; the command's own comes first."""
    assert filled.ok("--store", "vmastore.db", "traces") == filled.ok("traces")
    assert "no such store" in filled.fails("--store", "none.db", "traces")
    assert filled.ok("--store", "none.db", "traces", "--store", "vmastore.db") == filled.ok("traces")


ATTACH = DATA / "attach"


def test_import_with_observations_beside_the_log(shell: Shell) -> None:
    """--maps makes a log of `strace -p` exact; the same log with the same maps is one trace, with others another."""
    words = ["import", ATTACH / "attach.log", "--maps", ATTACH / "start.smaps"]
    shell.ok(*words, "--maps", f"{ATTACH / 'end.maps'}@20", "--name", "a")
    assert "0 mismatches, 0 at assumed outcomes, 0 of errno" in shell.ok("verify", "a", "--kernel", "6.18")
    assert "already imported" in shell.ok(*words, "--maps", f"{ATTACH / 'end.maps'}@20")
    assert "already imported" not in shell.ok(*words)
    assert "already imported" not in shell.ok("import", ATTACH / "attach.log")
    assert "Hint: Write" in shell.fails("import", ATTACH / "attach.log", "--maps", f"{ATTACH / 'end.maps'}@x")
    assert "nowhere" in shell.fails("import", ATTACH / "attach.log", "--exec", "/nowhere")
    assert "belong to a strace log" in shell.fails("import", SAMPLE, "--maps", ATTACH / "start.smaps")
    assert len(json.loads(shell.ok("traces", "--json"))) == 3


def test_the_files_of_a_family_are_one_trace(shell: Shell) -> None:
    """strace -ff: by NAME, by folder or one by one, the same; imported once."""
    family = DATA / "strace" / "ff"
    assert "already" not in shell.ok("import", family)
    for words in ([family / "log"], sorted(family.iterdir())):
        assert "already imported" in shell.ok("import", *words)


def test_import_with_faults_recorded_beside_the_log(shell: Shell) -> None:
    """--faults-from: the trace says that it shows its faults; a bad offset or a second log is one error."""
    log, faults = DATA / "faults" / "perf-mono.log", DATA / "faults" / "perf-mono.txt"
    done = json.loads(shell.ok("import", log, "--faults-from", f"{faults}@1795508705.616400", "--json"))
    assert (done[0]["faults"], done[0]["imported"]) == ("recorded", True)
    assert "no number of seconds" in shell.fails("import", log, "--faults-from", f"{faults}@soon")
    assert "several are named" in shell.fails("import", log, log, "--faults-from", faults)
    assert "one file" in shell.fails("import", DATA / "strace" / "ff", "--faults-from", faults)


def test_export_to_strace_and_back(shell: Shell) -> None:
    """strace → store → strace → store: the same calls; what is no line of strace's is said."""
    shell.ok("import", DATA / "strace" / "threads.log", "--name", "a")
    shell.ok("export", "a", "--to", "strace", "-o", "a.log")
    shell.ok("import", "a.log", "--name", "b")
    rows = [
        shell.ok("sql", f"SELECT tid, mm, ts_ns, call, args, result, errno, file FROM events WHERE trace = {n}")
        for n in (1, 2)
    ]
    assert rows[0] == rows[1] and rows[0].count("\n") > 50
    shell.ok("import", ATTACH / "attach.log", "--maps", ATTACH / "start.smaps", "--name", "c")
    done = shell.run("export", "c", "--to", "strace")
    assert "no line for these events: 1 maps, 1 note" in done.stderr and "madvise(" in done.stdout


def test_follow_reads_a_log_to_the_end_of_its_processes(shell: Shell) -> None:
    """--follow ends when every process of the log has; the file is then known like any other."""
    log = DATA / "strace" / "threads.log"
    assert json.loads(shell.ok("import", log, "--follow", "--json"))[0]["imported"] is True
    assert "already imported" in shell.ok("import", log)
    assert "one strace log" in shell.fails("import", log, log, "--follow")
    assert "one strace log" in shell.fails("import", log, "--follow", "--maps", log)
    assert json.loads(shell.ok("import", log, "--follow", "--no-exec", "--name", "bare", "--json"))[0]["imported"]
    assert json.loads(shell.ok("import", log, "--no-exec", "--json"))[0]["name"] == "bare"
    assert "nowhere" in shell.fails("import", log, "--follow", "--exec", "/nowhere")
    assert "nowhere" in shell.fails("import", "nowhere", "--follow")
