"""Lexer of strace output: one line of bytes in, its prefix and its kind out.

It knows every option that changes a line's shape (-f, -o, -Y, -t/-tt/-ttt, -r, -n, -i, -k, -C,
--secontext, --color) and none of the calls. Nothing is joined or decoded here: see `joiner` and
`arguments` for that. A line that is none of strace's is of kind TEXT; no input raises.

    >>> lex(b"7687  02:10:34.5 munmap(0x7f00, 4096) = 0")[:3]
    (<Kind.CALL: 'call'>, 7687, None)
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Kind(enum.Enum):
    """What a line is."""

    CALL = "call"  # name(args) = result
    ENTRY = "entry"  # name(args <unfinished ...>, also <detached ...> and <pid changed to N ...>
    RESUMED = "resumed"  # <... name resumed>args) = result
    FRAGMENT = "fragment"  # a call that ends in the middle: cut by a note, by the tracee's text, or truncated
    SIGNAL = "signal"  # --- SIGSEGV {...} ---, --- stopped by SIGSTOP ---
    EXITED = "exited"  # +++ exited with N +++
    KILLED = "killed"  # +++ killed by SIGNAL +++
    SUPERSEDED = "superseded"  # +++ superseded by execve in pid N +++
    NOTE = "note"  # strace: Process N attached, [ Process PID=N runs in 32 bit mode. ]
    FRAME = "frame"  # a line of a stack trace (-k)
    SUMMARY = "summary"  # a line of the table of -C
    TEXT = "text"  # not strace's: the tracee's output, or the rest of a call that was cut
    EMPTY = "empty"


class Clock(enum.Enum):
    """What `Line.time_ns` counts from."""

    EPOCH = "epoch"  # -ttt
    DAY = "day"  # -t, -tt: midnight
    PREVIOUS = "previous"  # -r: the line before


class Line(NamedTuple):
    """One line. Fields that its shape does not have are None."""

    kind: Kind
    tid: int | None  # as printed: None on a line without a pid
    comm: str | None  # -Y
    clock: Clock | None
    time_ns: int | None
    number: int | None  # -n: the system call's number
    ip: int | None  # -i: the instruction pointer
    name: str  # the call (CALL, ENTRY, RESUMED, FRAGMENT), else ""
    # After "name(" or "resumed>", without the newline and without "<unfinished ...>"; for the other kinds the
    # whole line after its prefix
    text: bytes
    # ENTRY: "unfinished", "detached" or the pid it changed to; SUPERSEDED: the pid that runs execve;
    # EXITED: the status; KILLED: the signal's name
    detail: str = ""


_COMM = rb"<(?:[^<>\\]|\\.)*>"
_PREFIX = re.compile(
    rb"(?:\[pid +(?P<bracketed>\d{1,7})(?P<comm1>" + _COMM + rb")?\] |"
    rb"(?P<plain>\d{1,7})(?P<comm2>" + _COMM + rb")? +(?=[^ =]))?"
    rb"(?:\[(?P<context>[A-Za-z_][\w:.,-]*)\] )?"
    rb"(?:(?P<day>\d\d:\d\d:\d\d(?:\.\d{1,9})?) |(?P<epoch>[0-8]\d{7,9}(?:\.\d{1,9})?) )?"
    rb"(?:\(\+ *(?P<delta>\d{1,9}(?:\.\d{1,9})?)\) | {0,6}(?P<relative>\d{1,7}(?:\.\d{1,9})?) )?"
    rb"(?:\[ *(?P<number>-?\d{1,10})\] )?"
    rb"(?:\[(?P<ip>[0-9a-f]{16}|[0-9a-f]{8}|\?{8,16})\] )?"
)
_CALL = re.compile(rb"([A-Za-z_][A-Za-z0-9_]{0,63})\(")
_RESUMED = re.compile(rb"<\.\.\. ([A-Za-z_][A-Za-z0-9_]{0,63}) resumed>")
# a result as strace prints it, anywhere: where exactly the call ends is the parser's business
_RESULT = re.compile(rb"\)\s*= (?:-?\d|\?)")
_OPEN_END = re.compile(rb" ?<(unfinished|detached|pid changed to (\d{1,7})) \.\.\.>\Z")
_ENDS = {
    Kind.EXITED: re.compile(rb"\+\+\+ exited with (\d{1,5}) \+\+\+"),
    Kind.KILLED: re.compile(rb"\+\+\+ killed by (\S+)(?: \(core dumped\))? \+\+\+"),
    Kind.SUPERSEDED: re.compile(rb"\+\+\+ superseded by execve in pid (\d{1,7}) \+\+\+"),
}
_NOTE = re.compile(
    rb"(?:[^\s(,]*/)?[\w.+-]*strace[\w.+-]*: |\[ Process PID=\d{1,7} runs in .* mode\. \]|"
    rb"Process \d{1,7} (?:attached|detached|resumed|suspended)"
)
_COLUMN = rb"(?:% time|seconds|usecs/call|calls|errors|syscall|shortest|longest)"  # -U chooses, in any order
_SUMMARY_HEAD = re.compile(
    rb"%s(?: +%s)+ *\Z|%% time +seconds|System call usage summary for|(?:-{5,6} +)?-{11} -{11} -+ "
    % (_COLUMN, _COLUMN)
)
_SUMMARY_ROW = re.compile(rb" *(?:[0-9.]+|[a-z_0-9]+)(?: +(?:[0-9.]+|[a-z_0-9]+))+ *\Z|[- ]*\Z")
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


def lex(line: bytes) -> Line:
    """Lex one line, with or without its newline. The table of -C needs `Lexer`."""
    line = without_colour(line).rstrip(b"\r\n")
    if line.startswith(b" > "):
        return _bare(Kind.FRAME, line)
    if _NOTE.match(line):
        return _bare(Kind.NOTE, line)
    if _SUMMARY_HEAD.match(line):
        return _bare(Kind.SUMMARY, line)
    return _lex_prefixed(line)


def without_colour(text: bytes) -> bytes:
    """The text without the escapes of --color."""
    return _COLOUR.sub(b"", text) if b"\x1b" in text else text


def _bare(kind: Kind, text: bytes) -> Line:
    return Line(kind, None, None, None, None, None, None, "", text)


def _lex_prefixed(line: bytes) -> Line:
    prefix = _PREFIX.match(line)
    assert prefix is not None  # every part is optional
    if prefix.end():
        body = _lex_body(line[prefix.end() :])
        if body.kind is not Kind.TEXT or prefix["bracketed"] or prefix["epoch"] or prefix["day"]:
            return _with_prefix(body, prefix)
    return _lex_body(line)


def _lex_body(body: bytes) -> Line:
    call = _CALL.match(body)
    if call:
        return _lex_call(call[1].decode(), body[call.end() :])
    head = body[:4]
    if head == b"<...":
        resumed = _RESUMED.match(body)
        if resumed:
            return _bare(Kind.RESUMED, body[resumed.end() :])._replace(name=resumed[1].decode())
    elif head == b"+++ ":
        for kind, pattern in _ENDS.items():
            end = pattern.match(body)
            if end:
                return _bare(kind, body)._replace(detail=end[1].decode("ascii", "replace"))
    elif head == b"--- " and body.endswith(b" ---"):
        return _bare(Kind.SIGNAL, body)
    return _bare(Kind.TEXT if body.strip() else Kind.EMPTY, body)


def _lex_call(name: str, text: bytes) -> Line:
    open_end = _OPEN_END.search(text)
    if open_end:
        entry = _bare(Kind.ENTRY, text[: open_end.start()])
        return entry._replace(name=name, detail=(open_end[2] or open_end[1]).decode())
    kind = Kind.CALL if _RESULT.search(text) else Kind.FRAGMENT
    return _bare(kind, text)._replace(name=name)


def _with_prefix(body: Line, prefix: re.Match[bytes]) -> Line:
    tid = prefix["bracketed"] or prefix["plain"]
    clock, time_ns = _clock(prefix)
    comm = prefix["comm1"] or prefix["comm2"]
    ip = prefix["ip"]
    return body._replace(
        tid=int(tid) if tid else None,
        comm=comm[1:-1].decode("utf-8", "replace") if comm else None,
        clock=clock,
        time_ns=time_ns,
        number=int(prefix["number"]) if prefix["number"] else None,
        ip=int(ip, 16) if ip and b"?" not in ip else None,
    )


def _clock(prefix: re.Match[bytes]) -> tuple[Clock | None, int | None]:
    """The line's time: absolute where there is one (-tt -r prints both)."""
    if prefix["epoch"]:
        return Clock.EPOCH, seconds_ns(prefix["epoch"])
    if prefix["day"]:
        return Clock.DAY, day_ns(prefix["day"])
    if prefix["relative"]:
        return Clock.PREVIOUS, seconds_ns(prefix["relative"])
    return None, None


