"""What a recording writes while it runs: strace's log, the observed address spaces, readings of the clocks.

Everything lies in one temporary folder that goes away with the Spool. Memory does not grow with the
recording's length.
"""

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
    begin: int  # where its text begins in the file of texts
    length: int


class Spool:
    """The folder of one recording."""

    def __init__(self, parent: str | None = None) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="vmastore-record-", dir=parent))
        except OSError as error:
            raise RecordError(
                f"cannot make a temporary folder in {parent or tempfile.gettempdir()}: {error.strerror}",
                hint="Set TMPDIR to a folder with free space: a recording needs about 150 bytes a call.",
            ) from None
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        self.log_path = self.path / "strace.log"
        self.perf_path = self.path / "perf.data"
        self.fifo_path = self.path / "fifo"
        self._log = self.log_path.open("wb", buffering=1 << 16)
        self._texts = (self.path / "maps").open("wb")
        self._shots = (self.path / "shots.jsonl").open("w", encoding="ascii")
        self.size = 0  # bytes of log
        self.shots = 0
        self.clock: list[tuple[int, int]] = []  # (CLOCK_MONOTONIC, wall clock) read together, ns

    def write(self, chunk: bytes) -> None:
        """Append to the log. Raises RecordError when the disk is full."""
        try:
            self._log.write(chunk)
        except OSError as error:
            raise self._full(error) from None
        self.size += len(chunk)

    def add_shot(self, shot: Shot, text: bytes) -> None:
        """Append an observation; its begin and length are filled in here."""
        shot = shot._replace(begin=self._texts.tell(), length=len(text))
        try:
            self._texts.write(text)
            self._shots.write(json.dumps(shot) + "\n")
        except OSError as error:
            raise self._full(error) from None
        self.shots += 1

    def _full(self, error: OSError) -> RecordError:
        return RecordError(
            f"{self.path}: {error.strerror}", hint="Set TMPDIR to a folder with more free space, and record again."
        )

    def read_clocks(self) -> None:
        """Note what both clocks show now, to within the shortest of a few tries."""
        self.clock.append(clock_pair())

    def finish(self) -> None:
        """Nothing more will be written."""
        for file in (self._log, self._texts, self._shots):
            file.close()

    def read_shots(self) -> Iterator[tuple[Shot, bytes]]:
        """The observations with their texts, in order."""
        with (self.path / "shots.jsonl").open(encoding="ascii") as shots, (self.path / "maps").open("rb") as texts:
            for line in shots:
                shot = Shot(*json.loads(line))
                texts.seek(shot.begin)
                yield shot, texts.read(shot.length)

    def close(self) -> None:
        """Delete the folder."""
        self.finish()
        self._finalizer()


def clock_pair() -> tuple[int, int]:
    """(CLOCK_MONOTONIC, wall clock) of one moment, ns: the shortest of a few tries."""
    return min(_one_pair() for _ in range(5))[1:]


def _one_pair() -> tuple[int, int, int]:
    """(how long the reading took, CLOCK_MONOTONIC in its middle, wall clock), ns."""
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    return after - before, (before + after) // 2, wall
