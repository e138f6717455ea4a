"""One order out of strace's log, faults, locks and observations."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from vmastore.events.types import Event
from vmastore.importers.faults import Fault, Locked
from vmastore.importers.strace import StraceImporter
from vmastore.recorder.loglines import Log, Quiet, read_line
from vmastore.recorder.marks import Passed
from vmastore.recorder.merge import Merger
from vmastore.recorder.shots import Shots
from vmastore.recorder.spool import Shot

SECOND = 1_000_000_000
STACK = b"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]\nAnonymous: 8 kB\nVmFlags: rd wr mr mw me gd ac\n"
EXEC = '7 1.0 execve("/bin/x", ["x"], 0x7f /* 1 var */) = 0 (DELAYED) <0.5>'
CLONE = "7 2.0 clone(child_stack=0x7f00, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 8 <0.1>"


def at(seconds: float) -> int:
    return round(seconds * SECOND)


def fault(seconds: float, tid: int, addr: int, access: str = "w", source: str = "user") -> Fault:
    return Fault(at(seconds), 7, tid, addr, access, source)


def shot(kind: str, seconds: float, offset: int, tid: int = 7, done: Iterable[int] = ()) -> tuple[Shot, bytes]:
    place = (at(seconds), offset, list(done), [])
    return Shot(kind, tid, 7, *place, steady=True, start_brk=0), STACK


def log_of(lines: Iterable[str | Quiet]) -> Log:
    """The log of these lines, with quiet places between them."""
    found, number, offset = [], 0, 0
    for line in lines:
        if isinstance(line, Quiet):
            found.append(line)
            continue
        number += 1
        found.append(read_line(number, offset, line.encode()))
        offset += len(line) + 1
    return Log(found)


def merge(
    lines: Iterable[str | Quiet],
    marks: Iterable[Fault | Locked] = (),
    shots: Iterable[tuple[Shot, bytes]] = (),
) -> tuple[list[Event], Merger, StraceImporter]:
    """The events, checked to be gap-free."""
    importer = StraceImporter(name="t", source="t", live=True)
    merger = Merger(importer, log_of(lines), Shots(shots), sorted(marks, key=lambda mark: mark.time_ns))
    events = list(merger.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return events, merger, importer


def calls(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.call, event.tid) for event in events]


def size(*lines: str) -> int:
    return sum(len(line) + 1 for line in lines)


OVERLAP = [
    EXEC,
    CLONE,
    "7 3.0 munmap(0x7f0000000000, 4096 <unfinished ...>",
    "8 3.1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0 <unfinished ...>",
    "8 3.5 <... mmap resumed>) = 0x7f0000000000 <0.4>",
    "7 3.6 <... munmap resumed>) = 0 <0.6>",
]


def test_without_locks_calls_stand_where_they_returned() -> None:
    """What strace shows is all there is then."""
    events, _, _ = merge(OVERLAP)
    assert calls(events)[2:] == [("mmap", 8), ("munmap", 7)]


def test_with_locks_calls_stand_where_they_got_the_address_space() -> None:
    """The munmap that made room comes before the mmap that took it, though strace saw it return later."""
    events, _, _ = merge(OVERLAP, [Locked(at(3.2), 7, 7), Locked(at(3.3), 7, 8)])
    assert calls(events)[2:] == [("munmap", 7), ("mmap", 8)]
    assert [event.source_line for event in events[2:]] == [6, 5]
    events, _, _ = merge(OVERLAP, [Locked(at(3.3), 7, 7), Locked(at(3.2), 7, 8)])
    assert calls(events)[2:] == [("mmap", 8), ("munmap", 7)]


def test_a_whole_call_waits_for_its_lock() -> None:
    """Time and duration of a whole line add up to less than the call's end; its lock tells where it stands."""
    lines = [
        EXEC,
        CLONE,
        "7 3.0 munmap(0x7f0000000000, 4096 <unfinished ...>",
        "8 3.1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000 <0.1>",
        "7 3.6 <... munmap resumed>) = 0 <0.6>",
    ]
    events, _, _ = merge(lines, [Locked(at(3.3), 7, 7), Locked(at(3.4), 7, 8)])
    assert calls(events)[2:] == [("munmap", 7), ("mmap", 8)]
    events, _, _ = merge(lines, [Locked(at(3.3), 7, 7), Locked(at(3.7), 7, 8)])
    assert calls(events)[2:] == [("mmap", 8), ("munmap", 7)], "that lock is of something later"


