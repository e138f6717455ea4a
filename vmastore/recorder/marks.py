"""Faults and locks in the order of time, with a look ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from vmastore.importers.faults import Fault, Locked

Mark = Fault | Locked
NEVER = 1 << 63  # later than any time


class Marks:
    """A stream of marks, sorted by time. `next_ns` is the time of the next one, NEVER at the end."""

    def __init__(self, marks: Iterable[Mark]) -> None:
        self._source: Iterator[Mark] = iter(marks)
        self._ahead: deque[Mark] = deque()
        self.next_ns = NEVER
        self._fill()

    def pop(self) -> Mark:
        """The next mark; there must be one."""
        mark = self._ahead.popleft()
        self._fill()
        return mark

    def lock_of(self, tid: int, before_ns: int) -> int | None:
        """When a thread next takes a lock, if that is before `before_ns`."""
        for mark in self._look_ahead():
            if mark.time_ns >= before_ns:
                return None
            if mark.tid == tid and isinstance(mark, Locked):
                return mark.time_ns
        return None

    def _look_ahead(self) -> Iterator[Mark]:
        yield from self._ahead
        for mark in self._source:
            self._ahead.append(mark)
            yield mark

    def _fill(self) -> None:
        if not self._ahead:
            mark = next(self._source, None)
            if mark is not None:
                self._ahead.append(mark)
        self.next_ns = self._ahead[0].time_ns if self._ahead else NEVER
