"""Threads, processes and address spaces, as fork, vfork, exec and exit change them."""

from __future__ import annotations

from typing import Any

import pytest

from vmastore.events import Event
from vmastore.importers.strace import StraceImporter


def _read(text: str, **options: Any) -> tuple[StraceImporter, list[Event]]:
    importer = StraceImporter(name="t", source="t", **options)
    events = importer.feed_batch(text.encode().splitlines()) + importer.finish()
    assert importer.account.unaccounted == 0
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return importer, events


def _life(events: list[Event]) -> list[tuple[Any, ...]]:
    """(call, tid, pid, mm, args) of everything but signals."""
    return [(e.call, e.tid, e.pid, e.mm, e.args) for e in events]


START = '60 execve("/bin/a", ["a"], 0x7f /* 1 var */) = 0\n'
UNMAP = "munmap(0x1000, 4096) = 0\n"
THREAD = "clone(child_stack=0x7f, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD|CLONE_SIGHAND, parent_tid=[61]) = 61\n"


def test_the_first_exec_starts_an_address_space_from_nothing() -> None:
    """strace's own fork before the first exec is not part of the trace: mm 0 is left behind."""
    _, events = _read(
        '60 execve("/x/a", ["a"], 0x7f) = -1 ENOENT (No such file or directory)\n' + START + "60 " + UNMAP
    )
    assert _life(events) == [
        ("execve", 60, 60, 0, ("/x/a", ["a"], None)),
        ("execve", 60, 60, 0, ("/bin/a", ["a"], 1)),
        ("munmap", 60, 60, 1, (0x1000, 4096)),
    ]


def test_a_thread_shares_its_process_and_address_space() -> None:
    """CLONE_VM|CLONE_THREAD: same pid, same mm, and the mm goes with the last thread."""
    _, events = _read(f"{START}60 {THREAD}61 {UNMAP}61 +++ exited with 0 +++\n60 {UNMAP}60 +++ exited with 3 +++\n")
    assert _life(events)[1:] == [
        ("clone", 60, 60, 1, (0x10D00, 1)),
        ("munmap", 61, 60, 1, (0x1000, 4096)),
        ("exit", 61, 60, 1, (0, None, 0)),
        ("munmap", 60, 60, 1, (0x1000, 4096)),
        ("exit", 60, 60, 1, (3, None, 1)),
    ]


def test_fork_copies_and_a_failed_fork_does_not() -> None:
    """fork gives the child an mm of its own; the event's result is the child."""
    _, events = _read(
        f"{START}60 fork() = -1 EAGAIN (Resource temporarily unavailable)\n60 fork() = 61\n61 {UNMAP}"
        "61 +++ killed by SIGSEGV (core dumped) +++\n"
    )
    assert _life(events)[1:] == [
        ("fork", 60, 60, 1, (17, None)),
        ("fork", 60, 60, 1, (17, 2)),
        ("munmap", 61, 61, 2, (0x1000, 4096)),
        ("exit", 61, 61, 2, (None, 11, 1)),
    ]
    assert [event.result for event in events[1:3]] == [None, 61]


def test_the_copy_is_made_before_the_childs_first_call() -> None:
    """A child seen before its parent's fork returns: the fork's event stands before the child's, once."""
    importer, events = _read(f"{START}60 fork( <unfinished ...>\n61 {UNMAP}60 <... fork resumed>) = 61\n60 {UNMAP}")
    assert [(event.call, event.tid, event.mm) for event in events[1:]] == [
        ("fork", 60, 1),
        ("munmap", 61, 2),
        ("munmap", 60, 1),
    ]
    assert events[1].result == 61 and events[1].source_line == 2
    assert importer.skips() == []


def test_forks_in_flight_at_the_same_time_find_their_own_children() -> None:
    """Which of several forks made a child is told by the fork's return, which comes later."""
    _, events = _read(
        f"{START}60 fork() = 61\n61 fork( <unfinished ...>\n60 fork( <unfinished ...>\n"
        f"71 {UNMAP}70 {UNMAP}60 <... fork resumed>) = 71\n61 <... fork resumed>) = 70\n"
    )
    forks = {event.result: (event.tid, event.mm, event.args[1]) for event in events if event.call == "fork"}
    assert forks == {61: (60, 1, 2), 71: (60, 1, 3), 70: (61, 2, 4)}
    assert [(event.tid, event.mm) for event in events if event.call == "munmap"] == [(71, 3), (70, 4)]


def test_flags_that_only_the_exit_half_shows() -> None:
    """strace before 5.0 prints a clone's arguments at its return; the child is known to share before."""
    _, events = _read(
        f"{START}60 clone( <unfinished ...>\n61 {UNMAP}"
        "60 <... clone resumed> child_stack=0x7f, flags=CLONE_VM|SIGCHLD) = 61\n"
    )
    assert [(event.call, event.mm) for event in events[1:]] == [("clone", 1), ("munmap", 1)]
    assert events[1].args == (0x111, 1)


def test_a_live_log_waits_for_nothing() -> None:
    """While recording, the child's first event comes with its own line."""
    importer = StraceImporter(name="t", source="t", live=True)
    for line in (START, "60 fork( <unfinished ...>\n"):
        importer.feed(line.encode())
    assert [event.call for event in importer.feed(b"61 " + UNMAP.encode())] == ["fork", "munmap"]
    assert (importer.mm_of(61), importer.pid_of(61), importer.mm_of(99)) == (2, 61, 0)
    assert importer.feed(b"60 <... fork resumed>) = 61\n") == []


