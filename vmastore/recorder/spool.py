"""The folder of a recording, and what its live part writes while it runs."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vmastore.errors import RecordError
from vmastore.recorder import tape
from vmastore.recorder.watch import Point


class Shot(NamedTuple):
    """One observed address space, and where in the log it stands."""

    kind: str  # "exec", "exit", "attach", "check", "detach"
    tid: int
    pid: int
    ts_ns: int  # wall clock
    offset: int  # bytes of the log that strace had written
    done: list[int]  # threads whose call in flight had done its work already
    doubtful: list[int]  # threads whose call in flight may or may not have
    steady: bool  # maps was the same before and after
    start_brk: int  # where the heap begins; 0: may not be read
    withheld: tuple[str, str] | None = None  # path and kind of rights that the executed program did not get
    threads: list[int] | None = None  # of an attach: those that the process has
    own_image: bool = False  # of an attach: the process has executed a program since it was forked


class Spool:
    """The folder of one recording, which goes away with this object; memory does not grow with the recording.

    out: where the messages go; None: into a file of the folder, to be read with `messages` afterwards.
    """

    def __init__(self, parent: str | None = None, out: tape.Tape | None = None) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="vmastore-record-", dir=parent))
        except OSError as error:
            raise RecordError(
                f"cannot make a temporary folder in {parent or tempfile.gettempdir()}: {error.strerror}",
                hint="Set TMPDIR to a folder that can be written to.",
            ) from None
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        self.fifo_path = self.path / "fifo"
        self._tape_path = self.path / "tape"
        self.tape: tape.Tape = tape.FileTape(self._tape_path) if out is None else out
        self.size = 0  # bytes of log
        self.shots = 0
        self._closed = False

    def write(self, chunk: bytes) -> None:
        """Append to the log. Raises RecordError when the disk is full."""
        if chunk:
            self.tape.put(tape.LOG, chunk)
            self.size += len(chunk)

    def add_shot(self, shot: Shot, text: bytes) -> None:
        """Append an observation."""
        self.tape.put(tape.SHOT, json.dumps(shot).encode() + b"\n" + text)
        self.shots += 1

    def miss(self, point: Point) -> None:
        """Note an observation that was not made."""
        self.tape.put(tape.MISSED, json.dumps(point[:2]).encode())

    def finish(self) -> None:
        """Nothing more will be written."""
        if not self._closed:
            self._closed = True
            self.tape.close()

    def messages(self) -> Iterator[tape.Message]:
        """What was written into the folder."""
        with self._tape_path.open("rb") as stream:
            yield from tape.messages(stream)

    def close(self) -> None:
        """Delete the folder."""
        self._finalizer()


def read_shot(data: bytes) -> tuple[Shot, bytes]:
    """An observation and its text, of a message."""
    head, _, text = data.partition(b"\n")
    return Shot(*json.loads(head)), text


def clock_pair() -> tuple[int, int]:
    """(CLOCK_MONOTONIC, wall clock) of one moment, ns: the shortest of a few tries."""
    return min(_one_pair() for _ in range(5))[1:]


def _one_pair() -> tuple[int, int, int]:
    """(how long the reading took, CLOCK_MONOTONIC in its middle, wall clock), ns."""
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    return after - before, (before + after) // 2, wall
