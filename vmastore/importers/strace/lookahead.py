"""Whose child is it? A new thread's first line can come before the call that made it returns.

Records are held back, from such a line on, until the parent's line with the child's tid has come;
then they go on in their order, and the tracker knows the parent at the child's first record.
"""

from __future__ import annotations

from vmastore.importers.strace import constants
from vmastore.importers.strace.arguments import clone_flags
from vmastore.importers.strace.joiner import Called, Happened, Opened, Record
from vmastore.importers.strace.lexer import Kind
from vmastore.importers.strace.tids import CLONES
from vmastore.importers.strace.tracker import Tracker


class Lookahead:
    """Feed records to a tracker, at most `limit` of them late.

    limit 0: never hold anything back (a live recording); the oldest call in flight is the parent.
    """

    def __init__(self, tracker: Tracker, limit: int) -> None:
        self._tracker = tracker
        self._limit = limit
        self._held: list[Record] = []
        self._awaited: set[int] = set()  # new threads whose parent is not known yet
        self._open: dict[int, Opened] = {}  # calls in flight that may be the parent's
        self._made: set[int] = set()  # threads whose maker has returned

    @property
    def holding(self) -> bool:
        """Whether records are held back."""
        return bool(self._held)

    def push(self, record: Record) -> None:
        """Take the next record."""
        if not self._held:
            if not self._unknown_parent(record):
                self._tracker.record(record)
                return
            births = self._tracker.births
            self._open = {tid: birth.opened for tid, birth in births.items() if birth.child is None}
        self._hold(record)
        if not self._awaited or not self._open or len(self._held) > self._limit:
            self.flush()

    def flush(self) -> None:
        """Let go of everything that is held back."""
        held, self._held = self._held, []
        if not self._open:  # nobody can be its parent any more: it was there before the trace
            for tid in self._awaited:
                self._tracker.parents[tid] = None
        self._awaited.clear()
        self._made.clear()
        for record in held:
            self._tracker.record(record)

    def _unknown_parent(self, record: Record) -> bool:
        tracker = self._tracker
        if not self._limit or not tracker.births or record.tid in tracker.processes.threads:
            return False
        if isinstance(record, Happened) and record.kind is Kind.FRAME:
            return False
        candidates = [birth.opened for birth in tracker.births.values() if birth.child is None]
        return bool(candidates) and not (len(candidates) == 1 and _is_vfork(candidates[0]))

    def _hold(self, record: Record) -> None:
        self._held.append(record)
        tid = record.tid
        if isinstance(record, Opened):
            self._open[tid] = record
        elif isinstance(record, Called) and record.name in CLONES:
            self._returned(record)
        known = (self._made, self._tracker.processes.threads, self._tracker.parents)
        if tid and not any(tid in place for place in known):
            self._awaited.add(tid)

    def _returned(self, record: Called) -> None:
        opened = self._open.pop(record.tid, None)
        child = record.result.value
        if opened is None or record.result.errno or child is None:
            return
        self._made.add(child)
        if child in self._awaited:
            self._awaited.discard(child)
            self._tracker.parents[child] = record


def _is_vfork(opened: Opened) -> bool:
    """Whether the parent waits for its child, so that its line may be long in coming."""
    return bool((clone_flags(opened.name, opened.tokens) or 0) & constants.CLONE_VFORK)