@pytest.mark.parametrize("call", ["vfork(", "clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88"])
def test_a_vforked_child_shares_until_it_execs(call: str) -> None:
    """The child of a vfork works on its parent's mm until its exec, which leaves the parent's alone."""
    _, events = _read(
        f"{START}60 {call} <unfinished ...>\n61 {UNMAP}"
        '61 execve("/bin/b", ["b"], 0x7f /* 1 var */ <unfinished ...>\n'
        f"60 <... {call.partition('(')[0]} resumed>) = 61\n61 <... execve resumed>) = 0\n61 {UNMAP}60 {UNMAP}"
    )
    assert [(event.call, event.tid, event.mm) for event in events[1:]] == [
        (call.partition("(")[0], 60, 1),
        ("munmap", 61, 1),
        ("execve", 61, 1),
        ("munmap", 61, 2),
        ("munmap", 60, 1),
    ]
    assert events[1].args == (0x4111, 1)
    assert events[3].args == ("/bin/b", ["b"], 2)


def test_the_exec_of_a_thread_ends_all_others() -> None:
    """A thread that execs goes on under its leader's id, in a new mm; the other ids are gone."""
    importer, events = _read(
        f"{START}60 {THREAD}60 {THREAD.replace('61', '62')}60 pause( <unfinished ...>\n"
        '62 execve("/bin/b", ["b"], 0x7f /* 1 var */ <unfinished ...>\n'
        "61 +++ exited with 0 +++\n60 +++ superseded by execve in pid 62 +++\n"
        f"60 <... execve resumed>) = 0\n60 {UNMAP}60 +++ exited with 0 +++\n"
    )
    assert _life(events)[3:] == [
        ("exit", 61, 60, 1, (0, None, 0)),
        ("exit", 62, 60, 1, (None, None, 0)),
        ("execve", 60, 60, 1, ("/bin/b", ["b"], 2)),
        ("munmap", 60, 60, 2, (0x1000, 4096)),
        ("exit", 60, 60, 2, (0, None, 1)),
    ]
    assert [(skip.tid, skip.call, skip.reason) for skip in importer.skips()] == [(60, "pause", "never-resumed")]


def test_an_exec_without_the_line_that_announces_it() -> None:
    """-qq leaves `superseded` out: the pid that the entry half changes to says as much."""
    _, events = _read(
        f"{START}60 {THREAD}"
        '61 execve("/bin/b", ["b"], 0x7f <pid changed to 60 ...>\n'
        f"60 <... execve resumed>) = 0\n60 {UNMAP}"
    )
    assert [(event.call, event.tid, event.mm) for event in events[2:]] == [("execve", 60, 1), ("munmap", 60, 2)]


def test_a_reused_pid_is_another_process() -> None:
    """A pid that ended and comes back by another fork has another mm."""
    _, events = _read(f"{START}60 fork() = 61\n61 {UNMAP}61 +++ exited with 0 +++\n60 fork() = 61\n61 {UNMAP}")
    assert [event.mm for event in events if event.call == "munmap"] == [2, 3]


def test_two_runs_in_one_log() -> None:
    """-A: the second run starts anew."""
    run = f"{START}60 {UNMAP}60 +++ exited with 0 +++\n"
    _, events = _read(run + run)
    assert [(event.call, event.mm) for event in events] == [
        ("execve", 0),
        ("munmap", 1),
        ("exit", 1),
        ("execve", 0),
        ("munmap", 2),
        ("exit", 2),
    ]


def test_without_process_calls_every_pid_has_its_own_mm_and_the_header_says_so() -> None:
    """-e trace=memory shows no topology: assumed, and named."""
    importer, events = _read(f"60 {UNMAP}61 {UNMAP}60 {UNMAP}")
    assert [event.mm for event in events] == [1, 2, 1]
    assert "one address space per pid" in (importer.header.note or "")


def test_threads_that_strace_attached_to_together_share_one_mm() -> None:
    """`attached with 3 threads` is the only hint of -p."""
    _, events = _read(f"strace: Process 60 attached with 3 threads\n60 {UNMAP}61 {UNMAP}62 {UNMAP}63 {UNMAP}")
    assert [(event.mm, event.pid) for event in events[1:]] == [(1, 60), (1, 60), (1, 60), (2, 63)]


def test_a_recorder_declares_what_it_attaches_to() -> None:
    """attach() names a process's threads before the first line; emit() numbers events from elsewhere."""
    importer = StraceImporter(name="t", source="t", live=True)
    mm = importer.attach(60, [60, 61])
    baseline = importer.emit("maps", mm=mm, pid=60, tid=60, ts_ns=None, args=("baseline", 0, None, []))
    (event,) = importer.feed(b"61 " + UNMAP.encode())
    assert (baseline.seq, baseline.mm, event.seq, event.mm, event.pid) == (1, mm, 2, mm, 60)


def test_a_clone3_with_hidden_flags_is_a_threads_and_the_header_says_so() -> None:
    """Raw arguments show a pointer instead of flags: they are stored as unknown, the address space is shared."""
    importer, events = _read(f"{START}60 syscall_435(0x7ffd, 0x58, 0, 0x8, 0, 0) = 0x3d\n61 {UNMAP}")
    assert [(event.call, event.mm) for event in events[1:]] == [("clone3", 1), ("munmap", 1)]
    assert "clone3" in (importer.header.note or "")


def test_an_injected_fork_makes_nobody() -> None:
    """A faked result has no child."""
    _, events = _read(f"{START}60 fork() = 61 (INJECTED)\n61 {UNMAP}")
    assert (events[1].args, events[1].injected) == ((17, None), True)
    assert events[2].pid == 61 and events[2].mm == 2


def test_a_call_named_like_an_event_is_told_from_it() -> None:
    """i386 has a call signal(2), which is no signal."""
    _, events = _read("60 signal(SIGUSR1, 0x8048) = 0\n")
    assert events[0].call == "sys_signal"
