"""Recording real programs, and replaying what was recorded."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmastore.errors import RecordError
from vmastore.events.types import Event
from vmastore.mm.rules import resolve
from vmastore.recorder import Progress, Recording, attach, proc, record
from vmastore.replay.verify import Report, Verifier
from vmastore.replay.world import World


def _strace_works() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-qo", os.devnull, "true"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _strace_works(), reason="strace is not installed, or may not trace here")
PROGRAMS = Path(__file__).parent.parent / "data" / "programs"
SHELL = shutil.which("sh") or "/bin/sh"


def build(tmp_path: Path, name: str) -> str:
    """The path of a compiled program of tests/data/programs; the test is skipped where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, program = PROGRAMS / f"{name}.c", tmp_path / name
    subprocess.run([compiler, "-O1", "-pthread", "-o", str(program), str(source)], check=True)
    return str(program)


def verify(recording: Recording) -> tuple[list[Event], Report]:
    """The events, gap-free, and what replaying them comes to."""
    trace = recording.trace
    events = list(trace.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    header = trace.header
    assert header.format == "record" and header.release == os.uname().release and header.config["max_map_count"]
    world = World(header, lambda: trace.files, resolve(os.uname().release, os.uname().version))
    return events, Verifier(world).run(events)


def kinds(events: list[Event]) -> list[tuple[int, str]]:
    """(mm, kind) of each observation."""
    return [(event.mm, event.args[0]) for event in events if event.call == "maps"]


def test_a_simple_program_is_exact_at_its_exit() -> None:
    """One address space from exec to exit, 0 differences, the program's own status, nothing left behind."""
    recording = record([SHELL, "-c", "exit 5"], name="five")
    events, report = verify(recording)
    assert (recording.status, recording.signal, recording.interrupted) == (5, None, False)
    assert kinds(events) == [(1, "baseline"), (1, "check")]
    assert (events[0].call, events[0].mm, events[1].call) == ("execve", 0, "maps")
    assert (report.compared, report.mismatches, report.errno_mismatches) == (1, 0, 0)
    assert recording.trace.header.source == f"{SHELL} -c 'exit 5'" and recording.trace.header.name == "five"
    assert recording.cost.observations == 2 and recording.cost.lines >= len(events) // 2


def test_every_process_of_a_tree_is_observed_at_exec_and_exit() -> None:
    """A shell that forks and execs three programs: four execs, four exits, 0 differences."""
    recording = record([SHELL, "-c", "ls / >&2; ls / >&2; ls / >&2"], name="shell")
    events, report = verify(recording)
    execs = [event for event in events if event.call == "execve" and not event.errno]
    assert len(execs) == 4
    assert sorted(kind for _, kind in kinds(events)) == ["baseline"] * 4 + ["check"] * 4
    assert report.mismatches == report.errno_mismatches == 0
    assert not [event for event in events if event.call == "note"]


def test_threads_that_race_are_put_in_the_kernels_order(tmp_path: Path) -> None:
    """Three threads change one address space without pause; it is exact at checks on the way and at exit."""
    recording = record([build(tmp_path, "race"), "3", "300"], name="race", check_every_s=0.1)
    locks = recording.trace.ordered
    events, report = verify(recording)
    assert recording.status == 3 and len({event.tid for event in events}) == 4
    assert report.compared >= 2
    if not locks:
        pytest.skip("perf may not record here who gets the lock, so the order is not known")
    assert recording.trace.header.faults == "recorded"
    assert (report.mismatches, report.mismatches_assumed, report.errno_mismatches) == (0, 0, 0), report


def test_the_faults_explain_what_is_written() -> None:
    """Whatever smaps shows to be written at exit has an anon_vma in the replay."""
    recording = record([sys.executable, "-c", "import json; x = [bytearray(50000) for _ in range(50)]"], name="py")
    trace = recording.trace
    if trace.header.faults != "recorded":
        pytest.skip(f"page faults may not be recorded here: {trace.header.note}")
    events = list(trace.events())
    world = World(trace.header, lambda: trace.files, resolve(os.uname().release, os.uname().version))
    seen = 0
    for event in events:
        if event.call == "maps" and event.args[0] == "check":
            for start, _, perms, *_, written in event.args[3]:
                vma = world.mms[event.mm].vma_lookup(start)
                if perms.endswith("p") and written:
                    seen += 1
                    assert vma is not None and vma.anon_vma is not None, hex(start)
        world.apply(event)
    assert seen > 5
    assert {event.args[4] for event in events if event.call == "fault"} <= {"user", "kernel"}


def test_without_faults_the_trace_says_so() -> None:
    """faults=False: the header tells that none were recorded."""
    recording = record([SHELL, "-c", ":"], name="none", faults=False)
    events, report = verify(recording)
    assert recording.trace.header.faults == "none" and "not recorded" in str(recording.trace.header.note)
    assert not [event for event in events if event.call == "fault"] and report.mismatches == 0


def test_a_death_by_signal_is_the_programs_status_and_noted() -> None:
    """128 + N, the signal's name, and a note that this address space was not seen at its end."""
    recording = record([SHELL, "-c", "kill -TERM $$"], name="killed")
    events, _ = verify(recording)
    assert (recording.status, recording.signal) == (128 + signal.SIGTERM, "SIGTERM")
    assert kinds(events) == [(1, "baseline")]
    assert events[-1].args[0] == "no-final-observation"
    assert "without being observed" in str(recording.trace.header.note)


def test_progress_is_told_and_signals_go_to_the_program() -> None:
    """A request to stop is passed on; what was seen is kept."""
    seen: list[Progress] = []

    def out(progress: Progress) -> None:
        if progress.observations > 4 and not any(before.observations > 4 for before in seen):
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(progress)

    recording = record([SHELL, "-c", "trap 'exit 9' INT; while :; do sleep 0.1; done"], name="int", out=out)
    events, report = verify(recording)
    assert recording.interrupted and recording.status == 9
    assert report.mismatches == 0 and (events[0].call, events[0].errno) == ("execve", 0)
    assert seen[-1].seconds > 0 and seen[-1].lines > 0


def test_a_program_that_will_not_end_is_made_to() -> None:
    """The second request is a SIGTERM to all of them, the third a SIGKILL."""
    stops = 0

    def out(progress: Progress) -> None:
        nonlocal stops
        if progress.observations and stops < 3:
            stops += 1
            os.kill(os.getpid(), signal.SIGTERM)

    program = "import signal, time\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    begin = time.monotonic()
    recording = record([sys.executable, "-c", program], name="stubborn", out=out)
    verify(recording)
    assert (recording.signal, recording.interrupted) == ("SIGKILL", True)
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    ("argv", "message"),
    [([], "no command"), (["no-such-command-anywhere"], "no such command"), (["/"], "cannot be executed")],
    ids=["nothing", "unknown", "folder"],
)
def test_what_cannot_be_recorded_is_one_error(argv: list[str], message: str, tmp_path: Path) -> None:
    """The error names it, and no folder stays behind."""
    with pytest.raises(RecordError, match=message):
        record(argv, name="x", spool_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_program_is_an_error_or_its_status(tmp_path: Path) -> None:
    """An executable file in no format that the kernel knows is run by a shell, as execvp does."""
    script = tmp_path / "script"
    script.write_text("exit 4\n")
    script.chmod(0o755)
    recording = record([str(script)], name="script")
    events, report = verify(recording)
    assert recording.status == 4 and report.mismatches == 0
    assert events[0].errno and not next(e for e in events if e.call == "execve" and e.args[0] == "/bin/sh").errno


def _target(program: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def test_a_running_process_is_attached_to_and_let_go_again() -> None:
    """A baseline at attach, checks on the way, one at the end, all exact; the process goes on."""
    process = _target(
        "import time, mmap\nprint('ready', flush=True)\n"
        "while True:\n  m = mmap.mmap(-1, 1 << 20); m[0] = 1; time.sleep(0.01); m.close(); b'x' * 300000"
    )
    resource.prlimit(
        process.pid, resource.RLIMIT_STACK, (5 << 20, resource.prlimit(process.pid, resource.RLIMIT_STACK)[1])
    )
    try:
        recording = attach(process.pid, name="running", duration_s=0.5, check_every_s=0.2)
        events, report = verify(recording)
        assert kinds(events)[0] == (1, "baseline") and len(kinds(events)) >= 3
        assert report.mismatches == report.errno_mismatches == 0
        assert {"mmap", "munmap"} <= {event.call for event in events}
        assert recording.status == 0 and process.poll() is None
        soft = resource.prlimit(process.pid, resource.RLIMIT_STACK)[0]
        assert (
            recording.trace.header.config["rlimits"]["STACK"] == soft != resource.getrlimit(resource.RLIMIT_STACK)[0]
        )
        assert proc.tracer_of(process.pid) == 0
    finally:
        process.kill()
        process.wait()


def test_attaching_ends_with_the_process_or_on_request() -> None:
    """When the process exits by itself its end is observed; SIGINT detaches."""
    for asked in (False, True):
        process = _target("import sys\nprint('ready', flush=True)\nsys.stdin.readline()")

        def end(progress: Progress, process: subprocess.Popen[bytes] = process, asked: bool = asked) -> None:
            if progress.observations == 1 and asked:
                os.kill(os.getpid(), signal.SIGINT)
            elif progress.observations == 1 and process.stdin is not None:
                process.stdin.close()

        try:
            recording = attach(process.pid, name="ends", out=end)
            events, report = verify(recording)
            assert kinds(events)[-1] == (1, "check") and report.mismatches == 0
            assert recording.interrupted == asked and (process.poll() is None) == asked
        finally:
            process.kill()
            process.wait()


def test_what_cannot_be_attached_to_is_one_error() -> None:
    """No such process, or one that is traced already."""
    with pytest.raises(RecordError, match="no process"):
        attach(1 << 22, name="x")
    tracer = subprocess.Popen(["strace", "-o", os.devnull, "sleep", "60"])
    try:
        end = time.monotonic() + 5
        while not (traced := proc.traced_by(tracer.pid)) and time.monotonic() < end:
            time.sleep(0.01)
        with pytest.raises(RecordError, match="traced by process"):
            attach(traced[0], name="x")
    finally:
        os.kill(traced[0], signal.SIGKILL)
        tracer.wait()
