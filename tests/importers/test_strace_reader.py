"""Whole logs: the corpus of strace 4.10 to 7.2, families, standard input, and what is no log."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from vmastore.errors import InputError
from vmastore.events import Event
from vmastore.importers.strace import StraceReader
from vmastore.importers.vmafuzz import VmafuzzReader

DATA = Path(__file__).parents[1] / "data" / "strace"
CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
LOGS = sorted((CORPUS / "strace-logs").glob("*.expected.json"))

CLONE_VM, CLONE_VFORK = 0x100, 0x4000
FORKS = {"fork", "vfork", "clone", "clone3"}
NUMBERED = {"syscall_0x1ce": "mseal", "syscall_0x1c5": "map_shadow_stack"}
# strace's memory class and what the expectations count with it
_MEMORY = """
    brk mmap mmap2 munmap mremap mprotect pkey_mprotect madvise process_madvise mlock mlock2 munlock mlockall
    munlockall msync mincore remap_file_pages mbind get_mempolicy set_mempolicy set_mempolicy_home_node migrate_pages
    move_pages shmat shmdt map_shadow_stack mseal pkey_alloc pkey_free userfaultfd
"""
MEMORY = set(_MEMORY.split())
# Where an expectation is not the log's truth: log -> what differs, with the lines that show it. A test below holds
# each to its evidence.
#   d34: strace 5.10 prints set_mempolicy_home_node (450) by number; the expectation, which counts it by name in the
#        logs of the same program (d01: 1, failed 1), counts syscall_0x1c5 and syscall_0x1ce here and not this one.
#   d54: five calls stand behind the tracee's text on one line. The expectation counts only lines that begin with a
#        call and names these as recoverable. Its 20th munmap is the tracee's own text (named as forged there), which
#        is a valid line: it is an event of ours, too.
#   d10: line 392, cut in two by a note, is a clone3 with CLONE_VM|CLONE_VFORK; its child is among the forked pairs.
BEYOND = {
    "d34_v510.log": {(17024, "set_mempolicy_home_node"): (1, 1)},
    "d54_glued_stderr.log": {(0, "mmap"): (5, 0)},
}
MADE_BY_VFORK = {"d10_fork_stderr.log": (6074, 6097)}
EVIDENCE = [
    ("d34_v510", 108, r"17024 1795486603\.007361 syscall_0x1c2\(0x7f7d5918a000, 0x4000, 0, 0, 0, 0\) = -1 ENOENT"),
    *(
        ("d54_glued_stderr", 1400 + 2 * n, rf"progress {20 * n}%mmap\(NULL, 1048576, .* = 0x7f36a36ed000$")
        for n in range(5)
    ),
    ("d54_glued_stderr", 1411, r"munmap\(0x1000, 4096\) = 0$"),
    ("d10_fork_stderr", 392, r"clone3\(\{flags=CLONE_VM\|CLONE_VFORK, .*, 88strace: Process 6097 attached$"),
    ("d10_fork_stderr", 393, r" <unfinished \.\.\.>$"),
    ("d10_fork_stderr", 395, r"\[pid  6074\] <\.\.\. clone3 resumed>\)       = 6097$"),
]
Counts = dict[int, Counter[str]]


def _read(path: str | Path) -> tuple[StraceReader, list[Event]]:
    reader = StraceReader([path])
    events = list(reader.events())
    account = reader.importer.account
    assert account.unaccounted == 0
    assert account.lines == account.recorded + account.halves + account.frames + account.skipped_lines
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return reader, events


def _expected(counts: dict[str, dict[str, int]], main: int) -> Counts:
    table: Counts = defaultdict(Counter)
    for tid, calls in counts.items():
        for call, count in calls.items():
            table[main if tid == "main" else int(tid)][NUMBERED.get(call, call)] += count
    return table


def _memory(pairs: list[tuple[int, str, int]]) -> Counts:
    table: Counts = defaultdict(Counter)
    for tid, call, count in pairs:
        if call in MEMORY and count:
            table[tid][call] += count
    return table


def _shared_groups(events: list[Event]) -> set[frozenset[int]]:
    """Threads that CLONE_VM without CLONE_VFORK ties together."""
    group: dict[int, set[int]] = {}
    for event in events:
        made = event.result if event.call in FORKS and event.args[0] is not None else None
        if made and event.args[0] & (CLONE_VM | CLONE_VFORK) == CLONE_VM:
            both = group.setdefault(event.tid, {event.tid}) | group.setdefault(made, {made})
            group.update(dict.fromkeys(both, both))
    return {frozenset(tids) for tids in group.values()}


@pytest.mark.skipif(not LOGS, reason="the corpus of strace logs is not here")
@pytest.mark.parametrize("path", LOGS, ids=[path.name.partition(".")[0] for path in LOGS])
def test_a_log_of_the_corpus_comes_out_exactly(path: Path) -> None:
    """Completed, failed, never resumed and unknown calls per thread, and the groups that share an mm, as derived
    independently of us."""
    facts: dict[str, Any] = json.loads(path.read_text())
    log = path.parent / facts["log"]
    reader, events = _read(log / "log" if log.is_dir() else log)
    main = int(facts["unprefixed_lines_are_pid"] or 0)
    completed = _expected(facts["memory_completed_by_pid"], main)
    failed = _expected(facts["memory_failed_by_pid"], main)
    for (tid, call), (more, more_failed) in BEYOND.get(facts["log"], {}).items():
        completed[tid][call] += more
        failed[tid][call] += more_failed
    failed = {tid: +calls for tid, calls in failed.items() if +calls}
    assert _memory([(event.tid, event.call, 1) for event in events]) == completed
    assert _memory([(event.tid, event.call, int(event.errno > 0)) for event in events]) == failed
    for reason, key in (("never-resumed", "memory_never_resumed_by_pid"), ("no-result", "memory_noresult_by_pid")):
        skips = [(skip.tid or 0, skip.call or "", skip.count) for skip in reader.skips() if skip.reason == reason]
        assert _memory(skips) == _expected(facts[key], main)
    assert not [skip for skip in reader.skips() if skip.reason == "unparsed"]
    if facts["mm_shared_groups"] is not None:
        assert _shared_groups(events) == {frozenset(map(int, tids)) for tids in facts["mm_shared_groups"]}


@pytest.mark.skipif(not LOGS, reason="the corpus of strace logs is not here")
@pytest.mark.parametrize("path", LOGS, ids=[path.name.partition(".")[0] for path in LOGS])
def test_forks_find_their_children(path: Path) -> None:
    """Each fork and vfork of the log made the child that the expectation names, on the right mm."""
    facts: dict[str, Any] = json.loads(path.read_text())
    log = path.parent / facts["log"]
    _, events = _read(log / "log" if log.is_dir() else log)
    vforks = {tuple(map(int, pair)) for pair in facts["vfork_pairs"]}
    forks = {tuple(map(int, pair)) for pair in facts["forked_pairs"]}
    wrong = MADE_BY_VFORK.get(facts["log"])
    if wrong:
        forks.remove(wrong)
        vforks.add(wrong)
    made = [event for event in events if event.call in FORKS and event.result and event.args[0] is not None]
    assert {(e.tid, e.result) for e in made if e.args[0] & CLONE_VFORK} == vforks
    assert {(e.tid, e.result) for e in made if not e.args[0] & CLONE_VM} == forks
    first = {}
    for event in events:
        first.setdefault(event.tid, event)
    for event in made:
        child = first.get(event.result or 0)
        if child is not None and child.seq > event.seq:
            assert child.mm == event.args[1]
        assert (event.args[1] == event.mm) == bool(event.args[0] & CLONE_VM)


@pytest.mark.skipif(not LOGS, reason="the corpus of strace logs is not here")
def test_the_exceptions_are_what_the_logs_say() -> None:
    """What we count beside an expectation stands in the log; the expectations name two of the three themselves."""
    folder = LOGS[0].parent
    for log, number, shown in EVIDENCE:
        line = (folder / f"{log}.log").read_text().splitlines()[number - 1]
        assert re.match(shown, line), (log, number, line)
    glued: dict[str, Any] = json.loads((folder / "d54_glued_stderr.expected.json").read_text())
    assert (glued["also_recoverable"], glued["forged_by_tracee"]) == ({"mmap": 5}, {"munmap": 1})
    same: dict[str, Any] = json.loads((folder / "d01_basic_plain.expected.json").read_text())
    assert same["memory_totals"]["set_mempolicy_home_node"] == {"completed": 1, "failed": 1}


RECORDINGS = sorted((CORPUS / "fuzz").glob("*/strace/*.strace.gz"))
MARKER, TOUCH = 0x564D4146, 17


def _operations(events: list[Event]) -> list[Event | tuple[int, dict[int, str]]]:
    """The call behind each marker; for a touch, its address and the signals it raised."""
    operations: list[Event | tuple[int, dict[int, str]]] = []
    marked: set[int] = set()
    for event in events:
        if event.call == "prctl" and event.args[0] == MARKER:
            if event.args[2] == TOUCH:
                operations.append((event.args[3], {}))
            else:
                marked.add(event.tid)
        elif event.call == "signal" and event.args[0] in (7, 11):
            touch = operations[-1]
            assert isinstance(touch, tuple) and not isinstance(touch, Event)
            touch[1][(event.args[2] - touch[0]) >> 12] = "B" if event.args[0] == 7 else "S"
        elif event.tid in marked:
            marked.remove(event.tid)
            operations.append(event)
    return operations


def _comparable(event: Event, other: Event) -> tuple[Any, ...]:
    """What both a log and a recording show of a call."""
    args = list(event.args)
    if event.call in FORKS:
        return event.call, event.errno
    if event.call == "mremap" and other.args[3] & 3 != 3:
        args[4] = 0  # printed only with MREMAP_MAYMOVE|MREMAP_FIXED
    if event.call == "prctl":
        args[4] = None
    return event.call, tuple(args), event.result, event.errno, event.file is None


@pytest.mark.skipif(not RECORDINGS, reason="the fuzz recordings are not here")
@pytest.mark.parametrize("kernel", sorted({path.parts[-3] for path in RECORDINGS}))
def test_logs_equal_the_recordings_of_the_same_operations(kernel: str) -> None:
    """Calls, arguments, results and order of a log are those of the like-named recording; touches too."""
    for path in [path for path in RECORDINGS if path.parts[-3] == kernel]:
        recording = path.parents[1] / path.name.replace(".strace.gz", ".jsonl.gz")
        wanted = [e for e in VmafuzzReader(str(recording)).events() if e.call not in ("maps", "exit", "release")]
        _, events = _read(path)
        operations = _operations(events)
        assert len(operations) == len(wanted)
        files: dict[int | None, int | None] = {}
        for got, want in zip(operations, wanted, strict=True):
            if not isinstance(got, Event):
                address, raised = got
                outcome = "".join(raised.get(page, ".") for page in range(len(want.args[3])))
                assert (want.call, want.args[0], want.args[3]) == ("fault", address, outcome)
                continue
            assert _comparable(got, want) == _comparable(want, want)
            if got.call == "mmap":
                assert files.setdefault(got.file, want.file) == want.file
        assert len(set(files.values())) == len(files)


PROGRAMS = sorted((CORPUS / "programs").glob("*.strace.gz"))


@pytest.mark.skipif(not PROGRAMS, reason="the recorded programs are not here")
@pytest.mark.parametrize("path", PROGRAMS, ids=[path.name.partition(".")[0] for path in PROGRAMS])
def test_logs_of_real_programs_leave_nothing_out(path: Path) -> None:
    """Every line is an event but for calls that never return, and every thread's maker is known."""
    reader, events = _read(path)
    assert {skip.reason for skip in reader.skips()} <= {"no-result"}
    assert {skip.call for skip in reader.skips()} <= {"exit", "exit_group", "wait4"}
    made = {event.result for event in events if event.call in FORKS}
    assert len({event.tid for event in events} - made) == 1
    assert all(event.mm for event in events if event.call != "execve")


