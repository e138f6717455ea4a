"""The first event with a property, or that two sides decide differently: from what is stored, else event by event."""

from __future__ import annotations

from typing import NamedTuple

from vmastore.bulk import bulk_work
from vmastore.replay.bisect.find import Flip, flips
from vmastore.replay.bisect.judge import Judge
from vmastore.replay.bisect.part import Difference, differences
from vmastore.replay.bisect.stored import Searched, Side, first_parted, search
from vmastore.replay.trace import StoredTrace


class Held(NamedTuple):
    """Where a property holds.

    flips: every change of the answer, or the one that was searched for. searched: how, where snapshots
    were enough; None: every event was looked at.
    """

    flips: list[Flip]
    searched: Searched | None

    @property
    def first(self) -> Flip | None:
        """Where it begins to hold, for the first time; None: nowhere."""
        return next((flip for flip in self.flips if flip.holds), None)


class Parted(NamedTuple):
    """Where two sides part: after event `seq` (None: nowhere).

    differences: what was met on the way, where the two were replayed; empty where `stored` outcomes told.
    """

    seq: int | None
    differences: list[Difference]
    stored: bool


def first_held(trace: StoredTrace, side: Side, judge: Judge, last: int, *, every: bool = False) -> Held:
    """Where a property begins to hold in events 1 to `last`. every: look at every event, whatever is stored."""
    searched = None if every else search(trace, side, judge, last)
    if searched is not None:
        return Held([searched.flip], searched)
    with bulk_work():
        return Held(list(flips(side.world(trace), trace.events(1, last), judge)), None)


def first_decided(trace: StoredTrace, one: Side, two: Side, last: int, *, every: bool = False) -> Parted:
    """The first event of 1 to `last` that two sides decide differently. every: all of them, by replaying both."""
    stored, seq = (False, None) if every else first_parted(trace, one, two)
    if stored:
        return Parted(seq if seq is not None and seq <= last else None, [], True)
    with bulk_work():
        met = differences(one.world(trace), two.world(trace), trace.events(1, last))
        found = list(met) if every else [first for first in (next(met, None),) if first is not None]
    return Parted(found[0].event.seq if found else None, found, False)
