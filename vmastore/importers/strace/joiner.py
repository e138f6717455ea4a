"""From lines to whole calls: halves joined per thread, notes cut out of calls, glued text cut off.

Records come in the order of completion. What a line means for processes and files is the
tracker's business.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from vmastore.importers.strace import scan
from vmastore.importers.strace.account import Account
from vmastore.importers.strace.arguments import SIMPLE
from vmastore.importers.strace.clock import TimeKeeper
from vmastore.importers.strace.lexer import Kind, Lexer, Line, lex, without_colour
from vmastore.importers.strace.numbers import real_name
from vmastore.importers.strace.scan import Result, Unparsed
from vmastore.importers.strace.tids import CLONES, Tids


class Called(NamedTuple):
    """A call that returned."""

    tid: int
    name: str  # the kernel's name
    tokens: list[bytes]  # its arguments as printed
    result: Result
    time_ns: int | None  # of its return
    line: int
    offset: int

    @property
    def first(self) -> bytes:
        """Its first argument as printed; empty if the line shows none."""
        return self.tokens[0] if self.tokens else b""


class Opened(NamedTuple):
    """The entry half of a call that makes a thread: the child may be seen before its return."""

    tid: int
    name: str
    tokens: list[bytes]
    time_ns: int | None
    line: int
    offset: int


class Happened(NamedTuple):
    """Anything but a call: a signal, an end, a note."""

    tid: int
    kind: Kind
    text: bytes
    detail: str
    time_ns: int | None
    line: int
    offset: int


Record = Called | Opened | Happened


# A call that has not returned: its name as printed, its arguments so far, line, offset, and "unfinished" or the tid
# under which an execve returns. A plain tuple: one is made for every cut call.
Pending = tuple[str, bytes, int, int, str]


class _Fragment(NamedTuple):
    """A line that ended inside a call, to be continued by the next."""

    raw: bytes
    tid: int
    line: int
    offset: int
    parts: int


# a note at the end of a line; the path in strace's argv[0] may stand before it
_NOTE_INSIDE = re.compile(
    rb"strace(?:-[\w.]{1,40})?: Process \d{1,7} (?:attached|detached)(?: with \d{1,7} threads)?\Z"
)
_PATH_BEFORE = re.compile(rb'/[^\s()|,"]*/\Z')
_NOTE_TID = re.compile(rb"\b(?:Process |PID=)(\d{1,7})")
_FRAME_INSIDE = re.compile(rb" > /[^\n]{1,4096}\[0x[0-9a-f]{1,16}\]\Z")
_TAIL = re.compile(rb"\)\s*= ")
# where strace's text can begin inside a line that begins with the tracee's
_GLUED = re.compile(
    rb"\[pid +\d{1,7}\] |<\.\.\. [a-z0-9_]{1,64} resumed>|"
    rb"--- SIG[A-Z0-9_+]{1,20} \{|\+\+\+ (?:exited with|killed by) |(?:%s)\("
    % b"|".join(name.encode() for name in sorted(SIMPLE, key=lambda name: (-len(name), name)))
)
_MAX_PARTS, _MAX_JOINED = 1000, 1 << 20  # lines and bytes of one call that the tracee's text cuts up
_MAX_GLUED = 16  # places in a line of text where a call is looked for


def _note_begins(raw: bytes) -> int:
    """Where strace's note begins in a line that something else begins; 0 if there is none."""
    low = max(0, len(raw) - 200)
    note = _NOTE_INSIDE.search(raw, low)
    if not note:
        return 0
    low = max(0, note.start() - 4096)
    path = _PATH_BEFORE.search(raw[low : note.start()].rpartition(b" ")[2])
    return note.start() - (len(path[0]) if path else 0)


