"""The lexer: every prefix and every kind of line."""

from __future__ import annotations

import doctest
import itertools
import random
import re
from pathlib import Path

import pytest

from vmastore.importers.strace import Clock, Kind, Lexer, lex, lexer

BODY = b"munmap(0x7f0000000000, 4096) = 0"
PIDS = {b"": (None, None), b"7687  ": (7687, None), b"31764 ": (31764, None), b"[pid    76] ": (76, None)}
COMMS = {b"6354<p_fork> ": (6354, "p_fork"), b"[pid  7148<a b>] ": (7148, "a b")}
TIMES = {
    b"": (None, None),
    b"02:10:34 ": (Clock.DAY, 7834 * 10**9),
    b"02:10:34.239453 ": (Clock.DAY, 7834239453000),
    b"1795486234.021713 ": (Clock.EPOCH, 1795486234021713000),
    b"1795486235.664574254 ": (Clock.EPOCH, 1795486235664574254),
    b"1795486235 ": (Clock.EPOCH, 1795486235 * 10**9),
    b"     0.000063 ": (Clock.PREVIOUS, 63000),
    b"02:10:37.610876 (+     0.000016) ": (Clock.DAY, 7837610876000),
}
NUMBERS = {b"": None, b"[   9] ": 9, b"[ 462] ": 462}
POINTERS = {b"": None, b"[00007f447b011ca3] ": 0x7F447B011CA3, b"[????????????????] ": None}


def test_every_combination_of_prefixes_is_cut_off() -> None:
    """A prefix of any pid, time, number and instruction pointer leaves the same call behind."""
    pids = {**PIDS, **COMMS}
    for pid, time, number, ip in itertools.product(pids, TIMES, NUMBERS, POINTERS):
        line = lex(pid + time + number + ip + BODY)
        assert line.kind is Kind.CALL, line
        assert (line.tid, line.comm) == pids[pid]
        assert (line.clock, line.time_ns) == TIMES[time]
        assert (line.number, line.ip) == (NUMBERS[number], POINTERS[ip])
        assert (line.name, line.text) == ("munmap", b"0x7f0000000000, 4096) = 0")


KINDS = [
    (b"brk(NULL) = 0x1", Kind.CALL, "brk", b"NULL) = 0x1", ""),
    (b"munlockall()                      = 0", Kind.CALL, "munlockall", b")                      = 0", ""),
    (b"exit_group(0) = ?", Kind.CALL, "exit_group", b"0) = ?", ""),
    (
        b"mprotect(0x1000, 1, PROT_READ <unfinished ...>",
        Kind.ENTRY,
        "mprotect",
        b"0x1000, 1, PROT_READ",
        "unfinished",
    ),
    (b"fork( <unfinished ...>", Kind.ENTRY, "fork", b"", "unfinished"),
    (b"pause( <detached ...>", Kind.ENTRY, "pause", b"", "detached"),
    (b'execve("a", ["b"], 0x1 /* 39 vars */ <pid changed to 62 ...>', Kind.ENTRY, "execve", None, "62"),
    (
        b"restart_syscall(<... resuming interrupted clock_nanosleep ...> <unfinished ...>",
        Kind.ENTRY,
        "restart_syscall",
        b"<... resuming interrupted clock_nanosleep ...>",
        "unfinished",
    ),
    (b"<... mprotect resumed>)           = 0", Kind.RESUMED, "mprotect", b")           = 0", ""),
    (b"<... mmap resumed> ) = 0x7f2192", Kind.RESUMED, "mmap", b" ) = 0x7f2192", ""),
    (b"<... futex resumed> <unfinished ...>) = ?", Kind.RESUMED, "futex", b" <unfinished ...>) = ?", ""),
    (b"+++ exited with 3 +++", Kind.EXITED, "", None, "3"),
    (b"+++ killed by SIGSEGV (core dumped) +++", Kind.KILLED, "", None, "SIGSEGV"),
    (b"+++ superseded by execve in pid 6245 +++", Kind.SUPERSEDED, "", None, "6245"),
    (b"--- SIGSEGV {si_signo=SIGSEGV, si_addr=0x7f} ---", Kind.SIGNAL, "", None, ""),
    (b"--- stopped by SIGSTOP ---", Kind.SIGNAL, "", None, ""),
    (b"madvise(0x7fd0adb5f000, 4096, MADV_D", Kind.FRAGMENT, "madvise", b"0x7fd0adb5f000, 4096, MADV_D", ""),
    (b"vfork(", Kind.FRAGMENT, "vfork", b"", ""),
]