def test_a_family_is_one_trace(tmp_path: Path) -> None:
    """strace -ff: by folder, by NAME or by its files, the same events in the order of time."""
    by_folder = _read(DATA / "ff")[1]
    assert by_folder == _read(DATA / "ff" / "log")[1]
    assert by_folder == list(StraceReader(sorted((DATA / "ff").iterdir())).events())
    assert {event.mm for event in by_folder} == {0, 1}
    assert [event.call for event in by_folder if event.call in FORKS] == ["clone3", "clone3"]
    assert all(event.site for event in by_folder if event.call in MEMORY)
    starts = [event.tid for event in by_folder]
    for event in by_folder:
        if event.call in FORKS:
            assert starts.index(event.result) >= event.seq
    shutil.copy(DATA / "ff" / "log.23190", tmp_path / "log.7")
    (tmp_path / "log.6").write_text("")
    _, events = _read(tmp_path / "log")
    assert {event.tid for event in events} == {7}


def test_a_family_without_times_keeps_cause_and_effect(tmp_path: Path) -> None:
    """A thread's lines follow the call that made it; a parent's wait4 follows the child's end. The header says
    that the rest is a guess."""
    (tmp_path / "log.60").write_text("fork() = 61\nwait4(-1, NULL, 0, NULL) = 61\nbrk(NULL) = 0x1000\n")
    (tmp_path / "log.61").write_text(
        "munmap(0x1000, 1) = 0\nfork() = 62\nmunmap(0x1000, 2) = 0\n+++ exited with 0 +++\n"
    )
    (tmp_path / "log.62").write_text("munmap(0x1000, 3) = 0\n")
    reader, events = _read(tmp_path / "log")
    order = [(event.tid, event.call) for event in events]
    assert order.index((60, "wait4")) > order.index((61, "exit"))
    assert order.index((62, "munmap")) > order.index((61, "fork"))
    assert {event.tid: event.mm for event in events} == {60: 1, 61: 2, 62: 3}
    assert "guess" in (reader.header.note or "")


