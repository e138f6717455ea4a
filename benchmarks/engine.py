"""The engine alone (events in memory) beside split-and-merge on a bare SortedDict."""

from __future__ import annotations

from typing import Any

from benchmarks.bare import BareEngine
from benchmarks.measure import BUILD, Timed, cpu, pair
from benchmarks.rows import Goal, Row
from benchmarks.stream import Call, calls
from vmastore.bulk import bulk_work
from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.world import World

HEADER = TraceHeader("bench", "benchmarks", "jsonl", "6.18.44", None, {"max_map_count": 1 << 30}, "recorded")
RULES = preset("6.18")


def to_events(stream: list[Call]) -> list[Event]:
    """The stream as events of one address space, the faults among them."""
    found = []
    for seq, (name, args, result) in enumerate(stream, 1):
        shown: tuple[Any, ...] = (*args, "w", None, "user") if name == "fault" else args
        found.append(Event(seq, 1, 7, 7, None, name, shown, result, 0))
    return found


class Prepared:
    """A stream whose first `live` calls make the mappings: only what follows is timed, on both sides."""

    def __init__(self, count: int, live: int, hot: int | None = None) -> None:
        self.stream = list(calls(count, live, hot=hot))
        self.events = to_events(self.stream)
        self.live = live
        self.vmas = 0

    def ours(self) -> Timed:
        """Full rules, outcomes and reasons."""
        world = World(HEADER, {}, RULES)
        world.mm(1).complete = True
        apply = world.apply
        first, rest = self.events[: self.live], self.events[self.live :]

        def fold() -> None:
            for event in rest:
                apply(event)

        with bulk_work():
            for event in first:
                apply(event)
            seconds = cpu(fold)
        self.vmas = world.mms[1].map_count
        return len(rest), seconds

    def base(self) -> Timed:
        """No rules, no reasons; the collector off."""
        bare = BareEngine()
        bare.run(self.stream[: self.live])
        rest = self.stream[self.live :]
        return len(rest), cpu(lambda: bare.run(rest))


def rows(quick: bool) -> list[Row]:
    """The engine at 1 k, at 65 k, and at 65 k with the work in a hot 1 k."""
    runs, count = (2, 4_000) if quick else (5, 100_000)
    many = 4_000 if quick else 65_000
    small, large, hot = Prepared(count, 1_000), Prepared(count, many), Prepared(count, many, hot=1_000)
    found = []
    for key, job, prepared, least in (
        ("engine-1k", "engine alone, 1 k live", small, 400_000),
        ("engine-65k", "engine alone, 65 k live", large, 180_000),
        ("engine-hot", "engine alone, 65 k live, work in a hot 1 k", hot, None),
    ):
        figures = pair(runs, prepared.ours, prepared.base)
        goals = [] if least is None else [Goal("ours", least=least)]
        row = _row(key, job, figures, "a bare SortedDict loop", goals, prepared)
        found.append(row)
    again = pair(runs, hot.ours, small.ours)
    found.append(
        _row(
            "engine-hot-ratio",
            "the same beside 1 k live",
            again,
            "the engine at 1 k",
            [Goal("ratio", least=0.7)],
            hot,
        )
    )
    return found


def _row(key: str, job: str, figures: dict[str, float], against: str, goals: list[Goal], prepared: Prepared) -> Row:
    more = figures | {"events": len(prepared.events) - prepared.live, "live": prepared.live, "vmas": prepared.vmas}
    return Row(
        key, job, "events/s", figures["rate"], figures["baseline"], against, figures["ratio"], goals, BUILD, more
    )
