"""Why a process cannot be attached to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmastore.errors import RecordError
from vmastore.recorder import attach, proc, refusal

LEADERLESS = """
import ctypes, threading, sys
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).syscall(60, 0)
"""
NOBODY = "import os; os.setgid(65534); os.setuid(65534)\n"  # not before all has been imported: it may lie in /root
PR_SET_DUMPABLE = 4


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program that goes on until its input ends."""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_a_process_that_has_ended_is_named_so() -> None:
    """A zombie: strace would say no more than that the operation is not permitted."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(RecordError, match=rf"{process.pid} has ended; its parent {os.getpid()} .*zombie"):
        attach(process.pid, name="x")
    process.wait()
    assert refusal.likely(process.pid) == refusal.Refusal(
        f"process {process.pid} ended before it could be attached to"
    )


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of exit is x86-64's")
def test_a_process_whose_first_thread_has_ended() -> None:
    """Its threads run, and no thread of it can be taken for the process either."""
    with child(LEADERLESS) as process:
        while proc.state_of(process.pid):
            pass
        why = refusal.certain(process.pid)
        assert why is not None and "first thread" in why.message and "1 other" in str(why.hint)
        other = refusal.certain(proc.threads_of(process.pid)[-1])
        assert other is not None and other.message.endswith(f"is a thread of process {process.pid}")


def test_a_thread_of_the_kernel() -> None:
    """kthreadd is one, where this namespace of processes shows it."""
    if not Path("/proc/2/comm").exists() or Path("/proc/2/comm").read_text() != "kthreadd\n":
        pytest.skip("no kthreadd here")
    why = refusal.certain(2)
    assert why is not None and "thread of the kernel" in why.message


def test_an_ordinary_process_has_nothing_against_it() -> None:
    """Neither before strace is asked, nor in what could be said of a failure of ours."""
    with child("input()") as process:
        assert refusal.certain(process.pid) is None


@pytest.mark.parametrize("what", ["user", "dumpable", "yama"])
def test_rights_that_are_missing(what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without CAP_SYS_PTRACE: another user's process, one that may not be dumped, one that Yama guards."""
    ids = f"{os.getuid()} {os.getuid()} {os.getuid()} 0", f"{os.getgid()} {os.getgid()} {os.getgid()} 0"
    theirs = {"Uid": "4001 4001 4001 4001" if what == "user" else ids[0], "Gid": ids[1]}
    monkeypatch.setattr(refusal, "_status", lambda pid: {"CapEff": "0"} if pid == "self" else theirs)
    (tmp_path / "scope").write_text("1\n" if what == "yama" else "0\n")
    monkeypatch.setattr(refusal, "_YAMA", tmp_path / "scope")
    says = {"user": "user 4001, not as you", "dumpable": "may not be dumped", "yama": "ptrace_scope is 1: only"}
    monkeypatch.setattr(refusal, "_owner", lambda pid: os.getuid() + (what == "dumpable"))
    with child("input()") as process:
        why = refusal.likely(process.pid)
        assert why is not None and says[what] in why.message and why.hint


def _asked_by_nobody(pid: int) -> str:
    """What is said to an ordinary user."""
    code = f"import sys; sys.path[:] = {sys.path!r}\nfrom vmastore.recorder import refusal\n"
    code += f"{NOBODY}print(refusal.likely({pid}).message)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_what_a_user_may_not_attach_to() -> None:
    """A process of root's: the reason names whose it is."""
    with child("input()") as process:
        assert _asked_by_nobody(process.pid) == f"process {process.pid} runs as root, not as you"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_process_that_may_not_be_dumped() -> None:
    """prctl(PR_SET_DUMPABLE, 0) gives its files in /proc to root: seen by its own user."""
    code = f"import ctypes\n{NOBODY}ctypes.CDLL(None).prctl({PR_SET_DUMPABLE}, 0); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
        said = _asked_by_nobody(process.pid)
        process.communicate(b"\n")
    assert "may not be dumped" in said
