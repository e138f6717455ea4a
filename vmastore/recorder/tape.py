"""What the live part of a recording hands to the part that merges: one stream of messages, in order.

A message is its kind (a byte), the length of what it holds (4 bytes) and that. An observation stands behind
all of the log that strace had written when it was made, and before the rest.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from vmastore.errors import RecordError

LOG = b"L"  # the next bytes of strace's log
MARKS = b"M"  # perf records
SHOT = b"S"  # a Shot as a JSON line, and the text that was read
MISSED = b"X"  # a point that was not observed: kind and thread, JSON
CLOCK = b"C"  # a Clock
LAYOUT = b"P"  # how perf's records are to be read, and why there are no better ones, JSON
FAILED = b"F"  # it could not be made: message and hint, JSON
END = b"E"  # the recording has ended as it should: what it came to, JSON

Message = tuple[bytes, bytes]

_HEAD = struct.Struct("=cI")
_CLOCK = struct.Struct("=qqq?")
_PIECE = 1 << 20


class Clock(NamedTuple):
    """Both clocks at one moment, and what was known then."""

    monotonic_ns: int
    wall_ns: int
    passed_ns: int  # all records older than this have been given; in the clock of the records
    quiet: bool  # strace had written all that had happened before this moment

    def pack(self) -> bytes:
        """As a message holds it."""
        return _CLOCK.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Clock:
        """What `pack` gave."""
        return cls(*_CLOCK.unpack(data))


class Tape(Protocol):
    """Where messages go."""

    def put(self, kind: bytes, data: bytes) -> None:
        """Append one."""

    def close(self) -> None:
        """There will be no more."""


class FileTape:
    """A file that keeps all messages. Raises RecordError when the disk is full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb", buffering=1 << 16)

    def put(self, kind: bytes, data: bytes) -> None:
        """Append one."""
        try:
            self._file.write(_HEAD.pack(kind, len(data)))
            self._file.write(data)
        except OSError as error:
            raise RecordError(
                f"{self.path.parent}: {error.strerror}",
                hint="Set TMPDIR to a folder with more free space, and record again.",
            ) from None

    def close(self) -> None:
        """There will be no more."""
        self._file.close()


class PipeTape:
    """A pipe, and a queue for what does not fit into it yet. Raises BrokenPipeError when the reader is gone."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        os.set_blocking(descriptor, False)
        self.queued = 0  # bytes
        self._queue: deque[bytes] = deque()
        self._broken = False

    def put(self, kind: bytes, data: bytes) -> None:
        """Append one; returns at once."""
        if self._broken:
            return
        message = _HEAD.pack(kind, len(data)) + data
        self._queue.append(message)
        self.queued += len(message)
        self.pump()

    def pump(self) -> None:
        """Write what fits into the pipe."""
        while self._queue:
            first = self._queue[0]
            try:
                written = os.write(self.descriptor, first)
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._broken = True
                self._queue.clear()
                self.queued = 0
                raise
            self.queued -= written
            if written == len(first):
                self._queue.popleft()
            else:
                self._queue[0] = first[written:]

    def close(self) -> None:
        """Write the rest, however long that takes."""
        os.set_blocking(self.descriptor, True)
        self.pump()


def messages(stream: BinaryIO) -> Iterator[Message]:
    """The messages of a stream; one that it ends in the middle of is left out."""
    while len(head := stream.read(_HEAD.size)) == _HEAD.size:
        kind, length = _HEAD.unpack(head)
        data = stream.read(length)
        if len(data) < length:
            return
        yield kind, data
