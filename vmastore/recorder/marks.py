"""Faults and locks in the order of time, with a look ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vmastore.importers.faults import Fault, Locked

Mark = Fault | Locked
NEVER = 1 << 63  # later than any time


class Passed(NamedTuple):
    """All marks before this time have been given."""

    time_ns: int


class Marks:
    """A stream of marks, sorted by time. It is read no further than is asked for."""

    def __init__(self, marks: Iterable[Mark | Passed]) -> None:
        self._source: Iterator[Mark | Passed] = iter(marks)
        self._ahead: deque[Mark] = deque()
        self._passed_ns = 0

    def first(self, before_ns: int) -> Mark | None:
        """The next mark, left where it is, if its time is before `before_ns`."""
        while not self._ahead:
            if self._passed_ns >= before_ns:
                return None
            self._more()
        mark = self._ahead[0]
        return mark if mark.time_ns < before_ns else None

    def pop(self) -> Mark:
        """Take the mark that `first` has shown."""
        return self._ahead.popleft()

    def lock_of(self, tid: int, before_ns: int) -> int | None:
        """When a thread next takes a lock, if that is before `before_ns`."""
        at = 0
        while True:
            while at == len(self._ahead):
                if self._passed_ns >= before_ns:
                    return None
                self._more()
            mark = self._ahead[at]
            if mark.time_ns >= before_ns:
                return None
            if mark.tid == tid and isinstance(mark, Locked):
                return mark.time_ns
            at += 1

    def _more(self) -> None:
        found = next(self._source, None)
        if found is None:
            self._passed_ns = NEVER
        elif isinstance(found, Passed):
            self._passed_ns = max(self._passed_ns, found.time_ns)
        else:
            self._ahead.append(found)
