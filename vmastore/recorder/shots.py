"""The observations of a recording in order, with a short look ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from vmastore.recorder.spool import Shot

NOWHERE = 1 << 63  # behind every log
_AHEAD = 8


class Shots:
    """A stream of observations. `next_offset` is the place in the log of the next one, NOWHERE at the end."""

    def __init__(self, shots: Iterable[tuple[Shot, bytes]]) -> None:
        self._source: Iterator[tuple[Shot, bytes]] = iter(shots)
        self._ahead: deque[tuple[Shot, bytes]] = deque()
        self.next_offset = NOWHERE
        self._fill(1)

    @property
    def next(self) -> Shot:
        """The next observation; there must be one."""
        return self._ahead[0][0]

    def pop(self) -> tuple[Shot, bytes]:
        """Take it, with its text."""
        found = self._ahead.popleft()
        self._fill(1)
        return found

    def baseline_of(self, tid: int) -> Shot | None:
        """The observation of the program that a thread has just begun to execute, if it is near."""
        self._fill(_AHEAD)
        return next((shot for shot, _ in self._ahead if shot.tid == tid and shot.kind == "exec"), None)

    def _fill(self, count: int) -> None:
        while len(self._ahead) < count:
            found = next(self._source, None)
            if found is None:
                break
            self._ahead.append(found)
        self.next_offset = self._ahead[0][0].offset if self._ahead else NOWHERE