@pytest.mark.parametrize(
    ("body", "kind", "name", "text", "detail"), KINDS, ids=[row[0][:30].decode() for row in KINDS]
)
def test_kind(body: bytes, kind: Kind, name: str, text: bytes | None, detail: str) -> None:
    """A body's kind, call and text are told with and without a prefix."""
    for prefix in (b"", b"7687  ", b"[pid  7687] ", b"7687  1795486234.021713 "):
        line = lex(prefix + body + b"\n")
        assert (line.kind, line.name, line.detail) == (kind, name, detail)
        assert line.text == (body if text is None else text) or name == "execve"


UNPREFIXED = [
    (b"strace: Process 6076 attached", Kind.NOTE),
    (b"/opt/strace-7.2/strace: Process 9 attached with 4 threads", Kind.NOTE),
    (b"[ Process PID=9152 runs in 32 bit mode. ]", Kind.NOTE),
    (b" > /usr/lib/ld.so.2(_dl_catch_error+0x77c7) [0x1fc47]", Kind.FRAME),
    (b"% time     seconds  usecs/call     calls    errors syscall", Kind.SUMMARY),
    (b"------ ----------- ----------- --------- --------- ----------------", Kind.SUMMARY),
    (b"System call usage summary for 32 bit mode:", Kind.SUMMARY),
    (b"", Kind.EMPTY),
    (b"   ", Kind.EMPTY),
    (b"hello = world", Kind.TEXT),
    (b"12 apples", Kind.TEXT),
    (b") = 0x7f6bbe274000", Kind.TEXT),
    (b", child_tidptr=0x7f6bbe294a10) = 6076", Kind.TEXT),
    (b" <unfinished ...>", Kind.TEXT),
]


@pytest.mark.parametrize(("line", "kind"), UNPREFIXED, ids=[row[0][:30].decode() for row in UNPREFIXED])
def test_lines_without_prefix(line: bytes, kind: Kind) -> None:
    """Notes, stack frames, the table and foreign text are told from calls."""
    assert lex(line).kind is kind


def test_colour_and_carriage_return_leave_no_trace() -> None:
    """A line of --color=always, or from a terminal, lexes as the plain one."""
    plain = lex(b"10500 mmap(NULL, 8192) = 0x7efe\n")
    coloured = (
        b"10500 \x1b[33mmmap\x1b[0m(\x1b[35mNULL\x1b[0m, \x1b[35m8192\x1b[0m)\x1b[0m = \x1b[32m0x7efe\x1b[0m\r\n"
    )
    assert lex(coloured) == plain


def test_the_table_ends_where_another_line_comes() -> None:
    """Rows count as the table only behind its head, and a call ends it."""
    rows = [
        b" 27.75    0.038542          25      1507       604 munmap",
        b"100.00    0.138913          27      5139       614 total",
    ]
    head = b"% time     seconds  usecs/call     calls    errors syscall"
    stream = Lexer()
    kinds = [line.kind for line in stream.lines([rows[0], head, *rows, b"", b"7  close(3) = 0", rows[0]])]
    assert kinds == [Kind.TEXT, *[Kind.SUMMARY] * 4, Kind.CALL, Kind.TEXT]


def test_any_bytes_are_some_kind_of_line() -> None:
    """No line of random bytes raises, and its text is made of the line's own bytes."""
    rng = random.Random(7)
    alphabet = [bytes([n]) for n in range(256)] + [
        b"[pid ",
        b"+++ ",
        b"<... ",
        b"--- ",
        b"mmap(",
        b") = 0",
        b" > ",
        b"1234567 ",
    ]
    for _ in range(3000):
        line = b"".join(rng.choices(alphabet, k=rng.randrange(40))).replace(b"\n", b"")
        assert lex(line).kind in Kind


def test_the_examples_in_the_docstrings_hold() -> None:
    """The lexer's doctests pass."""
    assert doctest.testmod(lexer).failed == 0


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/strace-logs.md shows the lexer at work."""
    text = (Path(__file__).parents[2] / "docs" / "strace-logs.md").read_text()
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example
    exec(example[1], {})
    assert capsys.readouterr().out.splitlines() == ["call 7687 1795486234021713000 munmap", "exited 7687 None 0"]
