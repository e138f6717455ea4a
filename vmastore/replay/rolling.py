"""One number an event that stands for all outcomes so far: two replays are equal up to where it is equal."""

from __future__ import annotations

import marshal
from hashlib import blake2b

from vmastore.replay.lifetimes import Change
from vmastore.replay.world import Outcome

_blank = blake2b(digest_size=8).copy  # twice as fast as a new one
_PLAIN = 0  # marshal's first format: the same bytes for equal values, in any process and release of Python


class Rolling:
    """A hash over outcomes: what merged and split, result, errno, the VMA count, and the VMAs as they became.

    Two replays of the same events have the same value after event n iff their outcomes are the same
    up to n (but for a collision of 64 bits), so the first event that differs is found by bisection.
    """

    def __init__(self) -> None:
        self._state = bytes(8)

    def add(self, outcome: Outcome, changes: list[Change]) -> int:
        """The value after one more outcome, as a signed 64-bit integer. changes: of `Lifetimes.after`."""
        facts = (outcome.mm, outcome.cases, outcome.errno, outcome.result, outcome.map_count, changes)
        digest = _blank()
        digest.update(self._state + marshal.dumps(facts, _PLAIN))
        self._state = digest.digest()
        return int.from_bytes(self._state, "little", signed=True)
