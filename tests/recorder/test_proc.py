"""Reading /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from vmastore.errors import RecordError
from vmastore.importers.maps_file import read_process
from vmastore.recorder import proc


@pytest.fixture
def sleeper():  # type: ignore[no-untyped-def]
    """A process that does nothing."""
    process = subprocess.Popen(["sleep", "60"])
    assert proc.wait_state(process.pid, "S", 60)
    yield process
    process.kill()
    process.wait()


def test_a_snapshot_is_what_the_maps_reader_reads(sleeper: subprocess.Popen[bytes]) -> None:
    """The lines that are kept of smaps tell the same as all of it."""
    vmas = proc.snapshot(sleeper.pid)
    assert vmas == read_process(sleeper.pid)
    assert any(vma.name == "[stack]" and vma.written for vma in vmas)
    assert all(vma.vm_flags for vma in vmas)


def test_a_process_that_is_gone_is_an_error_that_says_so() -> None:
    """No such process, or one without an address space, raises RecordError; states and times are empty."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie
    assert proc.state_of(process.pid) == ""
    with pytest.raises(RecordError, match=str(process.pid)):
        proc.snapshot(process.pid)
    process.wait()
    with pytest.raises(RecordError, match="does not exist"):
        proc.snapshot(process.pid)
    assert (proc.leader_of(process.pid), proc.threads_of(process.pid), proc.cpu_ticks(process.pid)) == (0, [], 0)
    assert (proc.tracer_of(process.pid), proc.start_brk_of(process.pid), proc.syscall_of(process.pid)) == (0, 0, None)


def test_states_threads_and_calls(sleeper: subprocess.Popen[bytes]) -> None:
    """A sleeping process sleeps in its call; a stopped one is stopped; threads have a leader."""
    assert proc.state_of(sleeper.pid) == "S"
    doing = proc.syscall_of(sleeper.pid)
    assert doing is not None and doing[0] > 0 and len(doing[1]) == 6
    sleeper.send_signal(19)
    assert proc.wait_state(sleeper.pid, proc.STOPPED, 60)
    assert not proc.wait_state(sleeper.pid, "R", 0.01)
    ready, done = threading.Event(), threading.Event()
    tids: list[int] = []

    def wait() -> None:
        tids.append(threading.get_native_id())
        ready.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    assert proc.leader_of(tids[0]) == os.getpid() and tids[0] in proc.threads_of(os.getpid())
    done.set()
    thread.join()


def test_the_time_a_thread_computes() -> None:
    """It grows with what the thread does, and is 0 for one that is not there."""
    pid, tid = os.getpid(), threading.get_native_id()
    before = proc.user_ticks(pid, tid)
    while proc.user_ticks(pid, tid) == before:
        sum(range(100_000))
    assert proc.user_ticks(pid, tid) > before and proc.user_ticks(pid, 1 << 22) == 0


def test_where_the_heap_begins(sleeper: subprocess.Popen[bytes]) -> None:
    """start_brk lies in the first page of the heap, where there is one."""
    heap = [vma for vma in proc.snapshot(sleeper.pid) if vma.name == "[heap]"]
    assert heap and heap[0].start <= proc.start_brk_of(sleeper.pid) < heap[0].end


def test_only_what_a_process_traces_is_its_tracees() -> None:
    """Nobody is traced by this test."""
    assert proc.traced_by(os.getpid()) == [] and proc.tracer_of(os.getpid()) in (0, *proc.threads_of(os.getppid()))


def test_a_process_that_never_holds_still_is_said_to_be_so() -> None:
    """An address space that changes during each reading gives an error, or a list that was steady."""
    program = "import mmap\nwhile True:\n  [mmap.mmap(-1, 4096 * n, prot=1 + n % 2 * 2) for n in range(1, 400)]"
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        for _ in range(20):
            raw = proc.read_raw(process.pid)
            assert raw is not None and raw.text
            if raw.steady:
                assert proc.parse_raw(raw.text, "x")
    finally:
        process.kill()
        process.wait()


def test_a_fork_has_not_executed_a_program_until_it_does() -> None:
    """What a process inherits through a fork is gone when it executes a program."""
    code = "import os, sys\nif os.fork(): os.wait()\nelse: print(os.getpid(), flush=True); sys.stdin.read(1)\n"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        fork = int(process.stdout.readline())
        assert proc.has_executed(process.pid) and not proc.has_executed(fork)
        process.stdin.close()
    assert not proc.has_executed(1 << 22)
