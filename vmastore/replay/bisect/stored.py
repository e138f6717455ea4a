"""Bisection over what a replay has stored: snapshots of states, and the rolling hash of outcomes."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from typing import NamedTuple

from vmastore.bulk import bulk_work
from vmastore.mm.rules import RuleSet
from vmastore.replay.bisect.find import Flip, flips
from vmastore.replay.bisect.judge import Judge, SqlJudge
from vmastore.replay.snapshots import Snapshots, options_key
from vmastore.replay.trace import StoredTrace
from vmastore.replay.world import World
from vmastore.store.derived import first_difference
from vmastore.store.snapshots import births, find_replay, places


class Side(NamedTuple):
    """A rule set and options of a replay."""

    rules: RuleSet
    faults: str = "recorded"
    max_map_count: int | None = None

    @property
    def key(self) -> str:
        return options_key(self.faults, self.max_map_count)

    def world(self, trace: StoredTrace) -> World:
        """A world that no event has been folded into."""
        return trace.world(self.rules, faults=self.faults, max_map_count=self.max_map_count)


class Searched(NamedTuple):
    """What bisecting a property came to.

    flip: where it begins to hold. states: how many states were loaded and looked at; passed: how many
    events were replayed, one after the other, to find the very one.
    """

    flip: Flip
    states: int
    passed: int


def replay_of(trace: StoredTrace, side: Side) -> int | None:
    """The number of the stored replay of the whole trace on that side; None: none, or a stale one."""
    fresh = Snapshots(trace, side.rules, side.key).replay
    if fresh is None:
        return None
    found = find_replay(trace.store, trace.info.trace, side.rules.name, side.key)
    return fresh if found is not None and found.events >= trace.info.events else None


def first_parted(trace: StoredTrace, one: Side, two: Side) -> tuple[bool, int | None]:
    """(whether both replays are stored, the first event that they decide differently or None).

    log2(events) looks at the rolling hash of outcomes, which once different stays so.
    """
    numbers = replay_of(trace, one), replay_of(trace, two)
    if numbers[0] is None or numbers[1] is None:
        return False, None
    return True, first_difference(trace.store, numbers[0], numbers[1])


class States:
    """States of a replay, from the nearest snapshot each."""

    def __init__(self, trace: StoredTrace, side: Side) -> None:
        self.trace = trace
        self.side = side
        self.snapshots = Snapshots(trace, side.rules, side.key)
        self.loaded = 0
        self.last: World | None = None
        number = self.snapshots.replay
        self.events = [] if number is None else [seq for seq, _ in places(trace.store, number)]

    def at(self, seq: int) -> World:
        """The world after event `seq`."""
        self.loaded += 1
        world = self.side.world(self.trace)
        done = self.snapshots.load(seq, world)
        if done < seq:
            for event in self.trace.events(done + 1, seq):
                world.apply(event)
        return world

    def holds(self, judge: Judge, seq: int) -> bool:
        """Whether a property holds after event `seq`. `last` is where it did not, the last time."""
        world = self.at(seq)
        found = judge.holds(world, seq)
        done: World | None = world
        if not found:
            done, self.last = self.last, world
        if done is not None:
            done.close()
        return found


def search(trace: StoredTrace, side: Side, judge: Judge, last: int) -> Searched | None:
    """The event at which a property begins to hold, by bisection over snapshots and one pass behind the last.

    It is an event after which the property holds and before which it does not; that it is the only
    one is assumed. Returns None where that cannot be used: no snapshots, a property that a state alone
    does not answer, or one that holds before the first event or does not after event `last`.
    """
    if judge.of_event:
        return None
    states = States(trace, side)
    points = [0, *states.events[: bisect_right(states.events, last - 1)]]
    if len(points) < 3:
        return None
    if isinstance(judge, SqlJudge) and judge.asks_births:
        replay = replay_of(trace, side)
        if replay is None:
            return None
        judge.births = partial(births, trace.store, replay)
    with bulk_work():
        if states.holds(judge, 0) or not states.holds(judge, last):
            return None
        low, high = 0, len(points)  # it does not hold at points[low], and does behind points[high - 1]
        while high - low > 1:
            middle = (low + high) // 2
            if states.holds(judge, points[middle]):
                high = middle
            else:
                low = middle
        stop = points[high] if high < len(points) else last
        world = states.last  # after points[low]: the last event looked at after which it did not hold
        assert world is not None
        found = flips(world, trace.events(points[low] + 1, stop), judge, after=points[low])
        flip = next(flip for flip in found if flip.holds)
    return Searched(flip, states.loaded, flip.event.seq - points[low])
