"""One number an event that stands for all outcomes so far: two replays are equal up to where it is equal."""

from __future__ import annotations

from hashlib import blake2b
from marshal import dumps

from vmastore.replay.lifetimes import Changes

# of an outcome: seq, mm, cases, errno, result, map_count; and what `Lifetimes.after` gave
Facts = tuple[int, int, str, int, int | None, int, Changes]
_PLAIN = 0  # marshal's first format: the same bytes for equal values, in any process and release of Python


class Rolling:
    """A hash over outcomes: what merged and split, result, errno, the VMA count, and the VMAs as they became.

    Two replays of the same events have the same value after event n iff their outcomes are the same
    up to n (but for a collision of 64 bits), so the first event that differs is found by bisection.

    An event that changed nothing, decided nothing and was answered as the trace says adds nothing, and is not given
    to `add`: what is said of any other one begins with its number.
    """

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=8)  # of all facts so far: each value is its digest up to there
        self.value = self._hash.digest()

    def add(self, facts: Facts) -> bytes:
        """The value after one more event that has something to tell (see above), 8 bytes."""
        self._hash.update(dumps(facts, _PLAIN))
        self.value = self._hash.digest()
        return self.value
