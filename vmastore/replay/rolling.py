"""What stands for all outcomes of a replay: two replays are equal up to where it is equal."""

from __future__ import annotations

from hashlib import blake2b
from itertools import repeat
from marshal import dumps
from typing import Any, Final
from zlib import crc32

from vmastore.replay.lifetimes import Changes
from vmastore.store.runs import packed

# of an outcome: seq, mm, cases, errno, result, map_count; and what `Lifetimes.after` gave
Facts = tuple[int, int, str, int, int | None, int, Changes]
_PLAIN: Final = 0  # marshal's first format: the same bytes for equal values, in any process and release of Python


class Rolling:
    """Outcomes told in few bytes: what merged and split, result, errno, the VMA count, and the VMAs as they became.

    Two replays of the same events have the same hash after a run of events iff their outcomes are the same up to
    there (but for a collision of 64 bits), so that the first run that differs is found by bisection; and each event
    has a mark, by which the event in that run is found.

    `facts` gets those of the events since the last run, in order, but for events that changed nothing, decided
    nothing and were answered as the trace says: such a one has the mark 0, which needs no number, since what is
    said of any other one begins with its own.

    rows: gets the values of rows as `ReplayWriter.rolling` wants them, one a run.
    """

    def __init__(self, rows: list[Any]) -> None:
        self.facts: list[Facts] = []
        self._rows = rows
        self._hash = blake2b(digest_size=8)  # of all facts so far
        self._last = 0  # the last event of the last run

    def end_run(self, last: int) -> None:
        """A run ends with event `last`; nothing, where that was the last of one already."""
        first = self._last + 1
        if last < first:
            return
        told = list(map(dumps, self.facts, repeat(_PLAIN)))
        marks = [0] * (last - first + 1)
        for fact, mark in zip(self.facts, map(crc32, told), strict=True):
            marks[fact[0] - first] = mark
        self._hash.update(b"".join(told))
        self._rows += (first, packed(self._hash.digest(), marks))
        self.facts.clear()
        self._last = last