def seconds_ns(text: bytes) -> int:
    """``b"1795486233.004242"`` in nanoseconds.

    >>> seconds_ns(b"0.000063")
    63000
    """
    seconds, _, fraction = text.partition(b".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, b"0"))


def day_ns(text: bytes) -> int:
    """``b"02:10:34.239453"`` in nanoseconds since midnight."""
    hours, minutes, seconds = text.split(b":")
    return (int(hours) * 3600 + int(minutes) * 60) * 10**9 + seconds_ns(seconds)


class Lexer:
    """Lex a stream of lines: `lex` plus the one thing that needs memory, the rows of the -C table."""

    def __init__(self) -> None:
        self._in_summary = False

    def lex(self, line: bytes) -> Line:
        """Lex the next line of the stream."""
        lexed = lex(line)
        if lexed.kind is Kind.SUMMARY:
            self._in_summary = True
        elif self._in_summary:
            bare = line.rstrip(b"\r\n")
            if lexed.kind in (Kind.TEXT, Kind.EMPTY) and _SUMMARY_ROW.match(bare):
                return _bare(Kind.SUMMARY, bare)
            self._in_summary = False
        return lexed

    def end_summary(self) -> None:
        """Expect no more rows of the table: another line was seen elsewhere."""
        self._in_summary = False

    def lines(self, lines: Iterable[bytes]) -> Iterator[Line]:
        """Lex every line, in order."""
        return map(self.lex, lines)
