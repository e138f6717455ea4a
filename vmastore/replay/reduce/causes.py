"""What made a call fail: a limit, a hole in its range, what the trace alone shows, or the call itself.

`errno ENOMEM` alone names many things. A reduction that is to show one of them keeps this reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmastore.events import Event
from vmastore.mm.rules import RuleSet
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.ranges import spans
from vmastore.replay.world import World
from vmastore.syscalls.common import covered

MAP_LIMIT = "the map limit"
RLIMIT = "a resource limit"
HOLE = "a hole in its range"
ANSWER = "the kernel's answer, which no rule predicts"
_NEAR = 8  # VMAs from the map limit: further away no call meets it
_NEEDS_ALL = {"mprotect", "pkey_mprotect", "mlock", "mlock2", "munlock", "madvise", "mseal", "mbind", "prctl"}


def cause(trace: MemoryTrace, events: Sequence[Event], n: int, rules: RuleSet, errno: int) -> str:
    """Why events[n] fails with errno in a replay of events[:n + 1] from the start: a constant above, or its call.

    A limit is the cause if without it, at this very event, the call does not fail so.
    """
    event = events[n]
    world = _before(trace, events, n, rules)
    mm = world.mm(event.mm)
    if mm.map_count + _NEAR >= mm.config.max_map_count:
        mm.config.max_map_count = 1 << 40
        if world.apply(event).errno != errno:
            return MAP_LIMIT
        world = _before(trace, events, n, rules)
        mm = world.mm(event.mm)
    if mm.rlimits:
        mm.rlimits = {}
        if world.apply(event).errno != errno:
            return RLIMIT
        world = _before(trace, events, n, rules)
        mm = world.mm(event.mm)
    if event.call in _NEEDS_ALL and not all(covered(mm, low, high) for low, high in spans(event)):
        return HOLE
    if event.errno and world.apply(event._replace(result=None, errno=0)).errno != errno:
        return ANSWER
    return event.call


def _before(trace: MemoryTrace, events: Sequence[Event], n: int, rules: RuleSet) -> World:
    world = trace.world(rules)
    for event in events[:n]:
        world.apply(event)
    return world


def may_be(world: World, event: Event, wanted: str) -> bool:
    """Whether a failure just seen can have that cause at all: a cheap look, before `cause` replays."""
    mm = world.mms.get(event.mm)
    return wanted != MAP_LIMIT or (mm is not None and mm.map_count + _NEAR >= mm.config.max_map_count)
