"""Two runs: their calls aligned, and the first operation at which the outcomes part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from vmastore.events import Event
from vmastore.mm.rules import RuleSet
from vmastore.replay.bisect.places import Place, Places, Region
from vmastore.replay.bisect.sequence import Block, align
from vmastore.replay.bisect.tokens import Normaliser, Token
from vmastore.replay.world import ERRNO_NAMES, Outcome

if TYPE_CHECKING:
    from vmastore.replay.trace import StoredTrace


@dataclass(frozen=True)
class Run:
    """One side: a trace up to event `stop`, one address space of it, and how to replay it."""

    trace: StoredTrace
    mm: int
    rules: RuleSet
    stop: int
    options: dict[str, Any] = field(default_factory=dict)  # faults, max_map_count

    def file_name(self, number: int | None) -> str | None:
        """The path of an open file description, or what kind it is."""
        info = None if number is None else self.trace.files.get(number)
        return None if info is None else info.path or info.kind


class Parting(NamedTuple):
    """Where the two runs are not alike.

    kind: `calls`: what stands in `a` is called in the one run only, `b` in the other only;
    `mapping`: the same call on another mapping; `answer`: the kernel answered otherwise;
    `outcome`: another merge or split. `a` and `b` are event numbers, in order; detail says how.
    """

    kind: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    detail: str = ""


@dataclass
class Comparison:
    """How two runs compare: what is not alike in order, and how much is."""

    partings: list[Parting] = field(default_factory=list)
    matched: int = 0  # calls that are in both
    only_a: int = 0
    only_b: int = 0
    before: int = 0  # matched calls before the first parting

    def first(self, *kinds: str) -> Parting | None:
        """The first parting of these kinds (of any)."""
        return next((p for p in self.partings if not kinds or p.kind in kinds), None)


def compare(a: Run, b: Run) -> Comparison:
    """Align the calls of two runs and hold the outcomes of those in both against each other."""
    numbers: dict[tuple[Any, ...], int] = {}
    calls = [_tokens(run, numbers) for run in (a, b)]
    blocks = align(calls[0], calls[1])
    found = Comparison()
    pairs = _Pairs()
    sides = (_steps(a), _steps(b))
    i = j = 0
    for block in [*blocks, Block(len(calls[0]), len(calls[1]), 0)]:
        only_a, only_b = _skip(sides[0], block.a - i), _skip(sides[1], block.b - j)
        if only_a or only_b:
            found.partings.append(Parting("calls", only_a, only_b))
            found.only_a += len(only_a)
            found.only_b += len(only_b)
        for _ in range(block.size):
            one, two = next(sides[0]), next(sides[1])
            found.matched += 1
            found.before += not found.partings
            parting = pairs.hold(one, two)
            if parting is not None:
                found.before -= len(found.partings) == 0
                found.partings.append(parting)
        i, j = block.a + block.size, block.b + block.size
    return found


def _tokens(run: Run, numbers: dict[tuple[Any, ...], int]) -> list[int]:
    """The calls of the run's address space as numbers: equal keys, equal numbers."""
    normaliser = Normaliser(run.file_name)
    found = []
    for event in run.trace.events(1, run.stop):
        if event.mm == run.mm:
            key = normaliser.token(event).key
            found.append(numbers.setdefault(key, len(numbers)))
        normaliser.learn(event)
    return found


class Step(NamedTuple):
    """One call of a run, replayed; places are told as they were when it was made."""

    event: Event
    token: Token
    outcome: Outcome
    answer: tuple[object, Place | None]
    decided: tuple[tuple[Any, ...], ...]  # (api, action, case, then the places of the range)


def _steps(run: Run) -> Iterator[Step]:
    normaliser = Normaliser(run.file_name)
    world = run.trace.world(run.rules, **run.options)
    for event in run.trace.events(1, run.stop):
        if event.mm != run.mm:
            world.apply(event)
            normaliser.learn(event)
            continue
        token = normaliser.token(event)
        outcome = world.apply(event)
        normaliser.learn(event)
        decided = _decided(normaliser.space(run.mm), outcome)
        yield Step(event, token, outcome, normaliser.answer(event), decided)


def _decided(space: Places, outcome: Outcome) -> tuple[tuple[Any, ...], ...]:
    found = []
    for d in outcome.decisions:
        ends = (d.at,) if d.action == "split" else (d.vm_start, d.vm_end - 1)
        if d.action != "none":
            found.append((d.api, d.action, d.case, *map(space.place, ends)))
    return tuple(found)


def _skip(side: Iterator[Step], count: int) -> tuple[int, ...]:
    return tuple(next(side).event.seq for _ in range(count))


class _Pairs:
    """Which region of the one run is which of the other, learnt from the calls that are in both."""

    def __init__(self) -> None:
        self._of_a: dict[Region, Region] = {}
        self._of_b: dict[Region, Region] = {}

    def same(self, one: Place, two: Place) -> bool:
        """Whether two places correspond; regions that have not been met are paired."""
        if one.offset != two.offset:
            return False
        a, b = one.region, two.region
        if a not in self._of_a and b not in self._of_b:
            self._of_a[a], self._of_b[b] = b, a
        return self._of_a.get(a) is b

    def hold(self, one: Step, two: Step) -> Parting | None:
        """Where two calls that are in both runs are not alike, None: they are."""
        found = self._unlike(one, two)
        return None if found is None else Parting(found[0], (one.event.seq,), (two.event.seq,), found[1])

    def _unlike(self, one: Step, two: Step) -> tuple[str, str] | None:
        for x, y in zip(one.token.places, two.token.places, strict=True):
            if not self.same(x, y):
                return "mapping", f"{x.region.label}+{x.offset:#x} is another mapping in the other run"
        (value, place), (other, otherwise) = one.answer, two.answer
        if value != other or (place is None) != (otherwise is None):
            return "answer", f"{_answer(one.event)} and {_answer(two.event)}"
        if place is not None and otherwise is not None and not self.same(place, otherwise):
            return "answer", "the result lies in another mapping"
        if one.outcome.errno != two.outcome.errno or one.outcome.cases != two.outcome.cases:
            return "outcome", f"{_cases(one.outcome)} and {_cases(two.outcome)}"
        for mine, theirs in zip(one.decided, two.decided, strict=True):
            if mine[:3] != theirs[:3]:
                return "outcome", f"{' '.join(mine[:3])} and {' '.join(theirs[:3])}"
            if not all(self.same(x, y) for x, y in zip(mine[3:], theirs[3:], strict=True)):
                return "outcome", f"{mine[0]}: another range"
        return None


def _answer(event: Event) -> str:
    return ERRNO_NAMES.get(event.errno, str(event.errno)) if event.errno else "success"


def _cases(outcome: Outcome) -> str:
    failed = f" {ERRNO_NAMES.get(outcome.errno, outcome.errno)}" if outcome.errno else ""
    return (outcome.cases or "no merge, no split") + failed
