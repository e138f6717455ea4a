"""Where a property begins and ceases to hold: one pass over the events, looked at after every one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vmastore.events import Event
from vmastore.replay.bisect.judge import Judge
from vmastore.replay.world import World


class Flip(NamedTuple):
    """After this event the answer is `holds`, and before it was the other (before all events: no).

    mm: the address space that the answer is about, 0 where it is about all of them. map_count: its
    VMAs after the event (of the event's own, where it is about all).
    """

    event: Event
    mm: int
    holds: bool
    map_count: int


def flips(world: World, events: Iterable[Event], judge: Judge, *, after: int = 0) -> Iterator[Flip]:
    """Every change of the answer, in order, for each address space apart.

    An address space that ends takes its answer with it: that is no flip. after: the event that the world
    is after, where that is not a fresh one.
    """
    judge.begin(world, after)
    held: dict[int, bool] = {}
    apply = world.apply
    for event in events:
        outcome = apply(event)
        for mm, holds in judge.after(event, outcome):
            if holds != held.get(mm, False):
                held[mm] = holds
                yield Flip(event, mm, holds, world.mms[mm].map_count if mm else outcome.map_count)
