"""What a reduced trace must still show, and at which event it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from vmastore.events import Event
from vmastore.mm.rules import RuleSet
from vmastore.replay.bisect import differ
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.predicate import Moment, Predicate
from vmastore.replay.reduce.causes import cause, may_be
from vmastore.replay.world import Outcome, World

Signature = tuple[object, ...]


class Goal(Protocol):
    """trace: header and files; its events are those given to `hit`."""

    def hit(self, trace: MemoryTrace, events: Sequence[Event]) -> int | None:
        """The position of the first event at which it shows, or None."""

    def text(self) -> str:
        """In words."""


@dataclass
class PredicateGoal:
    """A predicate holds after an event of the address space (of any, where a fork makes more).

    reason: where it holds of an event that failed, what made it fail (see causes.py); None: anything.
    """

    predicate: Predicate
    rules: RuleSet
    reason: str | None = None

    def hit(self, trace: MemoryTrace, events: Sequence[Event]) -> int | None:
        world = trace.world(self.rules)
        world.watch = True
        test = self.predicate.test
        every = self.predicate.of_event or self.predicate.restless
        for n, event in enumerate(events):
            outcome = world.apply(event)
            mm = world.mms.get(event.mm)
            if mm is None or world.oops:
                continue
            if every or mm.dirty or not n:
                if mm.dirty:
                    mm.dirty.clear()
                if test(Moment(mm, outcome)) and self._same(trace, events, n, outcome, world):
                    return n
        return None

    def _same(self, trace: MemoryTrace, events: Sequence[Event], n: int, outcome: Outcome, world: World) -> bool:
        """Whether the event failed, if it did, for the reason asked for."""
        if self.reason is None:
            return True
        if not outcome.errno or not may_be(world, events[n], self.reason):
            return False
        return cause(trace, events, n, self.rules, outcome.errno) == self.reason

    def reasoned(self, trace: MemoryTrace) -> PredicateGoal:
        """This goal, with the reason of the first event of a trace at which it holds, if that fails."""
        at = self.hit(trace, trace.events) if self.predicate.of_event else None
        if at is None:
            return self
        world = trace.world(self.rules)
        for event in trace.events[: at + 1]:
            outcome = world.apply(event)
        if not outcome.errno:
            return self
        return replace(self, reason=cause(trace, trace.events, at, self.rules, outcome.errno))

    def text(self) -> str:
        why = f" by {self.reason}" if self.reason else ""
        return f"{self.predicate.text}{why}, under {self.rules.name}"


@dataclass
class AtGoal:
    """An event has this outcome: what was merged and split, with its reasons, and the errno."""

    rules: RuleSet
    wanted: Signature

    def hit(self, trace: MemoryTrace, events: Sequence[Event]) -> int | None:
        world = trace.world(self.rules)
        call = self.wanted[0]
        for n, event in enumerate(events):
            outcome = world.apply(event)
            if event.call == call and signature(event, outcome) == self.wanted:
                return n
        return None

    def text(self) -> str:
        return f"this outcome of {self.wanted[0]}, under {self.rules.name}"


def signature(event: Event, outcome: Outcome) -> Signature:
    """What makes an outcome the same whatever the addresses."""
    decisions = tuple(
        (d.api, d.action, d.case, d.reason_prev and d.reason_prev.text, d.reason_next and d.reason_next.text)
        for d in outcome.decisions
    )
    return event.call, outcome.errno, decisions


@dataclass
class KernelGoal:
    """Two rule sets decide an event differently, in the same way as at first."""

    rules: RuleSet
    against: RuleSet
    wanted: Signature | None = None  # None: the first difference, of whatever kind

    def hit(self, trace: MemoryTrace, events: Sequence[Event]) -> int | None:
        one, two = trace.world(self.rules), trace.world(self.against)
        for n, event in enumerate(events):
            a, b = one.apply(event), two.apply(event)
            if differ(a, b) or one.oops != two.oops:
                same = self.wanted is None or pair_signature(event, a, b) == self.wanted
                return n if same else None
        return None

    def text(self) -> str:
        return f"{self.rules.name} and {self.against.name} decide an event differently"


def pair_signature(event: Event, a: Outcome, b: Outcome) -> Signature:
    """What makes a difference between two rule sets the same whatever the addresses."""
    return event.call, a.cases, a.errno, b.cases, b.errno
