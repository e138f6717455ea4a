"""Bisection over stored replays, beside the linear pass; the answers are checked."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.engine import RULES
from benchmarks.measure import BUILD, cpu, percentile
from benchmarks.points import PLACE, planted
from benchmarks.rows import Goal, Row
from vmastore.bulk import bulk_work
from vmastore.replay.bisect import PredicateJudge, Side, differences, first_parted, flips, look, search
from vmastore.replay.derive import derive
from vmastore.replay.predicate import parse
from vmastore.replay.trace import StoredTrace

SWITCH = "map-stack-nohugepage"
ONE, TWO = Side(RULES), Side(RULES.with_rule(SWITCH, False))


def rows(trace: StoredTrace, runs: int) -> list[Row]:
    """Both ways to bisect a trace of `benchmarks.points` whose replay under RULES is stored."""
    derive(trace, TWO.rules)
    return [_predicate(trace, runs), _outcome(trace, runs)]


def by_snapshots(trace: StoredTrace) -> dict[str, float]:
    """The event that maps PLACE and its explanation. Returns the states loaded and events passed."""
    judge = PredicateJudge(parse(f"mapped {PLACE:#x}"))
    found = search(trace, ONE, judge, trace.info.events)
    assert found is not None and found.flip.event.seq == planted(trace.info.events)[0], found
    look(trace, found.flip.event.seq, RULES)
    return {"states": found.states, "passed": found.passed}


def _predicate(trace: StoredTrace, runs: int) -> Row:
    last = trace.info.events
    judge = PredicateJudge(parse(f"mapped {PLACE:#x}"))
    work: dict[str, float] = {}

    def ours() -> None:
        work.update(by_snapshots(trace))

    def linear() -> None:
        with bulk_work():
            found = next(flip for flip in flips(ONE.world(trace), trace.events(1, last), judge) if flip.holds)
        assert found.event.seq == planted(last)[0]

    goals = [Goal("ratio", least=100), Goal("ours", most=1000)]
    return _row("bisect", "bisect for a property", trace, runs, (ours, linear), goals, work)


def _outcome(trace: StoredTrace, runs: int) -> Row:
    last = trace.info.events

    def ours() -> None:
        assert first_parted(trace, ONE, TWO) == (True, planted(last)[1])

    def linear() -> None:
        with bulk_work():
            found = next(differences(ONE.world(trace), TWO.world(trace), trace.events(1, last)))
        assert found.event.seq == planted(last)[1]

    goals = [Goal("ratio", least=100), Goal("ours", most=50)]
    return _row("bisect-outcomes", "bisect for where two rule sets part", trace, runs, (ours, linear), goals, {})


def _row(
    key: str,
    job: str,
    trace: StoredTrace,
    runs: int,
    jobs: tuple[Callable[[], None], Callable[[], None]],
    goals: list[Goal],
    work: dict[str, float],
) -> Row:
    """ours: median of `runs`; the linear pass once, as it takes most of a minute."""
    times = [cpu(jobs[0]) * 1000 for _ in range(runs)]
    linear = cpu(jobs[1]) * 1000
    middle = percentile(times, 50)
    more = {"p95_ms": round(percentile(times, 95), 2), "events": trace.info.events, "runs": runs} | work
    return Row(
        key, f"{job}, {trace.info.events:,} events", "ms", round(middle, 2), round(linear, 1), "the linear pass",
        round(linear / middle, 1), goals, BUILD, more,
    )  # fmt: skip
