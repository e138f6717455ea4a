"""Recording real programs, and replaying what was recorded."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmastore.errors import RecordError
from vmastore.events.types import Event
from vmastore.mm.rules import resolve
from vmastore.recorder import Progress, Recording, attach, proc, record, session
from vmastore.recorder.strace import Hold
from vmastore.replay.verify import Verifier
from vmastore.replay.verify_report import Report
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


def whole(make: Callable[[Hold], Recording]) -> Recording:
    """A recording in which every hold lasted until its observation was made; else again, with longer ones."""
    hold = Hold()
    for _ in range(10):
        recording = make(hold)
        if not recording.cost.missed and not recording.cost.late:
            break
        recording.trace.close()
        hold = Hold(2 * hold.exec_us, 2 * hold.exit_us)
    return recording


def kinds(events: list[Event]) -> list[tuple[int, str]]:
    """(mm, kind) of each observation."""
    return [(event.mm, event.args[0]) for event in events if event.call == "maps"]


def test_a_simple_program_is_exact_at_its_exit() -> None:
    """One address space from exec to exit, 0 differences, the program's own status, nothing left behind."""
    recording = whole(lambda hold: record([SHELL, "-c", "exit 5"], name="five", hold=hold))
    events, report = verify(recording)
    assert (recording.status, recording.signal, recording.interrupted) == (5, None, False)
    assert kinds(events) == [(1, "baseline"), (1, "check")]
    assert (events[0].call, events[0].mm, events[1].call) == ("execve", 0, "maps")
    assert (report.compared, report.mismatches, report.errno_mismatches) == (1, 0, 0)
    assert recording.trace.header.source == f"{SHELL} -c 'exit 5'" and recording.trace.header.name == "five"
    assert recording.cost.observations == 2 and recording.cost.lines >= len(events) // 2


def test_every_process_of_a_tree_is_observed_at_exec_and_exit() -> None:
    """A shell that forks and execs three programs: four execs, four exits, 0 differences."""
    argv = [SHELL, "-c", "ls / >&2; ls / >&2; ls / >&2"]
    recording = whole(lambda hold: record(argv, name="shell", hold=hold))
    events, report = verify(recording)
    execs = [event for event in events if event.call == "execve" and not event.errno]
    assert len(execs) == 4
    assert sorted(kind for _, kind in kinds(events)) == ["baseline"] * 4 + ["check"] * 4
    assert report.mismatches == report.errno_mismatches == 0
    assert not [event for event in events if event.call == "note"]


def test_an_exec_is_seen_however_short_it_is_held() -> None:
    """The kernel stops strace before it can let go of a new program: none is late, each baseline stands first."""
    argv = [SHELL, "-c", "for i in 1 2 3 4; do ls / >/dev/null & ls / >/dev/null; done; wait"]
    recording = record(argv, name="shell", hold=Hold(1, 200_000))
    if not recording.trace.ordered:
        pytest.skip("tracepoints may not be used here")
    assert recording.cost.late == 0
    events, report = verify(recording)
    execs = [event.args[2] for event in events if event.call == "execve" and not event.errno]
    assert len(execs) == 9
    for mm in execs:
        first = next(event for event in events if event.mm == mm and event.call != "fault")
        assert (first.call, first.args[0]) == ("maps", "baseline")
    assert report.mismatches == report.errno_mismatches == 0


def test_threads_that_race_are_put_in_the_kernels_order(tmp_path: Path) -> None:
    """Three threads change one address space without pause; it is exact at checks on the way and at exit."""
    fifo, program = tmp_path / "fifo", build(tmp_path, "race")
    os.mkfifo(fifo)

    def make(hold: Hold) -> Recording:
        inlet = os.open(fifo, os.O_RDWR)  # the program goes on until this is closed

        def out(progress: Progress) -> None:
            nonlocal inlet
            if progress.observations >= 6 and inlet >= 0:
                os.close(inlet)
                inlet = -1

        argv = [SHELL, "-c", 'exec "$0" 3 <"$1"', program, str(fifo)]
        return record(argv, name="race", check_every_s=0.05, out=out, hold=hold)

    recording = whole(make)
    locks = recording.trace.ordered
    events, report = verify(recording)
    assert recording.status == 3 and len({event.tid for event in events}) == 4
    assert report.compared >= 5
    if not locks:
        pytest.skip("perf may not record here who gets the lock, so the order is not known")
    assert recording.trace.header.faults == "recorded"
    assert (report.mismatches, report.mismatches_assumed, report.errno_mismatches) == (0, 0, 0), report


