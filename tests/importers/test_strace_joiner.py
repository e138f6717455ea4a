"""Halves, notes, glued text and cut lines: every call comes out once, with its thread."""

from __future__ import annotations

import pytest

from vmastore.events import Event
from vmastore.importers.strace import StraceImporter


def _read(text: str, **options: object) -> tuple[StraceImporter, list[Event]]:
    """Feed `text` line by line, as a live log comes."""
    importer = StraceImporter(name="t", source="t", **options)  # type: ignore[arg-type]
    events = [event for line in text.encode().splitlines(keepends=True) for event in importer.feed(line)]
    events += importer.finish()
    account = importer.account
    assert account.unaccounted == 0
    assert account.lines == account.recorded + account.halves + account.frames + account.skipped_lines
    return importer, events


def _calls(events: list[Event]) -> list[tuple[int, str, object]]:
    return [(event.tid, event.call, event.result if event.errno == 0 else -event.errno) for event in events]


def _skips(importer: StraceImporter) -> list[tuple[int | None, str | None, str, int]]:
    return [(skip.tid, skip.call, skip.reason, skip.count) for skip in importer.skips()]


def test_halves_of_many_threads_are_joined_in_the_order_of_completion() -> None:
    """An event stands where its call returned, with the arguments of either half."""
    importer, events = _read(
        "11 mprotect(0x1000, 4096, PROT_READ <unfinished ...>\n"
        "12 mincore(0x2000, 8192,  <unfinished ...>\n"
        "13 munmap(0x3000, 4096) = 0\n"
        "12 <... mincore resumed>[1, 0]) = 0\n"
        "11 <... mprotect resumed> )      = -1 ENOMEM (Cannot allocate memory)\n"
    )
    assert _calls(events) == [(13, "munmap", 0), (12, "mincore", 0), (11, "mprotect", -12)]
    assert [event.args for event in events] == [(0x3000, 4096), (0x2000, 8192, "[1, 0]"), (0x1000, 4096, 1)]
    assert [event.source_line for event in events] == [3, 4, 5]
    assert importer.account.halves == 2


def test_a_line_of_an_event_is_found_again_by_its_offset() -> None:
    """source_offset is the byte at which the line of that number begins."""
    text = (
        "7 brk(0) = 0x1000\n7 madvise(0x1, 4096, 4 <unfinished ...>\n7 <... madvise resumed>) = 0\n7 close(3) = 0\n"
    )
    _, events = _read(text)
    lines = text.encode().splitlines(keepends=True)
    for event in events:
        assert event.source_line is not None and event.source_offset is not None
        assert text.encode()[event.source_offset :].startswith(lines[event.source_line - 1])


def test_calls_without_a_result_are_skips() -> None:
    """A call that was killed, or whose result is unknown, is counted by thread, call and reason."""
    importer, events = _read(
        "5 exit_group(0) = ?\n"
        "6 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0 <unfinished ...>\n"
        "6 <... mmap resumed>) = ? <unavailable>\n"
        "7 futex(0x1, FUTEX_WAIT <unfinished ...>\n"
        "7 <... futex resumed> <unfinished ...>) = ?\n"
        "8 pause( <unfinished ...>\n"
        "8 +++ killed by SIGKILL +++\n"
        "9 munmap(0x1000, 4096 <detached ...>\n"
    )
    assert [event.call for event in events] == ["exit"]
    assert _skips(importer) == [
        (5, "exit_group", "no-result", 1),
        (6, "mmap", "no-result", 1),
        (7, "futex", "no-result", 1),
        (8, "pause", "never-resumed", 1),
        (9, "munmap", "never-resumed", 1),
    ]


def test_an_exit_half_without_its_entry_is_a_skip() -> None:
    """Attaching in the middle of a call shows its end only: nothing is invented."""
    importer, events = _read(
        "5 <... mmap resumed>) = 0x7f00\n5 munmap(0x1, 1 <unfinished ...>\n5 <... brk resumed>) = 0\n"
    )
    assert events == []
    assert _skips(importer) == [
        (5, "mmap", "no-entry", 1),
        (5, "munmap", "never-resumed", 1),
        (5, "brk", "no-entry", 1),
    ]


def test_a_call_that_another_follows_was_never_resumed() -> None:
    """A thread has one call in flight: a new one means that the end of the last is missing."""
    importer, events = _read("5 pause( <unfinished ...>\n5 munmap(0x1000, 4096) = 0\n")
    assert _calls(events) == [(5, "munmap", 0)]
    assert _skips(importer) == [(5, "pause", "never-resumed", 1)]


STDERR = (
    "clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLDstrace: Process 61 attached\n"
    ", child_tidptr=0x7f6b) = 61\n"
    "[pid    60] clone(child_stack=NULL, flags=SIGCHLDstrace: Process 62 attached\n"
    " <unfinished ...>\n"
    "[pid    61] mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0/opt/x/strace: Process 63 attached\n"
    ") = 0x7f6bbe274000\n"
    "[pid    62] munmap(0x1000, 4096 <unfinished ...>\n"
    "[pid    60] <... clone resumed>) = 62\n"
    "strace: Process 63 detached\n"
    "[pid    62] <... munmap resumed>) = 0\n"
)


