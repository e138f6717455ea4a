"""Reading address spaces at one point of the log.

strace is stopped, so that no traced thread gets past its next traced call, and everything it has written is
read. What is left to know are the calls in flight: those that are in the kernel are waited for (their
threads then stand at the call's exit, their work done); the one that strace may have been about to let go
is told by what strace itself was doing.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from vmastore.recorder import proc, rights
from vmastore.recorder.spool import Shot, Spool
from vmastore.recorder.watch import CHANGES_VMAS, Point, Watch

_SETTLE_S = 2.0  # how long calls in the kernel are waited for
_STOP_S = 5.0  # how long strace is waited for
_RETRIES = 6
_LET_GO = frozenset({7, 24})  # PTRACE_CONT, PTRACE_SYSCALL
_NOBODY = -1
_CUT_SHORT_NS = 1_000_000_000  # how much longer a call can have taken than strace says


class _Numbers(NamedTuple):
    """System call numbers of one architecture (and of those it also runs)."""

    wait4: int
    ptrace: int
    held_in: dict[str, frozenset[int]]  # by kind of point; without 11, i386's execve, which is munmap here


_NUMBERS = {
    "x86_64": _Numbers(61, 101, {"exec": frozenset({59, 322, 358, 520, 545}), "exit": frozenset({231, 252})}),
    "aarch64": _Numbers(260, 117, {"exec": frozenset({221, 281, 11, 387}), "exit": frozenset({94, 248})}),
}


def waits_for_tracees(strace_pid: int) -> bool:
    """Whether strace sleeps until something happens: all that had happened is then in its log.

    False also where that cannot be told.
    """
    numbers = _NUMBERS.get(platform.machine())
    doing = proc.syscall_of(strace_pid)
    return numbers is not None and doing is not None and doing[0] == numbers.wait4


class Flights(NamedTuple):
    """The threads whose call in flight has changed VMAs already, and those whose may have."""

    done: list[int]
    doubtful: list[int]


class _Caught(NamedTuple):
    """What was read of a process."""

    raw: proc.Raw
    ts_ns: int
    start_brk: int
    withheld: rights.Withheld | None


class Holder:
    """Takes the observations of one recording.

    drain: read what strace has written so far, and return the points that this showed. executed: the threads
    that have executed a program since it was asked last, for which the kernel has stopped strace.
    """

    def __init__(
        self,
        strace_pid: int,
        watch: Watch,
        spool: Spool,
        drain: Callable[[], list[Point]],
        executed: Callable[[], list[int]] = list,
    ) -> None:
        self._strace = strace_pid
        self._watch = watch
        self._spool = spool
        self._drain = drain
        self._executed = executed
        self._caught: dict[int, deque[_Caught]] = {}  # by thread: programs read before their exec returned
        self._numbers = _NUMBERS.get(platform.machine())
        self.held_s = 0.0
        self.holds = 0
        self.missed: list[Point] = []  # the process was gone before it could be read
        self.late = 0  # observations taken when the process had gone on already
        self.unread: set[int] = set()  # processes that may not be read
        self.withheld: list[rights.Withheld] = []  # by programs executed

    def take(self, points: list[Point]) -> None:
        """Observe each point's process; points that turn up meanwhile are taken too."""
        begin = time.monotonic()
        self.holds += 1
        points = list(points)
        if not self._stop(points):
            for point in points:
                self._miss(point)
            return
        try:
            flights = Flights([], [])
            astray = [tid for point in points if point.kind == "attach" for tid in self._uncaught(point.tid)]
            if any(point.kind != "exec" or not self._held(point) for point in points):
                flights = self._settle(points)
            flights.doubtful.extend(astray)
            for number, point in enumerate(points):
                last = all(later[:2] != point[:2] for later in points[number + 1 :])
                if last or point.kind == "exec":
                    self._shoot(point, flights, last=last)
        finally:
            self._go()
            self.held_s += time.monotonic() - begin

    @contextlib.contextmanager
    def stopped(self) -> Iterator[list[Point]]:
        """While inside, strace is stopped, and so is each thread that comes to a traced call.

        Yields the points that reading its log up to there has shown, which are still to be taken.
        """
        points: list[Point] = []
        alive = self._stop(points)
        try:
            yield points
        finally:
            if alive:
                self._go()

    def _stop(self, points: list[Point]) -> bool:
        """Stop strace and read what it has written. False: it is gone."""
        try:
            os.kill(self._strace, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        proc.wait_state(self._strace, proc.STOPPED, _STOP_S)
        if proc.state_of(self._strace) != proc.STOPPED:
            return False
        points += self._drain()
        return True

    def catch(self) -> None:
        """Read the programs for whose execution the kernel has stopped strace, and let it go on."""
        if self._catch():
            self._go()

    def _catch(self) -> bool:
        """Read what has been executed while strace is, or is about to be, stopped. Whether there was any."""
        tids = self._executed()
        if not tids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._strace, signal.SIGSTOP)  # the kernel's is lost if it came just before a SIGCONT of ours
        proc.wait_state(self._strace, proc.STOPPED, _STOP_S)
        while tids:
            for tid in tids:
                self._read_executed(tid)
            tids = self._executed()
        return True

    def _read_executed(self, tid: int) -> None:
        """A program that has not run yet: its thread stops for strace, which is stopped."""
        if not proc.wait_state(tid, proc.TRACED, _SETTLE_S) or proc.state_of(self._strace) != proc.STOPPED:
            return
        doing = proc.syscall_of(tid)
        if doing is None or self._numbers is None or doing[0] not in self._numbers.held_in["exec"]:
            return
        with contextlib.suppress(PermissionError):
            raw = proc.read_raw(tid)
            if raw is not None:
                found = _Caught(raw, time.time_ns(), proc.start_brk_of(tid), rights.withheld(tid))
                self._caught.setdefault(tid, deque()).append(found)

    def _go(self) -> None:
        self._catch()
        os.kill(self._strace, signal.SIGCONT)

    def _uncaught(self, pid: int) -> list[int]:
        """Wait until each thread of a process just attached to has been stopped once; those that have not.

        What a thread does before that is in no log. strace, being stopped, keeps those that come now. One that
        sleeps has been let go already, and so has one that computes: it would have stopped before.
        """
        waiting = {tid: proc.user_ticks(pid, tid) for tid in proc.threads_of(pid)}
        end = time.monotonic() + _SETTLE_S
        while waiting and time.monotonic() < end:
            for tid, ticks in list(waiting.items()):
                if proc.state_of(tid) in ("", "S", proc.TRACED) or proc.user_ticks(pid, tid) > ticks:
                    del waiting[tid]
            time.sleep(0.0002)
        return list(waiting)

    # -- calls in flight

    def _settle(self, points: list[Point]) -> Flights:
        """Wait until no call that can change VMAs is being executed."""
        for _ in range(_RETRIES):
            if self._let_go() is not None:
                break
            self._go()
            time.sleep(0.0003)
            if not self._stop(points):
                return Flights([], [])
        flights = [tid for tid, name in self._watch.in_flight.items() if name in CHANGES_VMAS]
        doubtful: list[int] = []
        gone_on = self._let_go()
        if gone_on != _NOBODY:
            last = self._watch.last_entry
            assert last is not None
            (doubtful if gone_on is None else flights).append(last[0])
        stuck = [tid for tid in flights if not self._returned(tid)]
        return Flights([tid for tid in flights if tid not in stuck], doubtful + stuck)

    def _let_go(self) -> int | None:
        """The thread that strace has let into the call of the line that has not ended.

        _NOBODY: there is no such line, or it has not let the thread go yet. None: it cannot be told.
        """
        last = self._watch.last_entry
        if last is None or last[1] not in CHANGES_VMAS:
            return _NOBODY
        doing = proc.syscall_of(self._strace)
        if doing is None or doing[0] == -1 or self._numbers is None:
            return None
        number, args = doing
        gone_on = number == self._numbers.wait4 or (number == self._numbers.ptrace and args[0] in _LET_GO)
        return last[0] if gone_on else _NOBODY

    def _returned(self, tid: int) -> bool:
        """Wait until a thread stands at the exit of its call. False: it is blocked in it."""
        end = time.monotonic() + _SETTLE_S
        blocked = 0
        while True:
            state = proc.state_of(tid)
            if state in (proc.TRACED, ""):
                return True
            blocked = blocked + 1 if state == "S" else 0
            if blocked > 50 or time.monotonic() > end:
                return False
            time.sleep(0.0002)

    # -- observing

    def _shoot(self, point: Point, flights: Flights, *, last: bool) -> None:
        """last: the process has not come to such a point again since."""
        pid = proc.leader_of(point.tid)
        caught = self._take_caught(point, last=last)
        held = last and self._held(point)
        if caught is not None and not held:  # it has gone on, but was read before
            self._add(point, pid or point.tid, caught, Flights([], []), point.offset)
            return
        raw = None
        try:
            if pid and last and (held or point.kind != "exit"):
                raw = proc.read_raw(pid)
        except PermissionError:
            self.unread.add(pid)
        if raw is None:
            self._miss(point)
            return
        self.late += not held
        lost = rights.withheld(pid) if point.kind == "exec" else None
        self._add(point, pid, _Caught(raw, time.time_ns(), proc.start_brk_of(pid), lost), flights, self._spool.size)

    def _add(self, point: Point, pid: int, found: _Caught, flights: Flights, offset: int) -> None:
        if found.withheld is not None:
            self.withheld.append(found.withheld)
        place = (found.ts_ns, offset, flights.done, flights.doubtful)
        attached = (proc.threads_of(pid), proc.has_executed(pid)) if point.kind == "attach" else ()
        facts = (found.raw.steady, found.start_brk, found.withheld, *attached)
        self._spool.add_shot(Shot(point.kind, point.tid, pid, *place, *facts), found.raw.text)

    def _take_caught(self, point: Point, *, last: bool) -> _Caught | None:
        """What was read of the program of an exec while that was under way; what is older is dropped."""
        waiting = self._caught.get(point.tid) if point.kind == "exec" else None
        while waiting and waiting[0].ts_ns < point.begin_ns:
            waiting.popleft()
        found = None
        if waiting and waiting[0].ts_ns < point.end_ns + (_CUT_SHORT_NS if last else 0):
            found = waiting.popleft()
        if waiting is not None and not waiting:
            del self._caught[point.tid]
        return found

    def _miss(self, point: Point) -> None:
        self.missed.append(point)
        self._spool.miss(point)

    def _held(self, point: Point) -> bool:
        """Whether the thread still stands where its line says (other points stand nowhere)."""
        if point.kind not in ("exec", "exit"):
            return True
        if proc.state_of(point.tid) != proc.TRACED:
            return False
        doing = proc.syscall_of(point.tid)
        return doing is None or self._numbers is None or doing[0] in self._numbers.held_in[point.kind]
