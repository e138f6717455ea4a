"""What a predicate looks at, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmastore.mm.mm import Mm
from vmastore.replay.world import Outcome


@dataclass(frozen=True)
class Moment:
    """An address space, and the outcome of the event that led there."""

    mm: Mm
    outcome: Outcome


Test = Callable[[Moment], bool]


@dataclass(frozen=True)
class Predicate:
    """A parsed predicate: call it with a Moment.

    of_event: it speaks of the event (errno, merges, splits), not of the state alone, so that knowing
    the state after an event does not answer it.
    restless: its answer may change though no VMA did (the above, seq, reasons of lost merges).
    """

    text: str
    test: Test
    of_event: bool = False
    restless: bool = False

    def __call__(self, at: Moment) -> bool:
        return self.test(at)
