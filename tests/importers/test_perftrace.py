"""perf trace's text: rewritten as strace's lines, with every argument that it leaves out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmastore.importers.base import TraceReader
from vmastore.importers.detect import open_traces, recognise
from vmastore.importers.perftrace import PerfTraceReader, to_strace
from vmastore.importers.strace import StraceReader
from vmastore.mm.rules import resolve
from vmastore.replay.world import World

PERF = Path(__file__).parents[1] / "data" / "perf"  # allcalls.c and lives.c under perf trace 6.1

LINES = {
    "mmap": (
        "     5.697 ( 0.022 ms): a/7 mmap(len: 4096, prot: READ, flags: PRIVATE|DENYWRITE, fd: 4) = 0x7fb769fa4000",
        "7 0000000000.005719 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_DENYWRITE, 4, 0) = 0x7fb769fa4000",
    ),
    "anonymous": (
        "     0.500 ( 0.001 ms): a b/7 mmap(addr: 0x1000, len: 4096, flags: PRIVATE|ANONYMOUS) = 0x1000",
        "7 0000000000.000501 mmap(0x1000, 4096, 0, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x1000",
    ),
    "failed": (
        "     1.042 ( 0.010 ms): a/7 mprotect(start: 0x7f01, len: 4096, prot: READ) = -1 EINVAL (Invalid argument)",
        "7 0000000000.001052 mprotect(0x7f01, 4096, PROT_READ) = -1 EINVAL (Invalid argument)",
    ),
    "a pid for a result": (
        "    24.274 (10.449 ms): a/7 clone(clone_flags: CHILD_CLEARTID|VM|0x11, child_tidptr: 0x7f) = 26112 (a b)",
        "7 0000000000.034723 clone(flags=CLONE_CHILD_CLEARTID|CLONE_VM|0x11) = 26112",
    ),
    "begun": (
        "    22.557 (         ): a/7 futex(uaddr: 0x7f, op: WAIT_BITSET, val: 1) ...",
        "7 0000000000.022557 futex(0x7f, WAIT_BITSET, 1 <unfinished ...>",
    ),
    "continued": (
        "    22.557 ( 1.692 ms): a/7  ... [continued]: futex())                                            = 0",
        "7 0000000000.024249 <... futex resumed>) = 0",
    ),
    "no time": ("         ? (         ): a/7  ... [continued]: execve())   = 0", "7 <... execve resumed>) = 0"),
    "one thread": ("     0.100 ( 0.005 ms): munlockall()     = 0", "0 0000000000.000105 munlockall() = 0"),
    "an end": (
        "    34.880 (         ): a/7 exit_group(error_code: 3)  = ?",
        "7 0000000000.034880 +++ exited with 3 +++",
    ),
    "a path": (
        "    21.108 ( 0.013 ms): a/7 dup2(oldfd: 4</a, b>, newfd: 9</a>)  = 9</a, b>",
        "7 0000000000.021121 dup2(4, 9) = 9",
    ),
    "a pid": ("     1.000 ( 0.500 ms): a/7 wait4(upid: 8 (a b)) = 8 (a b)", "7 0000000000.001500 wait4(8) = 8"),
}


@pytest.mark.parametrize(("line", "wanted"), LINES.values(), ids=LINES)
def test_a_line_becomes_straces(line: str, wanted: str) -> None:
    """Times are those of completion, zeros are filled in, flags have their prefixes."""
    assert to_strace(line.encode()) == wanted.encode()


def test_a_real_trace_becomes_its_calls() -> None:
    """Each call of the program, its thread, its fork and its exec, with what a log of strace would have had."""
    reader = PerfTraceReader(PERF / "trace.txt")
    events = list(reader.events())
    account = reader.importer.account
    assert account.unaccounted == 0
    assert account.lines == account.recorded + account.halves + account.frames + account.skipped_lines
    calls = Counter(event.call for event in events)
    assert {
        call: calls[call] for call in ("mremap", "mlock2", "shmat", "memfd_create", "clone3", "clone", "vfork")
    } == {
        **dict.fromkeys(("mlock2", "shmat", "memfd_create", "clone3", "clone", "vfork"), 1),
        "mremap": 3,
    }
    execs = [event for event in events if event.call == "execve"]
    assert [event.args[2] for event in execs] == [1, 3] and execs[0].mm == 0
    made = {event.call: event for event in events if event.call in ("clone3", "clone", "vfork")}
    assert (made["clone3"].args[1], made["clone"].args[1], made["vfork"].args[1]) == (1, 2, 1)
    assert made["clone3"].args[0] is None  # a pointer is shown: the note says what is assumed
    assert {event.mm for event in events if event.tid == made["clone3"].result} == {1}
    assert {event.mm for event in events if event.tid == made["clone"].result} == {2}
    assert {(skip.call, skip.reason) for skip in reader.skips()} <= {
        ("madvise", "unparsed"),  # an advice that perf has no name for: it prints nothing
        ("prlimit64", "unparsed"),
        ("wait4", "no-result"),
        (None, "text"),  # the first return of a new thread
    }
    times = [event.ts_ns for event in events if event.ts_ns is not None]
    assert times == sorted(times)
    assert "assumed the same address space" in (reader.header.note or "") and reader.header.format == "perf"


def _lives(reader: TraceReader) -> tuple[list[list[tuple[object, ...]]], list[object]]:
    """What each thread did, in the order in which they are seen, and the VMAs of each address space at its largest.

    Left out: what is another number in each run, and what perf trace does not show (signals, whose thread one is).
    """
    events = list(reader.events())
    threads: dict[int, list[tuple[object, ...]]] = {}
    most: dict[int, list[object]] = {}
    for event in events:
        if event.call == "signal":
            continue
        args: tuple[object, ...] = event.args
        if event.call in ("mmap", "openat", "close", "wait4", "execve"):
            args = args[:4] if event.call == "mmap" else ()
        elif event.call in ("clone", "clone3"):
            args = args[1:]
        result = event.result if event.call not in ("clone", "clone3", "openat", "wait4") else None
        done = (event.call, args, result, event.errno, event.mm, event.file)
        threads.setdefault(event.tid, []).append(done)
    world = World(reader.header, reader.files, resolve("6.18"))
    for event in events:
        world.apply(event)
        for mm, space in world.mms.items():
            vmas: list[object] = [(v.vm_start, v.vm_end, v.attrs.vm_flags) for v in space.vmas()]
            if len(vmas) >= len(most.get(mm, [])):
                most[mm] = vmas
    return list(threads.values()), [most[mm] for mm in sorted(most)]


def test_perf_trace_and_strace_show_the_same_program() -> None:
    """lives.c under both, without address randomisation: each thread's calls, ends and address space, each VMA."""
    perf, strace = PerfTraceReader(PERF / "lives.txt"), StraceReader([PERF / "lives.log"])
    (one, vmas), (two, same) = _lives(perf), _lives(strace)
    assert len(one) == 6 and [len(calls) for calls in one] == [len(calls) for calls in two]
    assert one == two and vmas == same and len(vmas) == 4


