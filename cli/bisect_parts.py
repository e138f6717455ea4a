"""`bisect find` between two rule sets, or two sets of options, over one trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from vmastore.cli.bisect_show import event_text, explain, outcome_dict, outcome_text, side_dict
from vmastore.cli.common import check_faults, choose_rules, echo, echo_json

if TYPE_CHECKING:
    from vmastore.mm.rules import RuleSet
    from vmastore.replay.bisect import Difference, Found
    from vmastore.replay.trace import StoredTrace


@dataclass(frozen=True)
class Side:
    """A rule set and the options of a replay (faults, max_map_count)."""

    rules: RuleSet
    options: dict[str, Any]

    def name(self, other: Side) -> str:
        """The rule set, and what of the options is not the same on the other side."""
        words = [self.rules.name]
        for key, word in (("faults", "--faults"), ("max_map_count", "--max-map-count")):
            if self.options[key] != other.options[key]:
                value = self.options[key]
                words.append(f"{word} {'of the trace' if value is None else value}")
        return " ".join(words)


def other_side(
    trace: StoredTrace,
    side: Side,
    kernel: str | None,
    against: str | None,
    rules: list[str] | None,
    faults: str | None,
    max_map_count: int | None,
) -> Side:
    """What `side` is compared with; what is not said of it is as on the first side, but for --rule."""
    options = dict(side.options)
    if faults is not None:
        options["faults"] = check_faults(faults)
    if max_map_count is not None:
        options["max_map_count"] = max_map_count
    only_options = (faults is not None or max_map_count is not None) and not (against or rules)
    chosen = side.rules if only_options else choose_rules(trace.header, against or kernel, rules)
    return Side(chosen, options)


def rule_sets(trace: StoredTrace, at: int, one: Side, two: Side, every: bool, as_json: bool) -> None:
    """The first event, or every one, that the two sides decide differently."""
    from vmastore.replay import bisect

    sides = [bisect.Side(side.rules, **side.options) for side in (one, two)]
    names = one.name(two), two.name(one)
    seq, found, stored = bisect.first_decided(trace, sides[0], sides[1], at, every=every)
    method = "stored outcomes" if stored else "replay"
    if seq is None:
        if as_json:
            echo_json({"found": None, "kernel": names[0], "against": names[1], "method": method})
        else:
            echo(f"{names[0]} and {names[1]} decide every event of {trace.header.name} alike (1 to {at})")
        raise typer.Exit(1)
    seen = [bisect.look(trace, seq, side.rules, **side.options) for side in (one, two)]
    if as_json:
        listed = {"all": [_difference_dict(d) for d in found]} if every else {}
        head = {"found": seq, "kernel": names[0], "against": names[1], "method": method}
        echo_json({**head, "outcomes": [side_dict(s) for s in seen], **listed})
        return
    _show(trace.header.name, names, seen)
    if every:
        _list(trace.header.name, at, names, found)


def _show(trace: str, names: tuple[str, str], seen: list[Found]) -> None:
    from vmastore.replay.text import call_text

    event = seen[0].event
    echo(f"first event that {names[0]} and {names[1]} decide differently: {trace}@{event.seq}")
    echo(f"  {call_text(event)}")
    for name, side in zip(names, seen, strict=True):
        echo(f"{name}: {outcome_text(side.outcome)}")
        explain(side)


def _list(trace: str, at: int, names: tuple[str, str], found: list[Difference]) -> None:
    echo(f"{len(found)} events of 1 to {at} are decided differently, each from the state of {names[0]}:")
    for difference in found:
        echo(f"  {event_text(trace, difference.event)}")
        for name, outcome in zip(names, difference.outcomes, strict=True):
            echo(f"    {name}: {outcome_text(outcome)}")
        if difference.what == "vmas":
            echo(f"    the same decisions, other VMAs: {difference.detail}")


def _difference_dict(difference: Difference) -> dict[str, Any]:
    from vmastore.replay.text import call_text

    return {
        "seq": difference.event.seq,
        "mm": difference.event.mm,
        "call": call_text(difference.event),
        "what": difference.what,
        "detail": difference.detail or None,
        "outcomes": [outcome_dict(outcome) for outcome in difference.outcomes],
    }
