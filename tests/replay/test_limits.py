"""Resource limits follow the process: prlimit64 and setrlimit, fork, vfork, exec."""

from __future__ import annotations

from typing import Any

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.world import World

P = 4096
STACK, MEMLOCK, AS = 3, 8, 9
INFINITY = (1 << 64) - 1
SIGCHLD, VM, THREAD = 17, 0x100, 0x10000


class Trace:
    """A world and events for it, mm by mm and process by process."""

    def __init__(self, **limits: int) -> None:
        header = TraceHeader("t", "t", "jsonl", config={"rlimits": limits, "privileged": False})
        self.world = World(header, [], preset("6.12"))
        self.seq = 0

    def __call__(
        self, call: str, *args: Any, mm: int = 1, pid: int = 1, tid: int = 0, result: int | None = 0, errno: int = 0
    ) -> Any:
        self.seq += 1
        return self.world.apply(Event(self.seq, mm, pid, tid or pid, None, call, args, result, errno))

    def limits(self, mm: int = 1) -> dict[str, int]:
        return self.world.mm(mm).rlimits


@pytest.mark.parametrize("call, head", [("prlimit64", (0,)), ("prlimit64", (1,)), ("setrlimit", ())])
def test_a_new_soft_limit_counts_from_then_on(call: str, head: tuple[int, ...]) -> None:
    """Bytes, -1 for none; asking only, failing, or another resource change nothing."""
    t = Trace(AS=1 << 40)
    t(call, *head, MEMLOCK, 8 * P, INFINITY)
    assert t.limits() == {"AS": 1 << 40, "MEMLOCK": 8 * P}
    t(call, *head, AS, INFINITY, INFINITY)
    t(call, *head, MEMLOCK, None, None)
    t(call, *head, MEMLOCK, P, P, result=None, errno=1)
    t(call, *head, 7, 1024, 1024)
    assert t.limits() == {"AS": -1, "MEMLOCK": 8 * P}
    assert t.world.env.config.rlimits == {"AS": 1 << 40}


def test_the_limit_decides_what_is_predicted() -> None:
    """An mmap that fits under RLIMIT_AS before the call, and not after it."""
    t = Trace()
    a = 0x10000000
    assert t("mmap", a, 4 * P, 3, 0x32, -1, 0, result=None).errno == 0
    t("setrlimit", AS, 6 * P, INFINITY)
    assert t("mmap", a + 8 * P, 2 * P, 3, 0x32, -1, 0, result=None).errno == 0
    assert t("mmap", a + 16 * P, P, 3, 0x32, -1, 0, result=None).errno == 12
    t("setrlimit", AS, 7 * P, INFINITY)
    assert t("mmap", a + 16 * P, P, 3, 0x32, -1, 0, result=None).errno == 0


def test_fork_copies_and_exec_keeps_them() -> None:
    """After a fork each process has its own; exec lays the new image out by the limits of its process."""
    t = Trace(STACK=8 << 20)
    t("fork", SIGCHLD, 2, result=7)
    t("setrlimit", STACK, 64 << 20, INFINITY, mm=2, pid=7)
    assert t.limits(1) == {"STACK": 8 << 20} and t.limits(2) == {"STACK": 64 << 20}
    assert t.world.mm(2).exec_rlimits == {"STACK": 8 << 20}
    t("execve", "/bin/x", None, 3, mm=2, pid=7)
    assert t.limits(3) == t.world.mm(3).exec_rlimits == {"STACK": 64 << 20}


@pytest.mark.parametrize("call, flags", [("vfork", VM | 0x4000 | SIGCHLD), ("clone", VM | 0x4000 | SIGCHLD)])
def test_a_guest_changes_its_own_only(call: str, flags: int) -> None:
    """Between vfork and exec the child runs in its parent's address space, with limits of its own."""
    t = Trace(STACK=8 << 20)
    t(call, flags, 1, result=7)
    t("prlimit64", 0, STACK, 1 << 20, INFINITY, mm=1, pid=7)
    assert t.limits(1) == {"STACK": 8 << 20}
    t("execve", "/bin/x", None, 2, mm=1, pid=7)
    assert t.limits(1) == {"STACK": 8 << 20} and t.limits(2) == {"STACK": 1 << 20}
    t("prlimit64", 7, STACK, 2 << 20, INFINITY, mm=1, pid=1)
    assert t.limits(1) == {"STACK": 8 << 20} and t.limits(2) == {"STACK": 2 << 20}


def test_a_thread_is_no_guest() -> None:
    """Threads share the process's limits."""
    t = Trace(STACK=8 << 20)
    t("clone", VM | THREAD, 1, result=8)
    t("setrlimit", STACK, 1 << 20, INFINITY, pid=1, tid=8)
    assert t.limits(1) == {"STACK": 1 << 20}


def test_an_unknown_process_is_left_alone() -> None:
    """prlimit64 of a process that the trace does not know changes nobody's limits."""
    t = Trace(STACK=8 << 20)
    t("prlimit64", 99, STACK, 1 << 20, INFINITY)
    assert t.limits(1) == {"STACK": 8 << 20}
