"""The observations of a recording in order, with a look ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from vmastore.recorder.spool import Shot

NOWHERE = 1 << 63  # behind every log


class Shots:
    """A queue of observations. `next_offset` is the place in the log of the next one, NOWHERE if there is none.

    more: get what comes next of the recording, which may call `add` and `miss`; False: there is no more.
    """

    def __init__(self, shots: Iterable[tuple[Shot, bytes]] = (), more: Callable[[], bool] = lambda: False) -> None:
        self._ahead: deque[tuple[Shot, bytes]] = deque(shots)
        self._missed: list[tuple[int, int]] = []  # (thread, how many observations had been added before)
        self._added = len(self._ahead)
        self._more = more

    def add(self, shot: Shot, text: bytes) -> None:
        """One more observation; it may stand before others, if the line behind which it stands was not passed."""
        at = len(self._ahead)
        while at and self._ahead[at - 1][0].offset > shot.offset:
            at -= 1
        self._ahead.insert(at, (shot, text))
        self._added += 1

    def miss(self, tid: int) -> None:
        """A program that this thread has begun to execute was not observed."""
        self._missed.append((tid, self._added))

    @property
    def next_offset(self) -> int:
        """Where the next observation stands in the log."""
        return self._ahead[0][0].offset if self._ahead else NOWHERE

    @property
    def next(self) -> Shot:
        """The next observation; there must be one."""
        return self._ahead[0][0]

    def pop(self) -> tuple[Shot, bytes]:
        """Take it, with its text."""
        return self._ahead.popleft()

    def baseline_of(self, tid: int) -> Shot | None:
        """The observation of the program that a thread has just begun to execute; None if it was missed."""
        while True:
            for missed, (lost, added) in enumerate(self._missed):
                if lost == tid:
                    shot = self._exec_of(tid, added)
                    if shot is None:
                        del self._missed[missed]
                    return shot
            shot = self._exec_of(tid, self._added)
            if shot is not None or not self._more():
                return shot

    def _exec_of(self, tid: int, before: int) -> Shot | None:
        """The first observation of an exec of `tid` among those waiting, of the first `before` ever added."""
        first = self._added - len(self._ahead)
        for number, (shot, _) in enumerate(self._ahead, first):
            if number >= before:
                return None
            if shot.tid == tid and shot.kind == "exec":
                return shot
        return None