def test_the_faults_explain_what_is_written() -> None:
    """Whatever smaps shows to be written at exit has an anon_vma in the replay."""
    argv = [sys.executable, "-c", "import json; x = [bytearray(50000) for _ in range(50)]"]
    recording = whole(lambda hold: record(argv, name="py", hold=hold))
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
    recording = whole(lambda hold: record([SHELL, "-c", ":"], name="none", faults=False, hold=hold))
    events, report = verify(recording)
    assert recording.trace.header.faults == "none" and "not recorded" in str(recording.trace.header.note)
    assert not [event for event in events if event.call == "fault"] and report.mismatches == 0


def test_a_death_by_signal_is_the_programs_status_and_noted() -> None:
    """128 + N, the signal's name, and a note that this address space was not seen at its end."""
    recording = whole(lambda hold: record([SHELL, "-c", "kill -TERM $$"], name="killed", hold=hold))
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


def test_a_program_that_will_not_end_is_made_to(tmp_path: Path) -> None:
    """The second request is a SIGTERM to all of them, the third a SIGKILL."""
    stops, ready = 0, tmp_path / "ready"

    def out(progress: Progress) -> None:
        nonlocal stops
        if ready.exists() and stops < 3:
            stops += 1
            os.kill(os.getpid(), signal.SIGTERM)

    program = (
        "import pathlib, signal, sys\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\n"
        "pathlib.Path(sys.argv[1]).touch()\nwhile True: signal.pause()"
    )
    recording = record([sys.executable, "-c", program, str(ready)], name="stubborn", out=out)
    verify(recording)
    assert (stops, recording.signal, recording.interrupted) == (3, "SIGKILL", True)


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
    recording = whole(lambda hold: record([str(script)], name="script", hold=hold))
    events, report = verify(recording)
    assert recording.status == 4 and report.mismatches == 0
    assert events[0].errno and not next(e for e in events if e.call == "execve" and e.args[0] == "/bin/sh").errno


