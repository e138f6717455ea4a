"""perf_event_open(2): counting a process and all its descendants to be, into buffers that are read here.

perf(1) hands records over when a buffer is half full or the program has ended, and cannot be asked how far
it has got; what is read here is known to be complete up to a moment (see `Perf.drain`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vmastore.recorder.rawcall import raw_call

SOFTWARE, TRACEPOINT = 1, 2  # perf_event_attr.type
PAGE_FAULTS = 2  # PERF_COUNT_SW_PAGE_FAULTS
SAMPLE_TID, SAMPLE_TIME, SAMPLE_ADDR, SAMPLE_RAW = 2, 4, 8, 0x400
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HV, _WATERMARK, _USE_CLOCKID = 1 << 1, 1 << 5, 1 << 6, 1 << 14, 1 << 25
_CLOEXEC = 8  # PERF_FLAG_FD_CLOEXEC
_SET_OUTPUT, _SET_FILTER = 0x2405, 0x40082406
_F_SETSIG = 10  # fcntl: which signal O_ASYNC sends
_NUMBERS = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}
_ATTR = struct.Struct("=IIQQQQQIIQQQQIiQIHH")  # struct perf_event_attr up to sample_max_stack (PERF_ATTR_SIZE_VER5)
_HEAD, _TAIL = 1024, 1032  # perf_event_mmap_page.data_head and .data_tail


class Event(NamedTuple):
    """What is counted: one software event or tracepoint."""

    type: int
    config: int
    sample_type: int
    clock: int  # a CLOCK_…
    user_only: bool = False
    filter: str | None = None
    stops: int | None = None  # the process that the kernel stops (SIGSTOP) whenever this happens


def open_event(event: Event, tid: int, cpu: int, watermark: int) -> int:
    """A descriptor that counts one thread and what it will start, on one processor. Raises OSError.

    watermark: bytes in its buffer that make it ready to be read; 0: each event does.
    """
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"perf_event_open is not known on {platform.machine()}")
    flags = _INHERIT | _EXCLUDE_HV | _USE_CLOCKID | (_WATERMARK if watermark else 0)
    flags |= _EXCLUDE_KERNEL if event.user_only else 0
    attr = ctypes.create_string_buffer(
        _ATTR.pack(
            event.type, _ATTR.size, event.config, 1, event.sample_type, 0, flags, watermark or 1, 0, 0, 0, 0, 0, 0,
            event.clock, 0, 0, 0, 0,
        )
    )  # fmt: skip
    made = raw_call(number, attr, tid, cpu, -1, _CLOEXEC)
    try:
        if event.filter is not None:
            fcntl.ioctl(made, _SET_FILTER, event.filter.encode() + b"\0")
        if event.stops is not None:
            fcntl.fcntl(made, fcntl.F_SETOWN, event.stops)
            fcntl.fcntl(made, _F_SETSIG, signal.SIGSTOP)
            fcntl.fcntl(made, fcntl.F_SETFL, fcntl.fcntl(made, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError:
        os.close(made)
        raise
    return made


class Buffer:
    """The buffer of one processor, into which all events counted there write.

    size: bytes, a power of two of pages. Raises OSError, EPERM where the user may not lock as much.
    """

    def __init__(self, owner: int, size: int) -> None:
        self.owner = owner
        self._size = size
        self._map = mmap.mmap(owner, mmap.PAGESIZE + size)
        self._tail = 0
        self._order = threading.Lock()  # its use is the memory barrier that Python does not have otherwise

    def join(self, descriptor: int) -> None:
        """Let another event of this processor write here."""
        fcntl.ioctl(descriptor, _SET_OUTPUT, self.owner)

    def read(self) -> bytes:
        """All that has been written since the last time: whole records, in order."""
        (head,) = struct.unpack_from("=Q", self._map, _HEAD)
        if head == self._tail:
            return b""
        with self._order:
            begin, end = self._tail % self._size, head % self._size
            base = mmap.PAGESIZE
            if begin < end:
                data = self._map[base + begin : base + end]
            else:
                data = self._map[base + begin :] + self._map[base : base + end]
        with self._order:
            struct.pack_into("=Q", self._map, _TAIL, head)
        self._tail = head
        return data

    def close(self) -> None:
        """Give the memory back."""
        self._map.close()


def online_cpus() -> list[int]:
    """The processors that are online."""
    try:
        text = Path("/sys/devices/system/cpu/online").read_text().strip()
    except OSError:
        return list(range(os.cpu_count() or 1))
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """Inside, as many may be open as the system lets: one an event, thread and processor is needed."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