def test_perf_trace_is_recognised() -> None:
    """By its lines, also with absolute times; page faults among them are counted text."""
    assert isinstance(open_traces(PERF / "trace.txt")[0], PerfTraceReader)
    assert recognise((PERF / "trace-absolute.txt").read_bytes().splitlines()[:20]) == "perf"
    absolute = list(PerfTraceReader(PERF / "trace-absolute.txt").events())
    assert absolute[1].call == "brk" and (absolute[1].ts_ns or 0) > 10**12
    reader = PerfTraceReader(PERF / "trace-faults.txt")
    assert {event.call for event in reader.events()} == {"mmap"}
    assert {skip.reason for skip in reader.skips()} == {"text"}


_SHOWN = st.sampled_from([line.encode() for line, _ in LINES.values()])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | _SHOWN, st.integers(0, 60), st.binary(max_size=3))
@example(b"", 0, b"")
def test_no_line_raises(line: bytes, at: int, put: bytes) -> None:
    """Whatever the line is, a line comes back."""
    assert isinstance(to_strace(line[:at] + put + line[at:]), bytes)


@pytest.mark.parametrize(("flags", "mm", "pid"), [(0x3D0F00, 1, 7), (0x100, 1, 8), (0, 2, 8)])
def test_the_flags_of_a_clone3_that_are_shown_count(tmp_path: Path, flags: int, mm: int, pid: int) -> None:
    """The struct as later perfs print it: CLONE_VM shares the address space, CLONE_THREAD the process."""
    text = tmp_path / "t.txt"
    struct = f"{{.flags = (__u64){flags},.exit_signal = (__u64)17,.stack = (__u64)140000}}"
    text.write_text(
        "     1.000 ( 0.001 ms): app/7 brk() = 0x5000\n"
        f"     2.000 ( 0.001 ms): app/7 clone3(uargs: {struct}, size: 88) = 8 (app)\n"
        "     3.000 ( 0.001 ms): app/8 munmap(addr: 0x1000, len: 4096) = 0\n"
    )
    _, made, child = PerfTraceReader(text).events()
    assert (made.args, child.mm, child.pid) == ((flags | 17, mm), mm, pid)