def _target(program: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


@pytest.fixture
def mapper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that maps and unmaps for ever."""
    process = _target(
        "import time, mmap\nprint('ready', flush=True)\n"
        "while True:\n  m = mmap.mmap(-1, 1 << 20); m[0] = 1; time.sleep(0.01); m.close(); b'x' * 300000"
    )
    resource.prlimit(
        process.pid, resource.RLIMIT_STACK, (5 << 20, resource.prlimit(process.pid, resource.RLIMIT_STACK)[1])
    )
    yield process
    process.kill()
    process.wait()


def test_what_one_process_writes_into_another_is_in_the_trace(tmp_path: Path) -> None:
    """process_vm_writev takes no page fault in either process; without it the child's merge would be another."""
    recording = whole(lambda hold: record([build(tmp_path, "remote")], name="remote", hold=hold))
    assert recording.status == 0
    events, report = verify(recording)
    written = [event.args[:2] for event in events if event.call == "fault" and event.args[4] == "gup"]
    assert written == [(0x100000001000, 2 * 4096), (0x100000008000, 4096)]
    assert (report.compared, report.mismatches, report.mismatches_assumed) == (2, 0, 0)


def test_mseal_is_recorded_whatever_strace_knows(tmp_path: Path) -> None:
    """An strace without a name for it traces it too, so the replay knows what the seal forbids."""
    recording = whole(lambda hold: record([build(tmp_path, "sealed")], name="sealed", hold=hold))
    if recording.status == 9:
        pytest.skip("this kernel has no mseal")
    events, report = verify(recording)
    assert [event.args[1:] for event in events if event.call == "mseal"] == [(4096, 0)]
    assert (report.compared, report.mismatches, report.errno_mismatches) == (1, 0, 0), report


def test_a_running_process_is_attached_to_and_let_go_again(mapper: subprocess.Popen[bytes]) -> None:
    """A baseline at attach, checks on the way, one at the end, all exact; the process goes on."""
    lines = 0

    def out(progress: Progress) -> None:
        nonlocal lines
        lines = lines or progress.lines * (progress.observations > 0)
        if progress.observations > 3 and progress.lines > lines + 20:
            os.kill(os.getpid(), signal.SIGINT)
            lines = 1 << 30

    recording = attach(mapper.pid, name="running", out=out, check_every_s=0.1)
    events, report = verify(recording)
    assert kinds(events)[0] == (1, "baseline") and len(kinds(events)) >= 4
    assert report.mismatches == report.errno_mismatches == 0
    assert {"mmap", "munmap"} <= {event.call for event in events}
    assert recording.status == 0 and mapper.poll() is None
    assert proc.tracer_of(mapper.pid) == 0
    soft = resource.prlimit(mapper.pid, resource.RLIMIT_STACK)[0]
    assert recording.trace.header.config["rlimits"]["STACK"] == soft != resource.getrlimit(resource.RLIMIT_STACK)[0]


CHURN = """
import mmap, threading
def work():
    with mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[0] = 1
def makers():
    while True:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
for _ in range(3):
    threading.Thread(target=makers, daemon=True).start()
print('ready', flush=True)
input()
"""


def test_a_process_that_makes_threads_meanwhile_has_one_address_space() -> None:
    """However the threads that begin and end while it is attached to are met with."""
    process = _target(CHURN)
    try:
        recording = attach(process.pid, name="churn", duration_s=0.3)
        events, report = verify(recording)
        assert {event.mm for event in events} == {1} and {event.pid for event in events} == {process.pid}
        assert report.mismatches == report.errno_mismatches == 0 and process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_thread_that_waits_for_its_vforks_child_is_let_go_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """strace cannot stop it, and would wait for it for ever: the child opens a FIFO that nobody writes to."""
    monkeypatch.setattr(session, "_ABANDON_S", 0.5)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = _target(
        "import os\nprint('ready', flush=True)\n"
        f"actions = [(os.POSIX_SPAWN_OPEN, 0, {str(fifo)!r}, os.O_RDONLY, 0)]\n"
        "os.posix_spawn('/bin/true', ['true'], {}, file_actions=actions)\n"
    )
    try:
        assert proc.wait_state(process.pid, "D", 10)
        recording = attach(process.pid, name="vfork", duration_s=0.0)
        assert "maps" in {event.call for event in recording.trace.events()}
        assert proc.tracer_of(process.pid) == 0 and process.poll() is None
        with fifo.open("wb"):
            pass
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()


def test_a_duration_counts_from_the_first_observation(mapper: subprocess.Popen[bytes]) -> None:
    """However short it is, there is a baseline and a check when it is over."""
    recording = attach(mapper.pid, name="short", duration_s=0.0)
    events, report = verify(recording)
    assert kinds(events) == [(1, "baseline"), (1, "check")] and report.mismatches == 0
    assert mapper.poll() is None and not recording.interrupted


@pytest.mark.parametrize("asked", [False, True], ids=["exit", "request"])
def test_attaching_ends_with_the_process_or_on_request(asked: bool) -> None:
    """When the process exits by itself its end is observed; SIGINT detaches."""
    started: list[subprocess.Popen[bytes]] = []

    def make(hold: Hold) -> Recording:
        process = _target("import sys\nprint('ready', flush=True)\nsys.stdin.readline()")
        started.append(process)
        done = False

        def end(progress: Progress) -> None:
            nonlocal done
            if progress.observations and not done:
                done = True
                if asked:
                    os.kill(os.getpid(), signal.SIGINT)
                elif process.stdin is not None:
                    process.stdin.close()

        return attach(process.pid, name="ends", out=end, hold=hold)

    try:
        recording = whole(make)
        events, report = verify(recording)
        assert kinds(events)[-1] == (1, "check") and report.mismatches == 0
        assert recording.interrupted == asked and (started[-1].poll() is None) == asked
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_what_cannot_be_attached_to_is_one_error() -> None:
    """No such process, or one that is traced already."""
    with pytest.raises(RecordError, match="no process"):
        attach(1 << 22, name="x")
    program = "import os; print(os.getpid(), flush=True); input()"
    command = ["strace", "-o", os.devnull, sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdin is not None and tracer.stdout is not None
        traced = int(tracer.stdout.readline())
        with pytest.raises(RecordError, match="traced by process"):
            attach(traced, name="x")
        tracer.stdin.write("\n")
    assert tracer.returncode == 0