def test_notes_are_cut_out_of_calls() -> None:
    """A note inside a call, with or without a path, leaves the call whole on both sides of it."""
    importer, events = _read(STDERR, main_tid=60)
    calls = [call for call in _calls(events) if call[1] != "attach"]
    assert sorted(calls) == [(60, "clone", 61), (60, "clone", 62), (61, "mmap", 0x7F6BBE274000), (62, "munmap", 0)]
    notes = [(event.tid, event.args[0]) for event in events if event.call == "attach"]
    assert (63, "/opt/x/strace: Process 63 attached") in notes and (63, "strace: Process 63 detached") in notes
    assert _skips(importer) == []


def test_text_of_the_tracee_before_a_call_is_cut_off() -> None:
    """A call glued behind the program's own output is read; text that only looks like one is not."""
    importer, events = _read(
        "brk(NULL) = 0x1000\n"
        "progress 20%mmap(NULL, 4096, PROT_READ, MAP_SHARED|MAP_ANONYMOUS, -1, 0) = 0x7f36\n"
        "tracee says = 0x7f00 mmap(fake) = 1\n"
        "done--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---\n"
        "bye+++ exited with 0 +++\n"
    )
    assert [event.call for event in events] == ["brk", "mmap", "signal", "exit"]
    assert _skips(importer) == [(None, None, "text", 1)]


def test_text_of_the_tracee_inside_a_call_is_cut_off() -> None:
    """What a program writes comes between a write's arguments and its result, on one line or several."""
    _, events = _read('write(1, "ab", 2ab)  = 2\nwrite(1, "a\\nb\\n", 4a\nb\n) = 4\nmunmap(0x1000, 4096) = 0\n')
    assert _calls(events) == [(0, "write", 2), (0, "write", 4), (0, "munmap", 0)]


def test_a_half_that_lost_its_pid_is_joined() -> None:
    """strace -z prints the end of a call without its pid."""
    _, events = _read("10663 madvise(0x7fe5, 16384, MADV_DONTNEED <unfinished ...>\n)                    = 0\n")
    assert _calls(events) == [(10663, "madvise", 0)]


def test_calls_printed_by_number_have_their_names() -> None:
    """syscall_0x1ce is mseal in either base, and an unknown number stays."""
    _, events = _read(
        "5 syscall_0x1ce(0x7f00, 0x4000, 0, 0xffffffff, 0, 0) = 0\n"
        "5 syscall_462(0x7f00, 0x4000, 0, 0, 0, 0 <unfinished ...>\n"
        "5 <... syscall_462 resumed> ) = 0\n"
        "5 syscall_0x270f(0x1, 0x2, 0x3, 0x4, 0x5, 0x6) = -1 ENOSYS (Function not implemented)\n"
    )
    assert [(event.call, event.args) for event in events] == [
        ("mseal", (0x7F00, 0x4000, 0)),
        ("mseal", (0x7F00, 0x4000, 0)),
        ("syscall_0x270f", (1, 2, 3, 4, 5, 6)),
    ]


def test_injected_results_are_marked() -> None:
    """A result that strace faked is an event the kernel knows nothing of."""
    _, events = _read(
        "5 munmap(0x1000, 4096) = 0 (INJECTED)\n"
        "5 brk(0x1000) = -1 ENOMEM (Cannot allocate memory) (INJECTED)\n"
        "5 munmap(0x1000, 4096) = 0 (DELAYED)\n"
    )
    assert [(event.injected, event.errno) for event in events] == [(True, 0), (True, 12), (False, 0)]


def test_a_failing_brk_did_not_fail() -> None:
    """brk returns the break it left, whatever was asked for."""
    _, events = _read("5 brk(0x10) = 0x55e49a5c1000\n")
    assert (events[0].result, events[0].errno) == (0x55E49A5C1000, 0)


def test_times_are_those_of_completion() -> None:
    """A whole call ends at its time plus its duration, a half at the time of its second line."""
    _, events = _read(
        "5 1000000000.000001 munmap(0x1000, 4096) = 0 <0.000005>\n"
        "5 1000000000.000010 brk(NULL <unfinished ...>\n"
        "6 1000000000.000020 close(3) = 0 <0.5>\n"
        "5 1000000000.500030 <... brk resumed>) = 0x1000 <0.500020>\n"
    )
    assert [event.ts_ns - 10**18 for event in events if event.ts_ns] == [6_000, 500_020_000, 500_030_000]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["23:59:59.5", "00:00:01.0", "00:00:02.0"], [86_399_500_000_000, 86_401_000_000_000, 86_402_000_000_000]),
        (["     0.000000", "     0.000100", "     1.000000"], [0, 100_000, 1_000_100_000]),
    ],
    ids=["past midnight", "relative"],
)
def test_times_without_a_date_grow(times: list[str], expected: list[int]) -> None:
    """A time of day goes on past midnight, relative times add up."""
    _, events = _read("".join(f"5 {time} close(3) = -1 EBADF (Bad file descriptor)\n" for time in times))
    assert [event.ts_ns for event in events] == expected


