"""The live part of a recording: strace is started, its log is read as it comes, processes are observed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vmastore.recorder import proc, tape
from vmastore.recorder.hold import Holder
from vmastore.recorder.perf import Perf
from vmastore.recorder.requests import Requests
from vmastore.recorder.spool import Spool
from vmastore.recorder.timekeeper import Timekeeper
from vmastore.recorder.watch import CHANGES_VMAS, Point, Watch

_PIPE_SIZE = 1 << 20
_TICK_S = 0.1  # how often anything but the log is looked at
_PAUSE_S = 0.001  # strace writes each half of a line by itself: let some come together
_QUEUE = 16 << 20  # bytes that may wait for the reader of the messages until the program is held back
_ABANDON_S = 5.0  # how long a program may take to end, or strace to let it go, when it is told to
_RETURN_S = 1.0  # how long calls may take to return whose work an observation has seen done
_PASS_ON_S = 0.3  # how long a program may take to get a terminal's signal by itself


class Progress(NamedTuple):
    """How far a recording has come."""

    seconds: float
    lines: int  # of strace's log
    observations: int


class Session:
    """One run of strace.

    command: strace's, writing to `spool.fifo_path`. attached: the process it attaches to, None: it starts
    one. duration_s: when to detach, counted from when all its threads are traced. requests: what is to be
    done when a user asks to stop. copies: the command traces the calls of COPYING. `run()`
    returns when the log has ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        spool: Spool,
        *,
        attached: int | None = None,
        faults: bool = True,
        out: Callable[[Progress], None] | None = None,
        check_every_s: float | None = None,
        duration_s: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        requests: Requests | None = None,
        copies: bool = False,
    ) -> None:
        self.spool = spool
        self.watch = Watch(launched=attached is not None)
        self.perf = Perf() if faults else None
        self.attached = attached
        self.copies = copies
        self.status = 0  # strace's, which is the program's: negative for a signal
        self.interrupted = False
        self.wall_s = 0.0
        self.strace_s = 0.0  # processor time of strace
        self.program_s = 0.0  # of all that it started and that has ended
        self._out = out
        self._check_every_s = check_every_s
        self._duration_s = duration_s
        self.held_back = 0  # times that the program was stopped because the messages were not read
        self.held_back_s = 0.0
        self._requests = requests or Requests()
        self._stops = 0
        self._detach_at: float | None = None  # when strace is told to let go, whatever calls have not returned
        self._in_call: dict[int, bytes] = {}  # calls in flight at the last observation
        self._in_line = 0  # lines of the log then, if one was unfinished
        self._pass_on: tuple[float, int, int] | None = None  # when, which signal, how many were seen before
        self._ended = False
        self._attached_at: float | None = None
        self._begin = self._next_tick = self._next_check = time.monotonic()
        os.mkfifo(spool.fifo_path, 0o600)
        own_session = attached is not None  # a program started here must stay in the terminal's group
        self._process = subprocess.Popen(list(command), env=env, cwd=cwd, start_new_session=own_session)
        self.pid = self._process.pid
        executed = list if self.perf is None else self.perf.executed
        self.holder = Holder(self.pid, self.watch, spool, self._drain, executed)
        self._time = Timekeeper(self.pid, self.watch, spool, self.perf, copies=copies)
        self._fifo = -1

    def run(self) -> None:
        """Record until the log ends. strace waits for its log to be opened: until then nothing runs."""
        with self._requests.taken():
            try:
                self._time.start(self.pid if self.attached is None else self.attached)
                self._fifo = os.open(self.spool.fifo_path, os.O_RDONLY | os.O_NONBLOCK)
                with contextlib.suppress(OSError):
                    fcntl.fcntl(self._fifo, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
                self._begin = time.monotonic()
                self._next_check = self._begin + (self._check_every_s or 0)
                with _hurry():
                    self._loop()
                self.interrupted |= bool(self._requests.come)  # one that was not answered any more
            finally:
                self._finish()

    def _loop(self) -> None:
        poll = select.poll()
        for descriptor in (self._fifo, *self._time.descriptors(), *self._requests.descriptors()):
            poll.register(descriptor, select.POLLIN)
        first = self.attached is not None
        while not self._ended:
            poll.poll(max(0.0, self._next_tick - time.monotonic()) * 1000)
            self._requests.listen()
            self.holder.catch()
            points = self._drain(1)
            if first and self._attached():
                points.append(Point("attach", self.attached or 0))
                first = False
                self._attached_at = time.monotonic()
            if points:
                self.holder.take(points)
            else:
                time.sleep(_PAUSE_S)
            self._hand_over()
            if time.monotonic() >= self._next_tick:
                self._tick()

    def _hand_over(self) -> None:
        """Pass on what there is; hold the program back while nobody takes it."""
        if self._time.due():
            self._mark()
        out = self.spool.tape
        if isinstance(out, tape.PipeTape):
            out.pump()
            if out.queued > _QUEUE:
                self._hold_back(out)

    def _mark(self) -> None:
        """Say how far everything has come."""
        self._time.mark(self._drain, self.holder.take)

    def _hold_back(self, out: tape.PipeTape) -> None:
        """Stop strace, and with it each thread at its next traced call, until half of the queue has gone."""
        begin = time.monotonic()
        self.held_back += 1
        with self.holder.stopped() as points:
            poll = select.poll()
            poll.register(out.descriptor, select.POLLOUT)
            while out.queued > _QUEUE // 2:
                poll.poll(_TICK_S * 1000)
                if out.queued < 4 * _QUEUE:  # beyond that the kernel drops records, and counts them
                    self._time.drain()
                out.pump()
        self.held_back_s += time.monotonic() - begin
        if points:
            self.holder.take(points)

    def _drain(self, most: int = 1 << 30) -> list[Point]:
        """Read what there is, `most` pieces of it at most."""
        points: list[Point] = []
        while most > 0:
            most -= 1
            try:
                chunk = os.read(self._fifo, _PIPE_SIZE)
            except BlockingIOError:
                break
            if not chunk:
                self._ended = self._process_ended()
                break
            text, seen = self.watch.feed(chunk)
            self.spool.write(text)
            points += seen
        return points

    def _process_ended(self) -> bool:
        """Whether nobody will write any more (an empty read also means that strace has not opened it yet)."""
        return self.watch.lines > 0 or proc.state_of(self.pid) == ""

    def _attached(self) -> bool:
        """Whether strace traces all threads of the process that it was to attach to."""
        return self.attached is not None and all(
            proc.tracer_of(tid) == self.pid for tid in proc.threads_of(self.attached)
        )

    # -- now and then

    def _tick(self) -> None:
        now = time.monotonic()
        self._next_tick = now + _TICK_S
        self._mark()
        if self._detach_at is not None and (now >= self._detach_at or not self._returning()):
            # it misses a signal that comes just before it begins to wait, and waits for ever for a thread that waits
            # for its vfork's child, which it has stopped; its end lets all go
            _kill(self.pid, signal.SIGTERM if now < self._detach_at + _ABANDON_S else signal.SIGKILL)
        if self._check_every_s is not None and now >= self._next_check and self.watch.launched:
            self.holder.take([Point("check", pid) for pid in proc.traced_by(self.pid)])
            self._next_check = time.monotonic() + self._check_every_s
        if (
            self._duration_s is not None
            and self._attached_at is not None
            and now >= self._attached_at + self._duration_s
        ):
            self._duration_s = None
            self._detach()
        self._answer(now)
        if self._out is not None:
            self._out(Progress(now - self._begin, self.watch.lines, self.spool.shots))

    def _answer(self, now: float) -> None:
        """Do what was asked for: first ask the program to end, then tell it, then make it."""
        if self._pass_on is not None and now >= self._pass_on[0]:
            _, number, seen = self._pass_on
            self._pass_on = None
            if self.watch.signals(number) == seen:  # it was sent to us alone
                self._signal(number, first=True)
        if not self._requests.come:
            return
        number = self._requests.come.popleft()
        self.interrupted = True
        self._stops += 1
        if self.attached is not None:
            self._detach()
        elif self._stops == 1:  # a terminal sends it to the program as well
            self._pass_on = (now + _PASS_ON_S, number, self.watch.signals(number))
        else:
            self._signal(signal.SIGTERM if self._stops == 2 else signal.SIGKILL, first=False)

    def _signal(self, number: int, *, first: bool) -> None:
        """Send a signal to the program that was started, or to all processes that are left."""
        traced = proc.traced_by(self.pid)
        if first and self.watch.first_tid in traced:
            traced = [self.watch.first_tid]
        for pid in traced:
            _kill(pid, number)

    def _detach(self) -> None:
        """Let the process go on alone; a second time, whether strace likes it or not."""
        if self._stops <= 1:
            self.holder.take([Point("detach", pid) for pid in proc.traced_by(self.pid)])
            self._in_call = dict(self.watch.in_flight)
            self._in_line = self.watch.lines if self.watch.last_entry else -1
            self._detach_at = time.monotonic() + _RETURN_S
        else:
            _kill(self.pid, signal.SIGKILL)

    def _returning(self) -> bool:
        """Whether calls are still to return, or to end in the log, that the last observation may have seen done."""
        watch = self.watch
        if self._in_line >= 0 and watch.lines == self._in_line:
            return True
        if self._in_line >= 0:  # the line that was unfinished has ended: some as calls in flight
            self._in_line = -1
            self._in_call |= watch.in_flight
        return any(name in CHANGES_VMAS and watch.in_flight.get(tid) is name for tid, name in self._in_call.items())

    # -- the end

    def _finish(self) -> None:
        if not self._ended:  # an error of ours
            self._abandon()
        if self._fifo >= 0:
            os.close(self._fifo)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)  # its times are complete, and still to be read
        ticks = os.sysconf("SC_CLK_TCK")
        self.strace_s, self.program_s = proc.cpu_ticks(self.pid) / ticks, proc.reaped_ticks(self.pid) / ticks
        self.status = self._process.wait()
        self.wall_s = time.monotonic() - self._begin
        self._time.stop()

    def _abandon(self) -> None:
        """Let an attached process go on, end a program that was started: it cannot do without its tracer."""
        _kill(self.pid, signal.SIGCONT)
        for number in (signal.SIGTERM, signal.SIGKILL):
            tracees = proc.traced_by(self.pid)
            for pid in [self.pid] if self.attached is not None else tracees:
                _kill(pid, number)
            if not tracees or self._discard(_ABANDON_S):
                break
        _kill(self.pid, signal.SIGKILL)

    def _discard(self, seconds: float) -> bool:
        """Read the log and drop it, so that strace can go on. True: it has ended."""
        end = time.monotonic() + seconds
        while not self._over() and time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                os.read(self._fifo, _PIPE_SIZE)
            time.sleep(_PAUSE_S)
        return self._over()

    def _over(self) -> bool:
        """Whether strace has ended; its times can still be read."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


@contextlib.contextmanager
def _hurry() -> Iterator[None]:
    """Inside, go before the program, as far as that is allowed, so that no hold ends unseen."""
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, max(niceness - 10, -20))
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, policy, param)
            os.setpriority(os.PRIO_PROCESS, 0, niceness)


def _kill(pid: int, number: int) -> None:
    if pid > 0:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
