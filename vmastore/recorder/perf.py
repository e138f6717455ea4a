"""Page faults of the recorded processes, from the kernel's perf events.

The tracepoints exceptions:page_fault_* tell writes from reads but need root (or perf_event_paranoid -1 and
a readable tracefs), and their clock is CLOCK_MONOTONIC. With them comes mmap_lock_acquire_returned (5.11),
which tells the order in which threads changed one address space. The software event page-faults is there for
everybody, in strace's own clock, and does not tell them apart.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import resource
import struct
import time
from pathlib import Path
from typing import Any, NamedTuple

from vmastore.recorder import proc
from vmastore.recorder.perfevents import (
    PAGE_FAULTS,
    SAMPLE_ADDR,
    SAMPLE_RAW,
    SAMPLE_TID,
    SAMPLE_TIME,
    SOFTWARE,
    TRACEPOINT,
    Buffer,
    Event,
    many_descriptors,
    online_cpus,
    open_event,
)
from vmastore.recorder.tracefs import tracepoint

_LEAST_KB = 128  # of a buffer
_TRIES = 20  # to open events for all threads of a process that makes some meanwhile
_EXEC_PAGES = 4  # of the buffers for programs executed
_SAMPLE = 9  # perf_event_header.type
_HEADER = struct.Struct("=IHH")  # type, misc, size
_THREAD = struct.Struct("=I")


class Mode(NamedTuple):
    """One way to record faults."""

    name: str
    tells_writes: bool  # tells a write from a read, and shows the kernel's own accesses
    monotonic: bool  # times are CLOCK_MONOTONIC's; else the wall clock's
    locks: bool = False  # shows who gets an address space's lock


_LOCKED = Mode("tracepoints and locks", tells_writes=True, monotonic=True, locks=True)
_TRACEPOINTS = Mode("tracepoints", tells_writes=True, monotonic=True)
_SOFTWARE = Mode("page-faults", tells_writes=False, monotonic=False)
_MODES = (_LOCKED, _TRACEPOINTS, _SOFTWARE)


class Layout(NamedTuple):
    """What must be known to read the records. kinds: tracepoint number → its kind and the offsets of its facts."""

    mode: Mode
    kinds: dict[int, tuple[str, int, int]]  # ("user" | "kernel", of the address, of the error code) or ("lock", 0, 0)

    def to_json(self) -> Any:
        """As JSON values."""
        return [list(self.mode), [[number, *kind] for number, kind in self.kinds.items()]]

    @classmethod
    def from_json(cls, value: Any) -> Layout:
        """What `to_json` gave."""
        mode, kinds = value
        return cls(Mode(*mode), {number: (kind, addr, code) for number, kind, addr, code in kinds})


class Perf:
    """The perf events of a process and all its descendants to be."""

    def __init__(self) -> None:
        self.layout: Layout | None = None
        self.why_not: str | None = None  # why there are no faults, or no better ones
        self.uncounted = 0  # threads that may have no events: they began while these were opened
        self._descriptors: list[int] = []
        self._buffers: list[Buffer] = []
        self._exec_buffers: list[Buffer] = []

    @property
    def mode(self) -> Mode | None:
        """How faults are recorded; None: not at all."""
        return self.layout.mode if self.layout is not None else None

    def start(self, pid: int, tracer: int | None = None) -> None:
        """Begin to count, in the best mode that is allowed; `mode` is None when none is.

        tracer: the process to be stopped whenever a program has been executed, see `executed`.
        """
        last: str | None = None
        for mode in _MODES:
            try:
                events, layout = _events(mode)
                with many_descriptors():
                    self._open_all(events, pid)
            except OSError as error:
                self.stop()
                last = _why_not(mode, error)
                self.why_not = self.why_not or last
                continue
            self.layout = layout
            break
        else:
            self.why_not = last
        if tracer is not None and self.mode is not None and self.mode.tells_writes:
            with contextlib.suppress(OSError), many_descriptors():
                self._watch_execs(pid, tracer)

    def _watch_execs(self, pid: int, tracer: int) -> None:
        """Let the kernel stop the tracer at each exec. Raises OSError."""
        sampled = SAMPLE_TID | SAMPLE_TIME
        number = tracepoint("sched", "sched_process_exec").id
        event = Event(TRACEPOINT, number, sampled, time.CLOCK_MONOTONIC, stops=tracer)
        for cpu in online_cpus():
            buffer: Buffer | None = None
            for tid in proc.threads_of(pid):
                try:
                    descriptor = open_event(event, tid, cpu, 0)
                except ProcessLookupError:
                    continue
                self._descriptors.append(descriptor)
                if buffer is None:
                    buffer = Buffer(descriptor, _EXEC_PAGES * mmap.PAGESIZE)
                    self._exec_buffers.append(buffer)
                else:
                    buffer.join(descriptor)

    def executed(self) -> list[int]:
        """The threads that have executed a program since the last time. Each has stopped the tracer.

        The kernel sends the SIGSTOP before the thread stops for its tracer, so that however late this is asked,
        the thread has not gone on: its tracer cannot let it.
        """
        found = []
        for buffer in self._exec_buffers:
            data = buffer.read()
            at = 0
            while at < len(data):
                kind, _, size = _HEADER.unpack_from(data, at)
                if kind == _SAMPLE:
                    found.append(_THREAD.unpack_from(data, at + 12)[0])
                at += size
        return found

    def _open_all(self, events: list[Event], pid: int) -> None:
        """Open every event for every thread, anew if one has begun meanwhile. Raises OSError."""
        tids = proc.threads_of(pid)
        for left in reversed(range(_TRIES)):
            if not tids:
                raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
            self._open(events, tids)
            before, tids = tids, proc.threads_of(pid)
            self.uncounted = len(set(tids) - set(before))
            if not self.uncounted or not left:
                break
            self.stop()

    def _open(self, events: list[Event], tids: list[int]) -> None:
        """Open every event for each of these threads that is still there, on every processor. Raises OSError."""
        cpus = online_cpus()
        size = buffer_kb(len(cpus), _lockable()) << 10
        for cpu in cpus:
            buffer: Buffer | None = None
            for tid in tids:
                for event in events:
                    try:
                        descriptor = open_event(event, tid, cpu, size // 4)
                    except ProcessLookupError:
                        break
                    self._descriptors.append(descriptor)
                    if buffer is not None:
                        buffer.join(descriptor)
                        continue
                    buffer, size = _buffer(descriptor, size)
                    self._buffers.append(buffer)

    def descriptors(self) -> list[int]:
        """To poll for reading: ready when a quarter of a buffer has been written since, or a program executed."""
        return [buffer.owner for buffer in (*self._buffers, *self._exec_buffers)]

    def drain(self) -> bytes:
        """The records written since the last time: all that are older than SLACK_NS, and some that are not."""
        return b"".join(buffer.read() for buffer in self._buffers)

    def stop(self) -> None:
        """End the counting; what has not been drained is lost."""
        for buffer in (*self._buffers, *self._exec_buffers):
            buffer.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._buffers, self._exec_buffers, self._descriptors = [], [], []


def tells_writes() -> bool:
    """Whether this process may have faults recorded that tell writes from reads, the kernel's own among them."""
    perf = Perf()
    perf.start(os.getpid())
    mode = perf.mode
    perf.stop()
    return mode is not None and mode.tells_writes