def test_stack_frames_are_the_call_site_of_their_event() -> None:
    """-k: the frames behind a call are its site, innermost first, also behind an exit half."""
    frames = " > /lib/libc.so.6(mmap+0x13) [0x1019b3]\n > /bin/a(main+0x10) [0x1206]\n"
    text = f"5 brk(NULL) = 0x1000\n{frames}5 munmap(0x1, 1 <unfinished ...>\n6 close(3) = 0\n"
    _, events = _read(text + f"5 <... munmap resumed>) = 0\n{frames}", stacks=True)
    site = "/lib/libc.so.6(mmap+0x13) [0x1019b3]\n/bin/a(main+0x10) [0x1206]"
    assert [(event.call, event.site) for event in events] == [("brk", site), ("close", None), ("munmap", site)]


def test_frames_of_what_is_no_event_are_nobodys_site() -> None:
    """The stack of an exiting thread, which strace prints late or into another's line, is no event's."""
    exits = "6 <... exit resumed>) = ?\n > /lib/libc.so.6(exit+0x13) [0x1019b3]\n"
    glued = "5 munmap(0x1000, 4096 > /lib/libc.so.6(_exit+0x2) [0x89226]\n > /bin/a(main+0x10) [0x1206]\n"
    begin, end = "6 exit(0 <unfinished ...>\n5 brk(NULL) = 0x1000\n", "7 close(3) = 0\n5 <... munmap resumed>) = 0\n"
    text = begin + exits + glued + end
    importer, events = _read(text, stacks=True)
    assert [(event.call, event.tid, event.site) for event in events] == [
        ("brk", 5, None),
        ("close", 7, None),
        ("munmap", 5, None),
    ]
    assert importer.account.frames == 2


@pytest.mark.parametrize(
    "table",
    [
        (
            "% time     seconds  usecs/call     calls    errors syscall\n"
            "------ ----------- ----------- --------- --------- ----------------\n"
            " 27.75    0.038542          25      1507       604 munmap\n"
            "100.00    0.138913          27      5139       614 total\n"
        ),
        (
            "syscall           longest  % time\n"
            "---------------- -------- -------\n"
            "munmap           0.038542   27.75\n"
            "total            0.138913  100.00\n"
        ),
    ],
    ids=["plain", "columns-of-U"],
)
def test_the_table_of_calls_is_no_event(table: str) -> None:
    """The rows of -C are counted as summary, whichever columns -U has chosen; calls around it stay."""
    importer, events = _read("5 brk(NULL) = 0x1000\n" + table + "5 brk(NULL) = 0x1000\n")
    assert len(events) == 2
    assert _skips(importer) == [(None, None, "summary", 4)]


@pytest.mark.parametrize(
    ("last", "events", "reason"),
    [
        ("5 madvise(0x1000, 4096, MADV_D", 1, "never-resumed"),
        ("5 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f4", 1, "never-resumed"),
        ("5 brk(NULL) = 0x1000 <0.000001>", 2, None),
        ("5 munmap(0x1, 1) = -1 EINVAL (Invalid argument)", 2, None),
        ("5 +++ exited with 0 +++", 2, None),
    ],
)
def test_a_last_line_without_newline(last: str, events: int, reason: str | None) -> None:
    """A result at the very end of a cut log may lack digits: only what shows its end is taken."""
    importer = StraceImporter(name="t", source="t")
    found = importer.feed(b"5 close(3) = 0\n") + importer.feed_cut(last.encode()) + importer.finish()
    assert len(found) == events
    assert [skip.reason for skip in importer.skips()] == ([reason] if reason else [])


def test_lines_without_pid_belong_to_whoever_is_left() -> None:
    """On stderr the pid is printed only while several processes live."""
    _, events = _read(
        "fork()                  = 61\n"
        "[pid    61] munmap(0x1000, 1) = 0\n"
        "[pid    60] munmap(0x1000, 2) = 0\n"
        "[pid    60] +++ exited with 0 +++\n"
        "munmap(0x1000, 3) = 0\n"
        "+++ exited with 0 +++\n",
        main_tid=60,
    )
    assert [(event.tid, event.call) for event in events] == [
        (60, "fork"),
        (61, "munmap"),
        (60, "munmap"),
        (60, "exit"),
        (61, "munmap"),
        (61, "exit"),
    ]


def test_signals_are_events() -> None:
    """A signal's number, code and address are kept."""
    _, events = _read(
        "5 --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_ACCERR, si_addr=0x7f78} ---\n5 --- stopped by SIGSTOP ---\n"
    )
    assert [event.args for event in events] == [(11, "SEGV_ACCERR", 0x7F78), (19, "stopped", None)]
