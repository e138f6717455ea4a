"""The stream of a recording, taken apart: lines of the log, marks in order, observations.

Each is read no further than merging needs; what comes with it of the others waits here.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import Any

from vmastore.importers.faults import ClockMap
from vmastore.recorder import tape
from vmastore.recorder.loglines import LogLine, Quiet, read_line
from vmastore.recorder.marks import Mark, Passed
from vmastore.recorder.perf import Layout
from vmastore.recorder.records import Decoder
from vmastore.recorder.shots import Shots
from vmastore.recorder.spool import read_shot


class Feed:
    """The sources for merging, from the messages of a recording that runs or has ended."""

    def __init__(self, messages: Iterator[tape.Message]) -> None:
        self._messages = messages
        self.shots = Shots(more=self._pull)
        self.layout: Layout | None = None
        self.why_not: str | None = None  # why there are no faults, or no better ones
        self.strace_pid = 0
        self.copies = False  # the log has the calls of COPYING
        self.begin_ns = 0  # the first reading of the wall clock
        self.end: dict[str, Any] | None = None  # a Result; None: it has not ended, or not as it should
        self.late = 0  # marks that came after it had been said that all of their time had been given
        self._lines: deque[LogLine | Quiet] = deque()
        self._number = self._offset = 0  # of the last line read; of the rest
        self._rest: list[bytes] = []  # the pieces of the line that has not ended
        self._marks: deque[Mark | Passed] = deque()
        self._raw: list[bytes] = []
        self._waiting: list[Mark] = []  # not yet passed
        self._passed_ns = 0
        self._pairs: list[tuple[int, int]] = []
        self._decoder: Decoder | None = None
        self._started = False
        self._over = False

    @property
    def line_count(self) -> int:
        """Lines of the log read so far."""
        return self._number

    @property
    def lost(self) -> int:
        """Records that the kernel could not hand over."""
        return self._decoder.lost if self._decoder is not None else 0

    def until_layout(self) -> None:
        """Read until it is known how faults are recorded."""
        while not self._started and self._pull():
            pass

    def lines(self) -> Iterator[LogLine | Quiet]:
        """The lines of the log; the last one need not have ended."""
        lines = self._lines
        while lines or self._pull():
            if lines:
                yield lines.popleft()

    def marks(self) -> Iterator[Mark | Passed]:
        """Faults and locks, in the wall clock's time and order."""
        marks = self._marks
        while marks or self._pull():
            if marks:
                yield marks.popleft()

    def drain(self) -> None:
        """Read what is left, and drop it."""
        while self._pull():
            self._lines.clear()
            self._marks.clear()

    def _pull(self) -> bool:
        """Take one message. False: there was none."""
        message = None if self._over else next(self._messages, None)
        if message is None:
            if not self._over:
                self._over = True
                self._last()
                return True
            return False
        kind, data = message
        if kind == tape.LOG:
            self._log(data)
        elif kind == tape.MARKS:
            self._raw.append(data)
        elif kind == tape.CLOCK:
            self._clock(tape.Clock.unpack(data))
        elif kind == tape.SHOT:
            self.shots.add(*read_shot(data))
        else:
            self._fact(kind, data)
        return True

    def _fact(self, kind: bytes, data: bytes) -> None:
        value = json.loads(data)
        if kind == tape.MISSED and value[0] == "exec":
            self.shots.miss(value[1])
        elif kind == tape.END:
            self.end = value
        elif kind == tape.LAYOUT:
            layout, self.why_not, self.strace_pid, *rest = value
            self.copies = bool(rest and rest[0])
            self._started = True
            if layout is not None:
                self.layout = Layout.from_json(layout)
                self._decoder = Decoder(self.layout)

    # -- the log

    def _log(self, data: bytes) -> None:
        first, *more = data.split(b"\n")
        self._rest.append(first)
        if more:
            self._line(b"".join(self._rest))
            for text in more[:-1]:
                self._line(text)
            self._rest = [more[-1]]

    def _line(self, text: bytes) -> None:
        self._number += 1
        self._lines.append(read_line(self._number, self._offset, text))
        self._offset += len(text) + 1

    def _quiet(self, until_ns: int) -> None:
        rest = b"".join(self._rest)
        begun = read_line(0, 0, rest) if rest else None
        if begun is not None and not begun.name:
            return
        place = Quiet(until_ns) if begun is None else Quiet(until_ns, begun.tid, begun.entry_ns or begun.time_ns)
        if self._lines and isinstance(self._lines[-1], Quiet):
            self._lines[-1] = place
        else:
            self._lines.append(place)

    # -- the marks

    def _clock(self, clock: tape.Clock) -> None:
        if not self.begin_ns:
            self.begin_ns = clock.wall_ns
        self._pairs.append((clock.monotonic_ns, clock.wall_ns))
        self._pass(clock.passed_ns)
        if clock.quiet:
            self._quiet(clock.wall_ns)

    def _pass(self, passed_ns: int) -> None:
        """Give out, in order, the marks that are older than `passed_ns`."""
        if passed_ns <= self._passed_ns or self._decoder is None:
            return
        waiting = self._decoded()
        waiting.sort(key=_time)
        if waiting and waiting[0].time_ns < self._passed_ns:
            self.late += sum(mark.time_ns < self._passed_ns for mark in waiting)
        given = next((at for at, mark in enumerate(waiting) if mark.time_ns >= passed_ns), len(waiting))
        clock = self._wall_clock()
        self._marks.extend(clock(waiting[:given]))
        self._marks.append(Passed(clock.time(passed_ns)))
        self._waiting = waiting[given:]
        self._passed_ns = passed_ns
        while len(self._pairs) > 2 and self._pairs[1][0] <= passed_ns:
            del self._pairs[0]

    def _decoded(self) -> list[Mark]:
        assert self._decoder is not None
        raw, self._raw = self._raw, []
        return self._waiting + [mark for data in raw for mark in self._decoder.marks(data)]

    def _wall_clock(self) -> _WallClock:
        monotonic = self.layout is not None and self.layout.mode.monotonic
        return _WallClock(ClockMap(self._pairs) if monotonic and self._pairs else None)

    def _last(self) -> None:
        """There are no more messages: what has been held back is all there is."""
        rest = b"".join(self._rest)
        self._rest = []
        if rest:
            self._line(rest)
        if self._decoder is not None:
            self._marks.extend(self._wall_clock()(sorted(self._decoded(), key=_time)))
            self._waiting = []


class _WallClock:
    """From the clock of the marks to the wall clock; None: they are the same."""

    def __init__(self, clock: ClockMap | None) -> None:
        self._clock = clock

    def time(self, time_ns: int) -> int:
        return time_ns if self._clock is None else self._clock(time_ns)

    def __call__(self, marks: list[Mark]) -> list[Mark]:
        clock = self._clock
        return marks if clock is None else [mark._replace(time_ns=clock(mark.time_ns)) for mark in marks]


def _time(mark: Mark) -> int:
    return mark.time_ns
