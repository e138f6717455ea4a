"""Whose a line is that prints no pid."""

from __future__ import annotations

from vmastore.importers.strace.lexer import Line
from vmastore.importers.strace.scan import Result

CLONES = frozenset({"clone", "clone3", "fork", "vfork"})


class Tids:
    """Whose a line without a pid is.

    On stderr, strace leaves the pid out while it traces one process only: the first one until others
    come, or the last one left.
    """

    def __init__(self) -> None:
        self.main: int | None = None  # the first process, once known
        self.forced: int | None = None  # -ff: the thread whose file this is
        self._alive: dict[int, None] = {}
        self._announced: set[int] = set()

    def of(self, line: Line) -> int:
        """The thread of a line: as printed, else the only one alive, else the first one, else 0."""
        if line.tid is not None:
            self._alive[line.tid] = None
            return line.tid
        if self.forced is not None:
            return self.forced
        if self.main is not None and (self.main in self._alive or not self._alive):
            tid = self.main
        elif len(self._alive) == 1:
            return next(iter(self._alive))
        else:
            tid = self.main or 0
        self._alive[tid] = None
        return tid

    @property
    def lone(self) -> int | None:
        """The only thread alive, as far as the log's lines show."""
        return next(iter(self._alive)) if len(self._alive) == 1 else None

    def attached(self, tid: int) -> None:
        """strace says that it traces `tid` now."""
        self._alive[tid] = None
        self._announced.add(tid)

    def called(self, name: str, result: Result) -> None:
        """A call returned: a thread it made is one that prints its own pid."""
        if name in CLONES and result.value is not None and result.value > 0:
            self._announced.add(result.value)

    def gone(self, tid: int) -> None:
        """`tid` has ended."""
        self._alive.pop(tid, None)
        self._announced.discard(tid)
