"""What stands for all outcomes of a replay: two replays are equal up to where it is equal."""

from __future__ import annotations

from hashlib import blake2b
from marshal import dumps
from typing import Any
from zlib import crc32

from vmastore.replay.lifetimes import Changes
from vmastore.store.runs import packed

# of an outcome: seq, mm, cases, errno, result, map_count; and what `Lifetimes.after` gave
Facts = tuple[int, int, str, int, int | None, int, Changes]
_PLAIN = 0  # marshal's first format: the same bytes for equal values, in any process and release of Python


class Rolling:
    """Outcomes told in few bytes: what merged and split, result, errno, the VMA count, and the VMAs as they became.

    Two replays of the same events have the same hash after a run of events iff their outcomes are the same up to
    there (but for a collision of 64 bits), so that the first run that differs is found by bisection; and each event
    has a mark, by which the event in that run is found.

    An event that changed nothing, decided nothing and was answered as the trace says has the mark 0, and `mark` is
    not called: what is said of any other one begins with its number.

    rows: gets the values of rows as `ReplayWriter.rolling` wants them, one a run.
    """

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows
        self._hash = blake2b(digest_size=8)  # of all facts so far
        self._facts: list[bytes] = []  # of the events since the last run
        self.marks: list[int] = []  # one of each event since the last run, in order

    def mark(self, facts: Facts) -> int:
        """The mark of an event that has something to tell (see above): the next one in `marks`."""
        told = dumps(facts, _PLAIN)
        self._facts.append(told)
        return crc32(told)

    def end_run(self, last: int) -> None:
        """A run ends with event `last`; nothing, where that was the last of one already."""
        if not self.marks:
            return
        self._hash.update(b"".join(self._facts))
        self._rows += (last - len(self.marks) + 1, packed(self._hash.digest(), self.marks))
        self._facts.clear()
        self.marks.clear()
