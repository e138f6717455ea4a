"""One number an event that stands for all outcomes so far: two replays are equal up to where it is equal."""

from __future__ import annotations

from hashlib import blake2b

from vmastore.replay.lifetimes import Change
from vmastore.replay.world import Outcome


class Rolling:
    """A hash over outcomes: what merged and split, result, errno, the VMA count, and the VMAs as they became.

    Two replays of the same events have the same value after event n iff their outcomes are the same
    up to n (but for a collision of 64 bits), so the first event that differs is found by bisection.
    """

    def __init__(self) -> None:
        self._state = bytes(8)

    def add(self, outcome: Outcome, changes: list[Change]) -> int:
        """The value after one more outcome, as a signed 64-bit integer. changes: of `Lifetimes.after`."""
        text = f"{outcome.mm} {outcome.cases} {outcome.errno} {outcome.result} {outcome.map_count} {changes}"
        self._state = blake2b(self._state + text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(self._state, "little", signed=True)