def test_a_family_that_waits_for_what_is_not_there_is_read_to_its_end(tmp_path: Path) -> None:
    """Two files that wait for each other's end, and a thread whose maker's line is lost: no line is lost with it."""
    (tmp_path / "log.60").write_text("wait4(61, NULL, 0, NULL) = 61\n")
    (tmp_path / "log.61").write_text("wait4(60, NULL, 0, NULL) = 60\nfork() = 61\n")
    _, events = _read(tmp_path / "log")
    assert len(events) == 3


def test_a_log_on_stderr_has_one_process_for_its_bare_lines() -> None:
    """The first process's pid, printed only while there are others, is that of the first lines too."""
    _, events = _read(DATA / "stderr.log")
    assert len({event.tid for event in events}) == 4 and 0 not in {event.tid for event in events}
    execs = [event for event in events if event.call == "execve"]
    assert execs[0].tid == execs[-1].tid and execs[0].mm == 0


def test_standard_input_equals_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` gives the events of the file, also where the first process must be found first."""
    for name in ("sh.log", "stderr.log"):
        stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress((DATA / name).read_bytes()))))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert _read("-")[1] == _read(DATA / name)[1]


def test_runs_in_several_files_follow_each_other() -> None:
    """Logs that are no family are one trace after the other."""
    reader = StraceReader([DATA / "sh.log", DATA / "threads.log"], name="both")
    events = list(reader.events())
    assert len(events) == len(_read(DATA / "sh.log")[1]) + len(_read(DATA / "threads.log")[1])
    assert reader.header.name == "both" and reader.header.source.endswith("threads.log")


def test_the_pieces_of_a_pipeline_have_their_descriptors() -> None:
    """sh -c 'ls / | wc': forks, a pipe, dup2, execs; every mapping of a file names one with a path."""
    reader, events = _read(DATA / "sh.log")
    mapped = [event for event in events if event.call == "mmap" and event.args[4] >= 0]
    assert mapped
    for event in mapped:
        info = reader.files[(event.file or 0) - 1]
        assert (info.origin, info.kind) == ("open", "regular") and (info.path or "").startswith("/")
    assert reader.header.note is None


BAD = {
    "missing": (None, "No such file"),
    "empty": (b"", "is empty"),
    "binary": (b"\x7fELF\x02", "ELF"),
    "zeros": (b"execve(\0", "byte 7 is 0"),
    "foreign": (b"Nov 24 08:25:01 host sshd[1]: session opened\n" * 5, "line 1 is not a line of strace's"),
    "table": (
        b"hello\nx(y\nstrace: Process 7 attached\n% time     seconds  usecs/call     calls    errors syscall\n"
        b"------ ----------- ----------- --------- --------- ----------------\n"
        b"100.00    0.138913          27      5139       614 total\n",
        "x.log: line 4 is the table of strace -c ('% time     seconds  usecs/call     calls    errors syscall')",
    ),
    "short-table": (b"syscall  calls\n------- ------\ntotal       29\n", "line 1 is the table of strace -c"),
    "damaged": (gzip.compress(b"5 brk(NULL) = 0x1000\n" * 9999)[:-30], "cannot be read past byte"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_what_is_no_log_is_one_error(tmp_path: Path, data: bytes | None, message: str) -> None:
    """A file that cannot be a log is an InputError that names it."""
    path = tmp_path / "x.log"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=r"x\.log") as error:
        list(StraceReader([path]).events())
    assert message in error.value.message
    with pytest.raises(InputError):
        StraceReader([])