def _events(mode: Mode) -> tuple[list[Event], Layout]:
    """What to count. Raises OSError where a tracepoint is not there or may not be read."""
    if not mode.tells_writes:
        sampled = SAMPLE_TID | SAMPLE_TIME | SAMPLE_ADDR
        return [Event(SOFTWARE, PAGE_FAULTS, sampled, time.CLOCK_REALTIME, user_only=True)], Layout(mode, {})
    sampled = SAMPLE_TID | SAMPLE_TIME | SAMPLE_RAW
    events: list[Event] = []
    kinds: dict[int, tuple[str, int, int]] = {}
    for source in ("user", "kernel"):
        found = tracepoint("exceptions", f"page_fault_{source}")
        kinds[found.id] = (source, found.fields["address"][0], found.fields["error_code"][0])
        events.append(Event(TRACEPOINT, found.id, sampled, time.CLOCK_MONOTONIC))
    if mode.locks:
        found = tracepoint("mmap_lock", "mmap_lock_acquire_returned")
        kinds[found.id] = ("lock", 0, 0)
        wanted = "write == 1 && success == 1"
        events.append(Event(TRACEPOINT, found.id, sampled, time.CLOCK_MONOTONIC, filter=wanted))
    return events, Layout(mode, kinds)


def _buffer(owner: int, size: int) -> tuple[Buffer, int]:
    """A buffer of `size` bytes, or of as much as there still is: the user may have others. Raises OSError."""
    while True:
        try:
            return Buffer(owner, size), size
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOMEM) or size <= _LEAST_KB << 10:
                raise
            size //= 2


def _why_not(mode: Mode, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM) and mode.tells_writes:
        return "the tracepoints need root"
    return f"{mode.name}: {error.strerror or error}"


def buffer_kb(cpus: int, lockable: int | None) -> int:
    """The size of the buffer of each processor in KiB: a power of two, 8 MiB each and 128 MiB in all at most.

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
