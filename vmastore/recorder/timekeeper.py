"""How far a recording has come: which moment lies behind everything that has been handed over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from vmastore.recorder import tape
from vmastore.recorder.hold import waits_for_tracees
from vmastore.recorder.perf import Perf
from vmastore.recorder.spool import Spool, clock_pair
from vmastore.recorder.watch import Point, Watch

# A record's time is read a little before it can be seen in its buffer; what is older than this can be.
SLACK_NS = 10_000_000
_LOG_BYTES = 1 << 18  # of log after which it is time to say how far it has come
_MARK_BYTES = 1 << 20  # of perf records
_IDLE_S = 1.0  # how often it is said while nothing happens


class Timekeeper:
    """Hands over perf's records, and says what is complete up to which moment."""

    def __init__(self, strace_pid: int, watch: Watch, spool: Spool, perf: Perf | None, *, copies: bool) -> None:
        """copies: the log has the calls of COPYING."""
        self._copies = copies
        self._strace = strace_pid
        self._watch = watch
        self._spool = spool
        self._perf = perf
        self._size = 0  # of the log when this was said last
        self._marks = 0  # bytes handed over since then
        self._said = 0.0
        self._was_quiet = False

    def start(self, pid: int) -> None:
        """Let perf begin to count a process, and say how its records are to be read."""
        self._clock(quiet=False)
        perf = self._perf
        if perf is not None:
            perf.start(pid, tracer=self._strace)
        layout = perf.layout.to_json() if perf is not None and perf.layout is not None else None
        why_not = perf.why_not if perf is not None else None
        self._spool.tape.put(tape.LAYOUT, json.dumps([layout, why_not, self._strace, self._copies]).encode())

    def descriptors(self) -> list[int]:
        """What is ready to be read when perf's buffers fill."""
        return self._perf.descriptors() if self._perf is not None else []

    def due(self) -> bool:
        """Whether so much has come that it should be said how far."""
        self.drain()
        return self._spool.size - self._size > _LOG_BYTES or self._marks > _MARK_BYTES

    def drain(self) -> None:
        """Hand over what perf has recorded."""
        data = self._perf.drain() if self._perf is not None else b""
        if data:
            self._marks += len(data)
            self._spool.tape.put(tape.MARKS, data)

    def mark(self, drain: Callable[[], list[Point]], take: Callable[[list[Point]], None]) -> None:
        """Say how far everything has come. drain: read what strace has written; take: observe the points of that."""
        now = clock_pair()
        waits = waits_for_tracees(self._strace)  # it has written what had happened until here
        points = drain()
        if points:
            take(points)
        self.drain()
        quiet = waits and not points and self._watch.launched
        news = self._spool.size != self._size or self._marks > 0 or quiet != self._was_quiet
        if news or time.monotonic() > self._said + _IDLE_S:
            self._clock(now, quiet=quiet)

    def _clock(self, now: tuple[int, int] | None = None, *, quiet: bool) -> None:
        monotonic, wall = now or clock_pair()
        marks = monotonic if self._perf is None or self._perf.mode is None or self._perf.mode.monotonic else wall
        self._spool.tape.put(tape.CLOCK, tape.Clock(monotonic, wall, marks - SLACK_NS, quiet).pack())
        self._size, self._marks, self._was_quiet = self._spool.size, 0, quiet
        self._said = time.monotonic()

    def stop(self) -> None:
        """All has ended: hand over the rest."""
        self.drain()
        if self._perf is not None:
            self._perf.stop()
        self._clock(quiet=False)
