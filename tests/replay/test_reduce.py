"""A reduced trace shows the same at its last event, is 1-minimal and the same every time."""

from __future__ import annotations

import random

import pytest
from traces import BASE, NONE, PAGE, RO, anon, protect, trace, unmap, write

from vmastore.events import Event
from vmastore.mm.rules import preset
from vmastore.replay.isolate import isolate
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.predicate import parse
from vmastore.replay.reduce import AtGoal, Goal, KernelGoal, PredicateGoal, Reduced, reduce_trace
from vmastore.replay.reduce.causes import HOLE, MAP_LIMIT, RLIMIT
from vmastore.replay.reduce.goals import signature

NEW, OLD = preset("6.18"), preset("6.12")


def noise(seed: int, count: int, slots: int) -> list[tuple[object, ...]]:
    """Random calls in many small mappings."""
    rng = random.Random(seed)
    calls = []
    for _ in range(count):
        base = rng.randrange(slots) * 16
        kind = rng.random()
        if kind < 0.35:
            calls.append(anon(base, rng.randint(1, 12), rng.choice((3, 3, 1))))
        elif kind < 0.65:
            calls.append(protect(base + rng.randint(0, 6), rng.randint(1, 4), rng.choice((3, 1, 0))))
        elif kind < 0.8:
            calls.append(write(base + rng.randint(0, 8)))
        elif kind < 0.9:
            calls.append(unmap(base + rng.randint(0, 8), rng.randint(1, 4)))
        else:
            at = BASE + (base + rng.randint(0, 8)) * PAGE
            calls.append(("madvise", at, PAGE * rng.randint(1, 3), rng.choice((14, 15, 16, 17))))
    return calls


def alone(made: MemoryTrace) -> MemoryTrace:
    return isolate(made, made.events, NEW, [1]).trace


def check(done: Reduced | None, goal: Goal) -> MemoryTrace:
    """It shows at its last event, and no single event can go."""
    assert done is not None
    left = done.trace
    assert goal.hit(left, left.events) == len(left.events) - 1
    for n in range(len(left.events)):
        assert goal.hit(left, left.events[:n] + left.events[n + 1 :]) is None, n
    return left


GOALS: dict[str, Goal] = {
    "kernels": KernelGoal(OLD, NEW),
    "count": PredicateGoal(parse("map_count > 12"), NEW),
    "errno": PredicateGoal(parse("errno ENOMEM and splits = 1"), NEW),
    "merge": PredicateGoal(parse("merges > 0 and splits > 0 and bytes mapped > 80k"), NEW),
}


@pytest.mark.parametrize("name", GOALS)
def test_reduced_traces_are_minimal(name: str) -> None:
    """From hundreds of random calls to a handful, for every kind of goal; twice the same."""
    made = alone(trace(*noise(3, 400, 12)))
    goal = GOALS[name]
    left = check(reduce_trace(made, goal, NEW), goal)
    assert len(left.events) <= 16
    again = reduce_trace(made, goal, NEW)
    assert again is not None and again.trace.events == left.events


def test_arguments_are_as_simple_as_they_may_be() -> None:
    """The 15-year missed merge: three or four one-page calls side by side in a fresh arena."""
    made = alone(trace(*noise(4, 1500, 12)))
    goal = KernelGoal(OLD, NEW)
    left = check(reduce_trace(made, goal, NEW), goal)
    assert len(left.events) <= 5
    for event in left.events:
        assert BASE <= event.args[0] < BASE + 16 * PAGE
        assert event.call != "mmap" or event.args[3:] == (0x32, -1, 0)


def test_the_outcome_of_one_event() -> None:
    """A three-way split of a mapping with a file, flags and a history needs the mapping and the call."""
    made = alone(trace(*noise(5, 200, 30), anon(990, 9, 7, 0x4032), write(993), protect(993, 2, NONE)))
    world = made.world(NEW)
    for event in made.events:
        outcome = world.apply(event)
    goal = AtGoal(NEW, signature(event, outcome))
    left = check(reduce_trace(made, goal, NEW), goal)
    assert [event.call for event in left.events] == ["mmap", "mprotect"]
    assert [event.args[:3] for event in left.events] == [(BASE, 3 * PAGE, 3), (BASE + PAGE, PAGE, RO)]


def test_the_map_limit_is_lowered() -> None:
    """What needs a full address space needs a few calls under a limit as low as that."""
    calls = [anon(2 * n, 1) for n in range(300)]
    made = alone(trace(*calls, anon(1000, 8), protect(1002, 2, RO), max_map_count=301))
    goal = PredicateGoal(parse("errno ENOMEM"), NEW)
    left = check(reduce_trace(made, goal, NEW), goal)
    assert len(left.events) <= 4 and left.header.config["max_map_count"] <= 3


def test_the_reason_of_a_failure_is_kept() -> None:
    """`errno ENOMEM` at the map limit stays there, though a later call fails so at a hole; and the other way."""
    full = [anon(2 * n, 1) for n in range(60)]
    at_limit, at_hole = protect(1002, 2, RO), protect(5000, 1, RO)
    for first, second, reason, left_calls in (
        (at_limit, at_hole, MAP_LIMIT, {"mmap"}),
        (at_hole, at_limit, HOLE, {"mprotect"}),
    ):
        made = alone(trace(*full, anon(1000, 8), first, second, max_map_count=61))
        goal = PredicateGoal(parse("errno ENOMEM"), NEW).reasoned(made)
        assert goal.reason == reason and reason in goal.text()
        left = check(reduce_trace(made, goal, NEW), goal)
        assert {event.call for event in left.events} == left_calls
    made = alone(trace(anon(0, 2), anon(2, 60), max_map_count=61, rlimits={"AS": 8 * PAGE}))
    assert PredicateGoal(parse("errno ENOMEM"), NEW).reasoned(made).reason == RLIMIT
    made = alone(trace(anon(0, 2), ("mremap", BASE, 2 * PAGE, PAGE, 8, 0)))
    assert PredicateGoal(parse("errno EINVAL"), NEW).reasoned(made).reason == "mremap"
    assert PredicateGoal(parse("splits"), NEW).reasoned(made).reason is None


def test_work_is_bounded() -> None:
    """From 20,000 events the work is a small multiple of reading them once: what belongs together is guessed."""
    made = alone(trace(*noise(11, 20_000, 1250)))
    goal = PredicateGoal(parse("merges > 0 and seq > 19000 and splits > 0"), NEW)
    done = reduce_trace(made, goal, NEW)
    assert done is not None and len(done.trace.events) <= 4
    assert done.replayed < 3 * len(made.events)


def test_nothing_to_show() -> None:
    """A goal that the trace does not reach: None."""
    made = alone(trace(anon(0, 1)))
    assert reduce_trace(made, PredicateGoal(parse("map_count > 1"), NEW), NEW) is None
    assert reduce_trace(made, KernelGoal(NEW, NEW), NEW) is None
    assert KernelGoal(NEW, NEW).hit(made, [Event(1, 1, 1, 1, None, "munmap", (BASE, PAGE), 0, 0)]) is None
