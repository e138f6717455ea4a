"""Recording straight into a store."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmastore.errors import RecordError
from vmastore.mm.rules import resolve
from vmastore.recorder import Live, of_command, proc
from vmastore.recorder.perf import tells_writes
from vmastore.recorder.strace import Hold
from vmastore.recorder.trace import UNFINISHED
from vmastore.replay.verify import Verifier
from vmastore.replay.world import World
from vmastore.store import open_store


def _strace_works() -> bool:
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-qo", os.devnull, "true"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _strace_works(), reason="strace is not installed, or may not trace here")
HOLD = Hold(50_000, 200_000)
TOLD = tells_writes()
MAPS = """
import mmap, sys
for _ in range(int(sys.argv[1])):
    m = mmap.mmap(-1, 65536, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); m[0] = 1; m.close()
"""


def _no_note(note: str | None) -> bool:
    """Nothing went wrong: where there are no tracepoints, it says that alone."""
    return note is None if TOLD else str(note).startswith("page faults without a difference") and ";" not in str(note)


def _used(folder: Path) -> int:
    """Bytes of disk that the files in a folder take."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_dir())


def test_what_waits_on_disk_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """While four times as many calls are recorded the temporary folder holds no more: a pipe, and nothing else."""
    peaks, counts = [], []
    for calls in (500, 2_000):
        peak = events = 0
        argv = [sys.executable, "-c", MAPS, str(calls)]
        with Live(of_command(argv, name="maps", hold=HOLD, spool_dir=str(tmp_path))) as live:
            for batch in live.batches():
                peak, events = max(peak, _used(tmp_path)), events + len(batch)
            assert live.result.status == 0 and _no_note(live.trace.header.note)
        peaks.append(peak)
        counts.append(events)
        assert list(tmp_path.iterdir()) == []
    assert counts[1] - counts[0] >= 2 * 1_500 and peaks[0] == peaks[1] == 0


def test_a_program_is_exact_when_stored_on_the_way(tmp_path: Path) -> None:
    """0 differences, the program's status and standard streams, a trace that is complete."""
    argv = ["sh", "-c", "ls / >/dev/null; cat >&2; exit 3"]
    with open_store(tmp_path / "s.db") as store, Live(of_command(argv, name="sh", hold=HOLD)) as live:
        assert UNFINISHED in str(live.trace.header.note)
        info = store.import_batches(store.create_trace(live.trace.header), live.trace, live.batches())
        assert live.result.status == 3 and info.complete and info.events > 100
        assert _no_note(info.header.note)
        events, files = list(store.events(info.trace)), store.files(info.trace)
        assert sorted(files) == list(range(1, len(live.trace.files) + 1)), "all are stored, though let go of"
        assert all(info.path for info in files.values() if info.origin == "open")
        world = World(info.header, lambda: [files[n] for n in sorted(files)], resolve(os.uname().release))
        report = Verifier(world).run(events)
    assert report.compared >= 2 and report.mismatches == report.errno_mismatches == 0


STOPPED_EARLY = """
import os, signal, subprocess, sys
from vmastore.recorder import Live, of_command, stream
plan, real = of_command(["sleep", "60"], name="x"), subprocess.Popen
def interrupted(*words, **options):
    process = real(*words, **options)
    process.send_signal(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    return process
stream.subprocess.Popen = interrupted
with Live(plan) as live:
    calls = [event.call for batch in live.batches() for event in batch]
print(live.result.interrupted, live.result.signal, calls.count("signal"))
"""


def test_a_stop_that_comes_while_it_starts_ends_in_order() -> None:
    """Ctrl-C on a terminal reaches both processes, the one that records while it still imports: none is killed."""
    done = subprocess.run([sys.executable, "-c", STOPPED_EARLY], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True SIGINT 1\n", "")


def test_what_cannot_be_started_is_one_error() -> None:
    """strace's failure, and a recording that was killed, are RecordErrors."""
    plan = of_command(["true"], name="x")
    broken = plan._replace(job=plan.job._replace(target=["--", "/nonexistent"]))
    with pytest.raises(RecordError, match="not started"), Live(broken) as live:
        assert not any(live.batches())
        _ = live.result
    nowhere = of_command(["true"], name="x", spool_dir="/no")
    with pytest.raises(RecordError, match="temporary folder"), Live(nowhere) as live:
        list(live.batches())


def test_a_folder_of_the_packages_name_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording works wherever one stands, also where modules lie that are called as ours."""
    for name in ("vmastore", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with Live(of_command(["sh", "-c", "exit 4"], name="x", hold=HOLD)) as live:
        assert sum(map(len, live.batches())) > 10 and live.result.status == 4


def test_leaving_early_ends_the_program(tmp_path: Path) -> None:
    """Whoever does not want the rest leaves no process behind."""
    ready = tmp_path / "ready"
    argv = ["sh", "-c", f"echo $$ >{ready}; while :; do ls / >/dev/null; done"]
    with Live(of_command(argv, name="loop", hold=HOLD)) as live:
        for _ in live.batches():
            if ready.exists() and ready.read_text().endswith("\n"):
                break
    assert proc.state_of(int(ready.read_text())) == ""


def test_a_record_that_is_killed_leaves_whole_batches(tmp_path: Path) -> None:
    """After SIGKILL the store holds a part that replays, marked as not complete; the program is ended."""
    code = "from vmastore.cli.main import main; main()"
    words = ["record", "--name", "k", "--hold", "200ms", "--", sys.executable, "-c", MAPS, "1000000000"]
    command = subprocess.Popen([sys.executable, "-c", code, *words], cwd=tmp_path)
    place = tmp_path / "vmastore.db"
    try:
        stored = 0
        while stored < 1_000:
            assert command.poll() is None
            time.sleep(0.05)
            if place.exists():
                with open_store(place) as store:
                    stored = sum(info.events for info in store.traces())
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait()
    while _running("1000000000"):
        time.sleep(0.05)
    with open_store(place) as store:
        (info,) = store.traces()
        assert not info.complete and UNFINISHED in str(info.header.note) and info.events >= stored
        events, files = list(store.events(info.trace)), store.files(info.trace)
    assert [event.seq for event in events] == list(range(1, info.events + 1))
    report = Verifier(World(info.header, lambda: list(files.values()), resolve(os.uname().release))).run(events)
    assert report.mismatches == report.errno_mismatches == 0


def _running(word: str) -> bool:
    """Whether some process has this argument."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    return True
    return False