def test_a_lock_outside_of_a_call_orders_nothing() -> None:
    """A stack that grows takes the lock as well; so do threads that the log does not know."""
    marks = [Locked(at(2.5), 7, 7), Locked(at(2.6), 99, 99), Locked(at(9), 7, 8)]
    events, _, _ = merge(OVERLAP, marks)
    assert calls(events)[2:] == [("mmap", 8), ("munmap", 7)]


def test_a_fault_stands_between_its_threads_calls() -> None:
    """Before the call that it preceded, after the call during which the kernel took it."""
    lines = [
        EXEC,
        "7 3.0 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000 <0.1>",
        "7 4.0 mprotect(0x7f0000001000, 4096, PROT_READ|PROT_WRITE) = 0 <0.2>",
        "7 5.0 munmap(0x7f0000000000, 8192) = 0 <0.1>",
    ]
    marks = [
        fault(3.5, 7, 0x7F0000000008),
        fault(4.1, 7, 0x7F0000001000, source="kernel"),
        fault(4.5, 7, 0x7F0000001008),
    ]
    events, merger, _ = merge(lines, marks)
    assert calls(events)[1:] == [("mmap", 7), ("fault", 7), ("mprotect", 7), ("munmap", 7)], "one VMA, written once"
    assert events[2].args == (0x7F0000000000, 4096, "w", None, "user") and events[2].ts_ns == at(3.5)
    assert (merger.faults_seen, merger.faults_kept, merger.faults_nobody) == (3, 1, 0)
    events, _, _ = merge(lines, marks[1:])
    assert [(e.call, e.args[-1]) for e in events[2:5]] == [("mprotect", 3), ("fault", "kernel"), ("munmap", 8192)]


def test_the_faults_of_an_exec_belong_to_nobody() -> None:
    """While a program is loaded the kernel writes to its image; the baseline shows what came of it."""
    marks = [fault(1.2, 7, 0x555555000000, source="kernel"), fault(2, 7, 0x7FFC00020000)]
    events, _, _ = merge([EXEC], marks, [shot("exec", 1.6, size(EXEC))])
    assert calls(events) == [("execve", 7), ("maps", 7)], "the stack is written already"
    kind, count, removed, lines = events[1].args
    assert (kind, count, removed, lines[0][6:]) == ("baseline", 1, None, ["[stack]", "rd wr mr mw me gd ac", True])


def test_a_childs_first_sign_is_preceded_by_the_call_that_made_it() -> None:
    """A fault or a call of the child moves the parent's clone forward, even if it returned later."""
    lines = [
        EXEC,
        "7 2.0 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD <unfinished ...>",
        "8 2.5 brk(NULL) = 0x5000 <0.1>",
        "7 2.7 <... clone resumed>, child_tidptr=0x7f) = 8 <0.7>",
    ]
    events, _, _ = merge(lines, [fault(2.2, 8, 0x7FFC0001F000)])
    assert calls(events) == [("execve", 7), ("clone", 7), ("fault", 8), ("brk", 8)]
    parent, child = events[1].args[1], events[2].mm
    assert child == parent != events[1].mm == 1


def test_a_forked_child_is_checked_from_its_first_observation_on() -> None:
    """Its address space is known: the parent's. Only an exec or an attach starts from what was observed."""
    lines = [EXEC, "7 2.0 fork() = 8 <0.1>"]
    shots = [shot("exec", 1.6, size(EXEC)), shot("check", 3, size(*lines), tid=8)]
    events, _, _ = merge(lines, (), shots)
    assert [(e.mm, e.args[0]) for e in events if e.call == "maps"] == [(1, "baseline"), (2, "check")]


def test_a_call_that_was_done_when_observed_comes_before_the_observation() -> None:
    """Whether its line was whole, half or had yet to resume; one that had not been done comes after."""
    lines = [
        EXEC,
        CLONE,
        "8 3.0 munmap(0x1000, 4096 <unfinished ...>",
        "7 3.1 brk(NULL) = 0x5000 <0.01>",
        "8 3.2 <... munmap resumed>) = 0 <0.2>",
        "8 3.3 munmap(0x2000, 4096) = 0 <0.1>",
    ]
    base = shot("exec", 1.6, size(EXEC))
    order = {}
    for done in ((), (8,)):
        events, _, _ = merge(lines, (), [base, shot("check", 3.15, size(*lines[:4]), done=done)])
        order[done] = [call for call, _ in calls(events)[3:]]
    assert order == {(): ["brk", "maps", "munmap", "munmap"], (8,): ["brk", "munmap", "maps", "munmap"]}
    inside = size(*lines[:5]) + 20
    events, _, _ = merge(lines, (), [base, shot("check", 3.35, inside, done=[8])])
    assert calls(events)[-1] == ("maps", 7)
    events, _, _ = merge(lines, (), [base, shot("check", 3.35, inside)])
    assert calls(events)[-2:] == [("maps", 7), ("munmap", 8)]


