"""The short way for the commonest lines: memory calls whose arguments are numbers and nothing else.

A line that is not exactly of that form goes the general way (the joiner, `step`), and so does
every line while a call is cut in two or a new thread's parent is looked for. Both ways give the same
events; only the speed differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, count

from vmastore.events.types import Event
from vmastore.importers.processes import Thread
from vmastore.importers.strace.joiner import Called, Joiner
from vmastore.importers.strace.lexer import Clock, Line, day_ns, seconds_ns
from vmastore.importers.strace.lookahead import Lookahead
from vmastore.importers.strace.scan import Unparsed, split_call
from vmastore.importers.strace.short import HALF, Firsts, Halves, Heads, Results, WholeResults, forms
from vmastore.importers.strace.tracker import Tracker
from vmastore.importers.strace.values import MEMO_LIMIT, Memo

# the unit of a time since the epoch, by its length without the point; 0: the lengths of a time of day
_SCALE = {13: 1_000_000, 16: 1_000, 19: 1, 14: 0, 8: 0}
_DURATION = re.compile(rb" <\d+(?:\.\d+)?>\Z")  # -T
_LASTED = re.compile(rb"(\d{1,8}(?:\.\d{1,9})?)>\Z")
_DAY = re.compile(rb"\d\d:\d\d:\d\d(?:\.\d{1,9})?\Z")
_SHORT = 40  # bytes
_ADDRESS = 18  # bytes of the longest address as printed; one less: of 63 bits at most
_UNFINISHED = b" <unfinished ...>"
_END_OF_TIME = b"9"  # 2255: nanoseconds since the epoch must fit into 63 bits
_GREATER_THAN, _POINT = b">."
_new = tuple.__new__  # a NamedTuple without the cost of its keyword arguments


class FastPath:
    """Reads lines of one log: the short way where it can, else by `step`."""

    def __init__(
        self, joiner: Joiner, tracker: Tracker, lookahead: Lookahead, step: Callable[[bytes, int, int], None]
    ) -> None:
        self._joiner = joiner
        self._tracker = tracker
        self._lookahead = lookahead
        self._step = step
        self._prefixes: dict[bytes, Thread] = {}
        self._firsts = Firsts()
        self._results = Results()
        calls = forms(self._results)
        self._heads = Heads(self._prefixes, calls)
        self._halves = Halves(self._prefixes, calls)
        self._stamp = 0  # bytes of a time; 0: lines have none
        self._durations = False
        self._changes = -1
        self._last = 0  # the last line that was not of the short form
        self._whole = WholeResults()
        self._duration = Memo(_seconds)

    def run(self, lines: Sequence[bytes], first: int, end: int) -> None:
        """Read lines, without their newlines, from line number `first` at byte `end` on."""
        heads, second, results, duration = self._heads, self._halves, self._results, self._duration
        tracker, joiner, account = self._tracker, self._joiner, self._tracker.account
        firsts, head_of, opened, births, out = self._firsts, heads.get, joiner.opened, tracker.births, tracker.out
        stamped, durations = self._stamp, self._durations
        seq, halves, generals = tracker.seq, 0, 0
        begins = accumulate(map(len, lines), initial=end - first)  # less the number of the line: the newlines
        for number, line, begin in zip(count(first), lines, begins):
            try:
                head, _, text = line.partition(b"(")
                ts = None
                if stamped:
                    shown, _, printed = head.rpartition(b" ")
                    stamp, head = shown[-stamped:], shown[:-stamped] + printed
                known = head_of(head)
                if known is not None:
                    thread, tid, name, rests, answers, tail = known
                    if tail is not None and head != line:
                        raise Unparsed
                else:
                    head, found, tail = line.partition(b" resumed>")
                    if not found:
                        raise Unparsed
                    if stamped:
                        shown, _, printed = head.partition(b" <... ")
                        stamp, head = shown[-stamped:], shown[:-stamped] + HALF + printed
                    thread, tid, name, rests, answers, _ = second[head]
                    if answers is not None and not (
                        stamped or durations or len(tail) > _SHORT
                    ):  # such a line is repeated whole
                        heads.keep(line, (thread, tid, name, rests, answers, tail))
                if stamped:
                    unit = _SCALE[len(digits := stamp.replace(b".", b""))]
                    epoch = unit and digits.isdigit() and stamp[10] == _POINT and stamp < _END_OF_TIME
                    ts = int(digits) * unit if epoch else self._day(stamp)
                if tail is None:
                    if tid in opened:
                        raise Unparsed
                    if text[-1] == _GREATER_THAN and text.endswith(_UNFINISHED):
                        opened[tid] = (name, text[:-17], number, begin + number, "unfinished")
                        joiner.last_entry = tid
                        halves += 1
                        continue
                else:
                    pending = opened[tid]
                    if pending[0] != name:
                        raise Unparsed
                    text = pending[1] + tail
                if durations:
                    call, timed, last = text.rpartition(b" <")
                    if timed:
                        text, lasted = call, duration[last]
                        if ts is not None and tail is None:
                            ts += lasted
                if answers is None:
                    text, _, answer = text.partition(b")")
                    one, _, asked = text.partition(b", ")
                    rest, word = rests[asked], answer[3:]
                    if answer[:5] == b" = 0x" and len(word) < _ADDRESS and word.isalnum() and word.islower():
                        result, more = int(word, 16), None  # ever new ones: nothing to remember
                    else:
                        result, more = results[answer]
                else:
                    one, _, asked = text.partition(b", ")
                    rest, result, more = answers[asked]
                addr = int(one, 16) if one[:2] == b"0x" and len(one) <= _ADDRESS else firsts[one]
                mm = thread.mm
                if births or not mm:
                    raise Unparsed
                if tail is not None:
                    del opened[tid]
                seq += 1
                if more is None:
                    out.append((seq, mm, thread.pid, tid, ts, name, addr, rest, result, number, begin + number))
                else:
                    args, (errno, injected) = (addr, *rest.values), more
                    value = None if errno else result
                    row = (seq, mm, thread.pid, tid, ts, name, args, value, errno, None, injected, None)
                    out.append(_new(Event, (*row, number, begin + number)))
            except (Unparsed, KeyError, ValueError, IndexError):
                generals += 1
                seq = self._general(seq, line, number, begin + number)
                stamped, durations = self._stamp, self._durations
        tracker.seq = seq
        account.lines, account.halves = account.lines + len(lines), account.halves + halves
        account.recorded += len(lines) - halves - generals

    def _general(self, seq: int, line: bytes, number: int, begin: int) -> int:
        """Read a line that is not of the short form; takes and returns the sequence number reached."""
        self._tracker.seq = seq
        if number != self._last + 1:
            self._joiner.end_summary()
        self._last = number
        call = self._call(line, number, begin)
        if call is None:
            self._step(line, number, begin)
            self._learn(line)
        else:
            self._joiner.end_summary()
            self._tracker.account.recorded += 1
            self._tracker.record(call)
        return self._tracker.seq

    def _call(self, line: bytes, number: int, begin: int) -> Called | None:
        """A whole call with any arguments, of a line whose prefix is known; None for any other line."""
        try:
            head, _, rest = line.partition(b"(")
            stamp, last = b"", b"0>"
            if self._stamp:
                shown, _, name = head.rpartition(b" ")
                stamp, head = shown[-self._stamp :], shown[: -self._stamp] + name
            _, tid, call, *_ = self._heads[head]
            if tid in self._joiner.opened or rest.endswith(b"...>") or b"\x1b" in line:
                return None
            tokens, tail = split_call(rest)
            if self._durations:
                tail, timed, last = tail.rpartition(b" <")
                tail, last = (tail, last) if timed else (last, b"0>")
            result = self._whole[tail]
            lasted = self._duration[last]
            time_ns = self._time(stamp) + lasted if stamp else None
        except (Unparsed, KeyError, ValueError, IndexError):
            return None
        return Called(tid, call, tokens, result, time_ns, number, begin)

    def _time(self, stamp: bytes) -> int:
        digits = stamp.replace(b".", b"")
        unit = _SCALE[len(digits)]
        epoch = unit and digits.isdigit() and stamp[10] == _POINT and stamp < _END_OF_TIME
        return int(digits) * unit if epoch else self._day(stamp)

    def _day(self, stamp: bytes) -> int:
        if not _DAY.match(stamp):
            raise Unparsed("no time of day")
        return self._joiner.times.ns(Clock.DAY, day_ns(stamp)) or 0

    def _learn(self, line: bytes) -> None:
        """What the last line of the general way shows about the lines to come."""
        joiner, processes = self._joiner, self._tracker.processes
        shape = joiner.shape
        lone = shape is not None and shape.tid is None
        if processes.changes != self._changes or lone or b"" in self._prefixes:
            self._changes = processes.changes
            self._forget()
        if shape is None or joiner.busy or self._lookahead.holding or not _readable(shape):
            self._forget()
            return
        self._durations = self._durations or bool(_DURATION.search(line))
        if shape.tid is None:
            prefix = b""
            thread = processes.threads.get(-1 if joiner.tids.lone is None else joiner.tids.lone)
        else:
            prefix = (b"[pid %5d] " if line.startswith(b"[pid") else b"%d ") % shape.tid
            thread = processes.threads.get(shape.tid)
        if not line.startswith(prefix):
            return
        rest = line[len(prefix) :].lstrip(b" ")
        self._stamp = 0 if shape.clock is None else rest.find(b" ")
        if thread is not None and len(self._prefixes) < MEMO_LIMIT:
            self._prefixes[line[: len(line) - len(rest)]] = thread

    def _forget(self) -> None:
        for remembered in (self._prefixes, self._heads, self._halves):
            remembered.clear()


def _seconds(text: bytes) -> int:
    """What is left of a duration (-T) without its " <"."""
    duration = _LASTED.match(text)
    if not duration:
        raise Unparsed("no duration")
    return seconds_ns(duration[1])


def _readable(shape: Line) -> bool:
    """Whether the prefix is one that `run` cuts off: a pid and a time at most."""
    plain = shape.comm is None and shape.number is None and shape.ip is None
    return plain and shape.clock is not Clock.PREVIOUS