class Joiner:
    """Join the lines of one log. `opened` holds the calls in flight, by tid."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.opened: dict[int, Pending] = {}
        self.tids = Tids()
        self._lexer = Lexer()
        self.times = TimeKeeper()
        self._fragment: _Fragment | None = None
        self._framed = False  # whether the line before gave records, whose stack may follow
        self.last_entry: int | None = None
        self._told: int | None = None  # the thread whose cut call was given as Opened already
        self.shape: Line | None = None  # the last line that had a call: what lines of this log look like

    @property
    def busy(self) -> bool:
        """Whether the next line may be the rest of the last one."""
        return self._fragment is not None

    def end_summary(self) -> None:
        """Lines that did not come through `feed` ended the table of -C."""
        self._lexer.end_summary()

    def feed(self, raw: bytes, number: int, offset: int) -> list[Record]:
        """The records that the next line completes."""
        raw = raw.rstrip(b"\r\n")
        if raw.startswith(b" > "):
            return self._frame(raw, number, offset)
        records = self._feed(raw, number, offset)
        self._framed = bool(records)
        return records

    def _feed(self, raw: bytes, number: int, offset: int) -> list[Record]:
        cut = _note_begins(raw) if b": Process " in raw else 0
        if cut:
            return self._note_inside(raw[:cut], raw[cut:], number, offset)
        frame = _FRAME_INSIDE.search(raw) if raw.endswith(b"]") else None
        if frame:  # the stack of another thread, which exits
            line = lex(raw[: frame.start()])
            if line.kind is Kind.FRAGMENT:
                return self._entry(self.tids.of(line), line, number, offset)
        line = self._lexer.lex(raw)
        if self._fragment is not None and line.kind is not Kind.NOTE:
            return self._continue(self._fragment, raw, line, number, offset)
        return self._take(raw, line, number, offset)

    def _frame(self, raw: bytes, number: int, offset: int) -> list[Record]:
        """A line of a stack: that of the line before it, if that one was an event's."""
        self._drop_fragment()
        self.account.frames += 1
        return [Happened(0, Kind.FRAME, raw, "", None, number, offset)] if self._framed else []

    def feed_cut(self, raw: bytes, number: int, offset: int) -> list[Record]:
        """The log's last line, which has no newline: strace was killed, or the log goes on.

        A result at the very end of it may lack digits, so that a call is complete only if something
        is printed behind it.
        """
        line = lex(raw)
        if line.kind not in (Kind.CALL, Kind.RESUMED) or raw.endswith((b">", b")")):
            return self.feed(raw, number, offset)
        self._drop_fragment()
        tid = self.tids.of(line)
        if line.kind is Kind.RESUMED:
            self.account.skip_line(tid, real_name(line.name), "truncated", number)
            return []
        self.never_resumed(tid)
        self.opened[tid] = (line.name, line.text, number, offset, "")
        self.account.halves += 1
        return []

    def finish(self) -> None:
        """Account for the calls that never returned."""
        self._drop_fragment()
        for tid in list(self.opened):
            self.never_resumed(tid)

    def never_resumed(self, tid: int) -> None:
        """Account for the call of `tid` that is in flight, if there is one."""
        pending = self.opened.pop(tid, None)
        if pending:
            self.account.skip_call(tid, real_name(pending[0]), "never-resumed", pending[2])

    # -- lines that were cut

    def _note_inside(self, front: bytes, note: bytes, number: int, offset: int) -> list[Record]:
        if self._fragment is not None:
            front = self._fragment.raw + front
        line = lex(front)
        records: list[Record] = []
        if line.kind is Kind.FRAGMENT or line.kind is Kind.RESUMED:
            tid = self.tids.of(line)
            self._fragment = _Fragment(front, tid, number, offset, 1)
            if line.name in CLONES:
                records.append(self._opened(tid, line, number, offset))
                self._told = tid
        return records + self._take(note, lex(note), number, offset)

    def _continue(self, fragment: _Fragment, raw: bytes, line: Line, number: int, offset: int) -> list[Record]:
        """The line after a cut one: its rest, else the cut call is one that has not returned."""
        joined = lex(fragment.raw + raw)
        complete = joined.kind in (Kind.CALL, Kind.ENTRY, Kind.RESUMED)
        small = fragment.parts < _MAX_PARTS and len(fragment.raw) < _MAX_JOINED
        if line.kind in (Kind.TEXT, Kind.EMPTY, Kind.SUMMARY) and small:
            if complete:
                self._fragment = None
                return self._take(fragment.raw + raw, joined, number, offset)
            self._fragment = fragment._replace(raw=fragment.raw + raw, parts=fragment.parts + 1)
            self.account.halves += 1
            return []
        self._drop_fragment()
        return self._take(raw, line, number, offset)

    def _drop_fragment(self) -> None:
        fragment, self._fragment = self._fragment, None
        if fragment is None:
            return
        line = lex(fragment.raw)
        self.never_resumed(fragment.tid)
        if line.kind is Kind.FRAGMENT:
            self.opened[fragment.tid] = (line.name, line.text, fragment.line, fragment.offset, "")

    # -- whole lines

    def _take(self, raw: bytes, line: Line, number: int, offset: int) -> list[Record]:
        kind = line.kind
        if kind is Kind.TEXT and line.tid is None:
            return self._text(raw, line, number, offset)
        if kind in (Kind.EMPTY, Kind.SUMMARY, Kind.TEXT):
            self.account.skip_line(line.tid, None, kind.value, number)
            return []
        if kind is Kind.NOTE:
            return self._note(line, number, offset)
        tid = self.tids.of(line)
        time_ns = self.times.ns(line.clock, line.time_ns)
        self.shape = line
        if kind is Kind.CALL:
            self.never_resumed(tid)
            return self._called(tid, line.name, line.text, time_ns, number, offset, entry=True)
        if kind is Kind.ENTRY:
            return self._entry(tid, line, number, offset)
        if kind is Kind.RESUMED:
            return self._resumed(tid, line, time_ns, number, offset)
        if kind is Kind.FRAGMENT:
            self._fragment = _Fragment(raw, tid, number, offset, 1)
            self.account.halves += 1
            return []
        return self._happened(tid, line, time_ns, number, offset)

    def _entry(self, tid: int, line: Line, number: int, offset: int) -> list[Record]:
        self.never_resumed(tid)
        self.opened[tid] = (line.name, line.text, number, offset, line.detail)
        self.last_entry = tid
        self.account.halves += 1
        told, self._told = self._told, None
        if real_name(line.name) in CLONES and told != tid:
            return [self._opened(tid, line, number, offset)]
        return []

    def _opened(self, tid: int, line: Line, number: int, offset: int) -> Opened:
        name = real_name(line.name)
        time_ns = line.time_ns if line.clock is not None and line.clock.value == "epoch" else None
        return Opened(tid, name, scan.split_list(line.text), time_ns, number, offset)

    def _resumed(self, tid: int, line: Line, time_ns: int | None, number: int, offset: int) -> list[Record]:
        pending = self.opened.get(tid)
        if (pending is None or pending[0] != line.name) and line.name == "execve":
            pending = self._execve_of_another(tid) or pending
        if pending is None or pending[0] != line.name:
            self.account.skip_line(tid, real_name(line.name), "no-entry", number)
            return []
        if not _TAIL.search(line.text):  # cut in its middle: the call stays in flight
            self.account.skip_line(tid, real_name(line.name), "truncated", number)
            return []
        self.opened.pop(tid, None)
        text = without_colour(pending[1] + line.text)
        return self._called(tid, line.name, text, time_ns, number, offset, entry=False)

    def _execve_of_another(self, tid: int) -> Pending | None:
        """The execve that another thread began and that returns under its leader's tid."""
        for other, pending in self.opened.items():
            if pending[4] == str(tid):
                return self.opened.pop(other)
        return None

    def _called(
        self, tid: int, name: str, text: bytes, time_ns: int | None, number: int, offset: int, *, entry: bool
    ) -> list[Record]:
        """entry: whether `time_ns` is that of the call's entry, so that its duration is to be added."""
        name = real_name(name)
        try:
            tokens, result = parse_call(text)
        except Unparsed:
            self.account.skip_line(tid, name, "unparsed", number)
            return []
        if result.value is None:
            self.account.skip_line(tid, name, "no-result", number)
            return []
        if entry and time_ns is not None and result.duration_ns is not None:
            time_ns += result.duration_ns
        self.tids.called(name, result)
        return [Called(tid, name, tokens, result, time_ns, number, offset)]

    def _happened(self, tid: int, line: Line, time_ns: int | None, number: int, offset: int) -> list[Record]:
        if line.kind is Kind.SUPERSEDED:
            leaver = int(line.detail)
            self.never_resumed(tid)
            if leaver in self.opened:
                self.opened[tid] = self.opened.pop(leaver)
            self.tids.gone(leaver)
        elif line.kind is not Kind.SIGNAL:
            self.never_resumed(tid)
            self.tids.gone(tid)
        return [Happened(tid, line.kind, line.text, line.detail, time_ns, number, offset)]

    def _note(self, line: Line, number: int, offset: int) -> list[Record]:
        named = _NOTE_TID.search(line.text)
        if not named or not (b"attached" in line.text or b"detached" in line.text):
            self.account.skip_line(int(named[1]) if named else None, None, "note", number)
            return []
        tid = int(named[1])
        if b"attached" in line.text:
            self.tids.attached(tid)
        return [Happened(tid, Kind.NOTE, line.text, "", None, number, offset)]

    def _text(self, raw: bytes, line: Line, number: int, offset: int) -> list[Record]:
        """Text without a pid: the rest of a half that lost its head (-z), glued text, or just text."""
        last = self.last_entry
        if last is not None and last in self.opened and _TAIL.match(raw):
            pending = self.opened.pop(last)
            return self._called(last, pending[0], pending[1] + raw, None, number, offset, entry=False)
        for found in itertools.islice(_GLUED.finditer(raw, 1), _MAX_GLUED):
            glued = lex(raw[found.start() :])
            if self._plausible(glued):
                return self._take(raw[found.start() :], glued, number, offset)
        self.account.skip_line(None, None, "text", number)
        return []

    def _plausible(self, line: Line) -> bool:
        """Whether what was found inside of text is strace's, as far as can be told."""
        if line.kind is Kind.CALL and line.name in SIMPLE:
            try:
                tokens, _ = parse_call(line.text)
                for memo, token in zip(SIMPLE[line.name], tokens, strict=False):
                    memo[token]
            except Unparsed:
                return False
            return len(tokens) in (len(SIMPLE[line.name]), 4)
        if line.kind is Kind.RESUMED:
            return self.opened.get(self.tids.of(line), ("",))[0] == line.name
        return line.kind in (Kind.EXITED, Kind.KILLED, Kind.SIGNAL) or (line.tid is not None and bool(line.name))


def parse_call(text: bytes) -> tuple[list[bytes], Result]:
    """Arguments and result of ``args) = result``; raises Unparsed."""
    try:
        tokens, rest = scan.split_call(text)
        return tokens, scan.parse_result(rest)
    except Unparsed:
        # the tracee's text inside the call: what stands behind the last parenthesis is the result
        tails = list(_TAIL.finditer(text))
        if not tails:
            raise
        last = tails[-1].start()
        return scan.split_list(text[:last]), scan.parse_result(text[last + 1 :])