def test_a_call_is_not_moved_before_an_observation_twice() -> None:
    """Its lock has done so already: the thread's next call stays where it is."""
    lines = [
        EXEC,
        CLONE,
        "8 3.0 munmap(0x1000, 4096 <unfinished ...>",
        "7 3.1 brk(NULL) = 0x5000 <0.01>",
        "8 3.3 <... munmap resumed>) = 0 <0.2>",
        "8 3.4 munmap(0x2000, 4096) = 0 <0.1>",
    ]
    shots = [shot("exec", 1.6, size(EXEC)), shot("check", 3.2, size(*lines[:2]) + 10, done=[8])]
    events, _, _ = merge(lines, [Locked(at(3.05), 7, 8)], shots)
    assert calls(events)[3:] == [("munmap", 8), ("maps", 7), ("brk", 7), ("munmap", 8)]


@pytest.mark.parametrize(
    ("call", "result"),
    [("mprotect(0x1000, 4096, PROT_READ", "25"), ("mremap(0x1000, 4096, 8192, MREMAP_MAYMOVE", "0")],
    ids=["status", "address"],
)
def test_what_an_exit_cuts_short_has_no_result(call: str, result: str) -> None:
    """strace prints what lies in the register for the result of a call whose thread is killed: not an event."""
    name = call.partition("(")[0]
    lines = [
        EXEC,
        CLONE,
        f"8 3.0 {call} <unfinished ...>",
        "7 3.1 exit_group(0) = ?",
        f"8 3.2 <... {name} resumed>) = {result} <0.2>",
        "8 3.3 +++ exited with 0 +++",
        "7 3.4 +++ exited with 0 +++",
    ]
    shots = [shot("exec", 1.6, size(EXEC)), shot("exit", 3.15, size(*lines[:3]))]
    events, merger, importer = merge(lines, (), shots)
    assert [call for call, _ in calls(events)] == ["execve", "maps", "clone", "maps", "exit", "exit"]
    assert {(skip.tid, skip.call, skip.reason) for skip in importer.skips()} == {
        (7, "exit_group", "no-result"),
        (8, name, "no-result"),
    }
    assert merger.unobserved == 0


@pytest.mark.parametrize(
    ("end", "why"),
    [("killed by SIGKILL", "killed by signal 9"), ("exited with 0", "not held at its exit")],
    ids=["signal", "exit"],
)
def test_an_end_without_observation_is_said(end: str, why: str) -> None:
    """A process killed by a signal, or gone by its last thread's exit, was not seen at its end."""
    events, merger, _ = merge([EXEC, f"7 2.0 +++ {end} +++"])
    assert [call for call, _ in calls(events)] == ["execve", "exit", "note"]
    assert events[-1].args == ("no-final-observation", {"pid": 7, "why": why})
    assert merger.unobserved == 1


def test_the_heap_of_an_attached_process_is_told() -> None:
    """It asked for its break long ago, so the observation at attach brings it along."""
    first, _ = shot("attach", 0.5, 0)
    heap = STACK.replace(b"[stack]", b"[heap]")
    log = log_of(["7 1.0 brk(0x7ffc00042000) = 0x7ffc00042000 <0.1>"])
    importer = StraceImporter(name="t", source="t", live=True)
    importer.attach(7, [7])
    merger = Merger(importer, log, Shots([(first._replace(start_brk=0x7FFC00000000), heap)]), ())
    events = list(merger.events())
    assert calls(events) == [("maps", 7), ("note", 7), ("brk", 7)]
    assert events[1].args == ("brk", {"start_brk": 0x7FFC00000000, "brk": 0x7FFC00021000})


def test_an_image_of_its_own_is_told() -> None:
    """That an attached process has executed a program since it was forked stands behind its observation."""
    first, text = shot("attach", 0.5, 0)
    importer = StraceImporter(name="t", source="t", live=True)
    importer.attach(7, [7])
    merger = Merger(importer, log_of([]), Shots([(first._replace(own_image=True), text)]), ())
    assert [(event.call, event.args[:2]) for event in merger.events()][1:] == [("note", ("own-image", True))]


