"""Page faults of the recorded processes, by perf.

The tracepoints exceptions:page_fault_* tell writes from reads but need root (or perf_event_paranoid -1 and
a readable tracefs), and their clock is CLOCK_MONOTONIC. With them comes mmap_lock_acquire_returned (5.11),
which tells the order in which threads changed one address space. The software event page-faults is there for
everybody, in strace's own clock, and does not tell them apart.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_START_S = 10.0  # how long perf may take until it counts
_LEAST_KB = 128  # of a buffer
_END_S = 60.0  # and to write out what it holds


class Mode(NamedTuple):
    """One way to record faults."""

    name: str
    options: tuple[str, ...]
    fields: str  # for perf script -F
    tells_writes: bool  # tells a write from a read, and shows the kernel's own accesses
    monotonic: bool  # times are CLOCK_MONOTONIC's; else the wall clock's
    locks: bool = False  # shows who gets an address space's lock


_FAULTS = ("-k", "mono", "-e", "exceptions:page_fault_user,exceptions:page_fault_kernel")
_LOCKS = ("-e", "mmap_lock:mmap_lock_acquire_returned", "--filter", "write == 1 && success == 1")
_FIELDS = "pid,tid,time,event,trace"
_LOCKED = Mode("tracepoints and locks", _FAULTS + _LOCKS, _FIELDS, tells_writes=True, monotonic=True, locks=True)
_TRACEPOINTS = Mode("tracepoints", _FAULTS, _FIELDS, tells_writes=True, monotonic=True)
_SOFTWARE = Mode(
    "page-faults",
    ("-k", "CLOCK_REALTIME", "-e", "page-faults:u", "-d"),
    "pid,tid,time,event,addr",
    tells_writes=False,
    monotonic=False,
)
_MODES = (_LOCKED, _TRACEPOINTS, _SOFTWARE)


class Perf:
    """One `perf record` of a process and all its descendants to be."""

    def __init__(self, output: Path) -> None:
        self.mode: Mode | None = None
        self.why_not: str | None = None  # why there are no faults, or no better ones
        self._path = shutil.which("perf")
        self._output = output
        self._errors = output.with_suffix(".err")
        self._process: subprocess.Popen[bytes] | None = None
        self._control: tuple[int, ...] = ()  # perf fails when its control descriptors are closed

    def start(self, pid: int) -> None:
        """Begin to count, in the best mode that is allowed; `mode` is None when none is."""
        if self._path is None:
            self.why_not = "perf is not installed (apt-get install linux-perf)"
            return
        best = buffer_kb(os.cpu_count() or 1, _lockable())
        for mode in _MODES:
            size = best
            started = self._try(mode, pid, size)
            while not started and size > _LEAST_KB and "mapping pages" in self._first_error():
                size //= 2  # the user has other buffers
                started = self._try(mode, pid, size)
            if started:
                self.mode = mode
                return

    def _try(self, mode: Mode, pid: int, size_kb: int) -> bool:
        assert self._path is not None
        control, ack = os.pipe(), os.pipe()
        line = [self._path, "record", "-q", "-B", "-N", "-c", "1", "-m", f"{size_kb}K", "-D", "-1"]
        line += [f"--control=fd:{control[0]},{ack[1]}", "-o", str(self._output), *mode.options, "-p", str(pid)]
        with self._errors.open("wb") as errors:
            process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(control[0], ack[1]),
                start_new_session=True,
            )
        os.close(control[0])
        os.close(ack[1])
        self._control = (control[1], ack[0])
        if _enable(*self._control):
            self._process = process
            return True
        self._close_control()
        process.kill()
        process.wait()
        if self.why_not is None:
            self.why_not = "the tracepoints need root" if os.geteuid() else f"perf: {self._first_error()}"
        return False

    def _close_control(self) -> None:
        for descriptor in self._control:
            os.close(descriptor)
        self._control = ()

    def _first_error(self) -> str:
        text = self._errors.read_text(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and line.strip() != "Error:"]
        return lines[0] if lines else "did not start"

    def stop(self) -> None:
        """End the counting and let perf write everything out."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.mode, self.why_not = None, "perf did not end"
        self._close_control()
        self._process = None

    def lines(self) -> Iterator[bytes]:
        """What was recorded, as text, in the order of time."""
        if self._path is None or self.mode is None or not self._output.exists():
            return
        line = [self._path, "script", "-i", str(self._output), "--ns", "-F", self.mode.fields, "--show-lost-events"]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        try:
            yield from process.stdout
        finally:
            process.stdout.close()
            process.kill()
            process.wait()


def buffer_kb(cpus: int, lockable: int | None) -> int:
    """The size of perf's buffer of each processor in KiB: a power of two, 8 MiB each and 128 MiB in all at most.

    lockable: how many bytes of buffers the user may have, None: no limit. Each has one page more.
    """
    most = min(8 << 20, (128 << 20) // cpus)
    if lockable is not None:
        most = min(most, lockable // cpus - mmap.PAGESIZE)
    return 1 << max((most >> 10).bit_length() - 1, _LEAST_KB.bit_length() - 1)


def _lockable() -> int | None:
    """What an ordinary user's buffers may take: so much a processor, and what the process may lock besides."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() == 0 or soft == resource.RLIM_INFINITY:
        return None
    try:
        each = int(Path("/proc/sys/kernel/perf_event_mlock_kb").read_text())
    except (OSError, ValueError):
        each = 0
    return (each << 10) * (os.cpu_count() or 1) + soft


def _enable(control: int, ack: int) -> bool:
    """Let perf count; whether it says that it does."""
    try:
        os.write(control, b"enable\n")
    except BrokenPipeError:
        return False
    ready, _, _ = select.select([ack], [], [], _START_S)
    return bool(ready) and os.read(ack, 16).startswith(b"ack")
