"""System calls of the running kernel, by number, through ctypes: no compiler, no root. x86-64.

Runs in a child process that does nothing else; the arena is far from where Python maps memory.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from typing import Any

BASE, PAGES, PAGE = 0x100000000000, 48, 4096
END = BASE + PAGES * PAGE
FILE_PAGES = 64
SHM_PAGES = 6  # of the SysV segment; its size is no whole number of pages
SHM_SIZE = SHM_PAGES * PAGE - 100
NUMBERS = {
    "mmap": 9,
    "mprotect": 10,
    "munmap": 11,
    "mremap": 25,
    "madvise": 28,
    "shmdt": 67,
    "mlock": 149,
    "munlock": 150,
    "mlockall": 151,
    "munlockall": 152,
    "prctl": 157,
    "remap_file_pages": 216,
    "mbind": 237,
    "mlock2": 325,
    "mseal": 462,
}
_SHMGET, _SHMAT, _SHMCTL = 29, 30, 31
_IPC_RMID = 0
_READ, _PWRITE = 0, 18
_UFFD, _UFFDIO_API, _REGISTER, _UNREGISTER = 323, 0xC018AA3F, 0xC020AA00, 0x8010AA01
_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) (\S+) (\d+) *(.*)")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(number: int, *args: int) -> tuple[int | None, int]:
    """(result, 0) or (None, errno)."""
    words = [ctypes.c_ulong(a & (1 << 64) - 1) for a in args]
    got = _libc.syscall(ctypes.c_long(number), *words)
    if got == -1:
        return None, ctypes.get_errno()
    return got & (1 << 64) - 1, 0


class Kernel:
    """Performs calls in the arena and reads what became of it."""

    def __init__(self) -> None:
        self.files = self._files()
        self.zero = os.open("/dev/zero", os.O_RDONLY)
        self.sink = os.memfd_create("sink")
        self.segment = self._segment()
        self.uffd = self._userfaultfd()

    def _files(self) -> dict[int, int]:
        """number of the description -> descriptor: a memfd opened twice and once read-only, a disk file."""
        first = os.memfd_create("conform")
        os.ftruncate(first, FILE_PAGES * PAGE)
        second = os.open(f"/proc/self/fd/{first}", os.O_RDWR)
        third = os.open(f"/proc/self/fd/{first}", os.O_RDONLY)
        with tempfile.TemporaryFile() as disk:
            fourth = os.dup(disk.fileno())
        os.ftruncate(fourth, FILE_PAGES * PAGE)
        return {1: first, 2: second, 3: third, 4: fourth}

    def _segment(self) -> int | None:
        """A SysV segment that goes away with the last process that has it: it is attached, then removed."""
        segment, _ = syscall(_SHMGET, 0, SHM_SIZE, 0o600)
        if segment is None:
            return None
        syscall(_SHMAT, segment, 0, 0)  # wherever the kernel puts it: it keeps the segment alive
        syscall(_SHMCTL, segment, _IPC_RMID, 0)
        return segment

    def _userfaultfd(self) -> int | None:
        fd, _ = syscall(_UFFD, 1)  # UFFD_USER_MODE_ONLY: allowed to everybody
        if fd is None:
            return None
        words = ctypes.create_string_buffer(struct.pack("QQQ", 0xAA, 0, 0))
        return fd if _libc.ioctl(ctypes.c_int(fd), ctypes.c_ulong(_UFFDIO_API), words) == 0 else None

    def call(self, name: str, args: list[Any]) -> tuple[int | None, int]:
        """Perform a call whose arguments are those of an event."""
        if name == "fault":
            return self._touch(args[0], args[2] == "w")
        if name == "shmat":
            return syscall(_SHMAT, self.segment or 0, args[1], args[2])
        if name == "ioctl":
            return self._ioctl(args)
        if name == "prctl" and args[5:] and args[0] == 0x53564D41:
            text = args[5]
            buffer = ctypes.create_string_buffer(text.encode()) if text is not None else None
            pointer = ctypes.addressof(buffer) if buffer is not None else 0
            return syscall(NUMBERS[name], *args[:4], pointer)
        if name == "mbind":
            mask = ctypes.c_ulong(args[3] or 0)
            pointer = ctypes.addressof(mask) if args[3] is not None else 0
            return syscall(NUMBERS[name], *args[:3], pointer, *args[4:])
        if name == "mmap" and args[4] > 0:
            args = [*args[:4], self.files[args[4]], args[5]]
        return syscall(NUMBERS[name], *args[:6])

    def _touch(self, addr: int, write: bool) -> tuple[int | None, int]:
        """Let the kernel access a byte: what a page does not allow is EFAULT then, and no signal.

        Returns how many pages refused, as a `fault` event's result says it, and 0.
        """
        _, errno = syscall(_READ, self.zero, addr, 1) if write else syscall(_PWRITE, self.sink, addr, 1, 0)
        return int(errno != 0), 0

    def _ioctl(self, args: list[Any]) -> tuple[int | None, int]:
        _, cmd, start, length, mode, *_ = args
        if cmd == "UFFDIO_REGISTER":
            number, words = _REGISTER, struct.pack("QQQQ", start, length, mode, 0)
        else:
            number, words = _UNREGISTER, struct.pack("QQ", start, length)
        buffer = ctypes.create_string_buffer(words)
        if _libc.ioctl(ctypes.c_int(self.uffd or -1), ctypes.c_ulong(number), buffer) == 0:
            return 0, 0
        return None, ctypes.get_errno()


def arena() -> list[list[Any]]:
    """The arena's VMAs with their VmFlags, as lists of ObservedVma's fields."""
    return list(_window(BASE, END))


def heap(start: int, end: int) -> list[list[Any]]:
    """The VMAs of a window around the heap; `written` is true, for the C library has been there."""
    return [[*line[:8], True if line[0] <= start < line[1] else None] for line in _window(start, end)]


def _window(low: int, high: int) -> Iterator[list[Any]]:
    line: list[Any] | None = None
    with open("/proc/self/smaps") as stream:
        for text in stream:
            if text[0] in "0123456789abcdef" and (match := _HEAD.match(text)):
                start, end = int(match[1], 16), int(match[2], 16)
                line = None
                if low <= start < high:
                    name = match[7].rstrip("\n")
                    line = [start, end, match[3], int(match[4], 16), match[5], int(match[6]), name, None, None]
            elif line is not None and text.startswith("VmFlags:"):
                line[7] = text[8:].strip()
                yield line
                line = None