def test_threads_that_began_while_it_was_attached_to_are_of_the_process() -> None:
    """Some the observation lists, so that their faults count before their first line; others come up in the log."""
    first, text = shot("attach", 0.5, 0)
    log = log_of(
        [
            "8 1.0 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000 <0.1>",
            "10 3.0 munmap(0x7f0000000000, 4096) = 0 <0.1>",
        ]
    )
    importer = StraceImporter(name="t", source="t", live=True)
    importer.attach(7, [7])
    marks = [fault(2.0, 9, 0x7F0000000008)]
    merger = Merger(importer, log, Shots([(first._replace(threads=[7, 8, 9]), text)]), marks)
    events = list(merger.events())
    assert calls(events) == [("maps", 7), ("mmap", 8), ("fault", 9), ("munmap", 10)]
    assert {(event.pid, event.mm) for event in events} == {(7, 1)} and merger.faults_nobody == 0


def test_where_the_log_is_quiet_faults_need_not_wait_for_the_next_line() -> None:
    """What is older than a quiet place is given there, but nothing of a thread whose line has begun."""
    lines = [
        EXEC,
        "7 3.0 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000 <0.1>",
    ]
    marks = [fault(3.5, 7, 0x7F0000000008), Passed(at(4))]
    for quiet, given in ((Quiet(at(4)), ["execve", "mmap", "fault"]), (Quiet(at(4), 7, at(3.4)), ["execve", "mmap"])):
        log = log_of([*lines, quiet, "7 5.0 munmap(0x7f0000000000, 8192) = 0 <0.1>"])
        importer = StraceImporter(name="t", source="t", live=True)
        merger = Merger(importer, log, Shots(), marks)
        assert [event.call for event in next(merger.batches())] == given


def test_a_call_that_took_no_lock_does_not_wait_for_ever() -> None:
    """A line is given when its lock cannot come any more, though nothing has happened since."""
    log = log_of([EXEC, "7 3.0 close(3) = 0 <0.1>", Quiet(at(4)), Quiet(at(5))])
    importer = StraceImporter(name="t", source="t", live=True)
    merger = Merger(importer, log, Shots(), iter([Passed(at(4)), Passed(at(6))]))
    first = next(merger.batches())
    assert [event.call for event in first] == ["execve", "close"]


def test_the_return_of_a_clone_comes_before_a_fault_of_its_child_during_it() -> None:
    """Also where the call stands on one line, and no locks are known."""
    lines = [EXEC, "7 2.0 fork() = 8 <0.5>", "8 3.0 brk(NULL) = 0x5000 <0.1>"]
    events, merger, _ = merge(lines, [fault(2.2, 8, 0x7FFC0001F000)])
    assert calls(events) == [("execve", 7), ("fork", 7), ("fault", 8), ("brk", 8)] and not merger.faults_nobody


def test_a_tid_that_is_used_again_does_not_move_the_later_clone() -> None:
    """A fault of a thread that nobody is about to make is nobody's; the clone of that number stays where it is."""
    lines = [EXEC, "7 2.0 brk(NULL) = 0x5000 <0.1>", "7 3.0 fork() = 8 <0.1>", "8 4.0 brk(NULL) = 0x5000 <0.1>"]
    events, merger, _ = merge(lines, [fault(1.8, 8, 0x7FFC0001F000)])
    assert calls(events) == [("execve", 7), ("brk", 7), ("fork", 7), ("brk", 8)] and merger.faults_nobody == 1


def test_what_read_wrote_is_a_fault_and_read_is_no_event() -> None:
    """Where the log has such calls: after the call's return, once a mapping, without any recorded fault."""
    lines = [
        EXEC,
        "7 3.0 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000 <0.1>",
        "7 3.2 read(0x3, 0x7f0000000008, 0x1000 <unfinished ...>",
        "8 3.3 brk(NULL) = 0x5000 <0.1>",
        "7 3.4 <... read resumed>) = 0x10 <0.2>",
        "7 3.6 read(0x3, 0x7f0000000008, 0x1000) = 0x10 <0.1>",
        "7 3.8 munmap(0x7f0000000000, 8192) = 0 <0.1>",
    ]
    importer = StraceImporter(name="t", source="t", live=True)
    events = list(Merger(importer, log_of(lines), Shots(), None, copies=True).events())
    assert [event.call for event in events] == ["execve", "mmap", "brk", "fault", "munmap"]
    assert events[3].args == (0x7F0000000000, 4096, "w", None, "kernel") and events[3].ts_ns == at(3.4)
    assert [event.source_line for event in events] == [1, 2, 4, None, 7] and importer.skips() == []
