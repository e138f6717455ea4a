"""`vmastore bisect find`: the first event where a predicate holds, or where two rule sets part."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vmastore.cli.common import (
    FaultsOption,
    JsonOption,
    KernelOption,
    MaxMapOption,
    MmOption,
    RuleOption,
    StoreOption,
    check_faults,
    choose_rules,
    echo,
    echo_json,
    open_existing,
    open_target,
    vma_dict,
)
from vmastore.errors import InputError

bisect = typer.Typer(no_args_is_help=True, help="Find the event that changed an outcome.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(bisect, name="bisect")


@bisect.command("find")
def find(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to look no further.")],
    when: Annotated[
        str | None, typer.Option("--when", help="Predicate: 'map_count > 1000', 'split_at ADDR', …")
    ] = None,
    against: Annotated[str | None, typer.Option("--against", help="The other rule set.")] = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    mm: MmOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """The first event at which a predicate holds, or whose outcome differs between two rule sets.

    Exit status 1 if there is none.

    Examples: vmastore bisect find app --when 'map_count > 1000'
              vmastore bisect find app --kernel 6.7 --against 6.18
    """
    if (when is None) == (against is None):
        raise InputError("bisect find needs --when PREDICATE or --against KERNEL (one of them)")
    check_faults(faults)
    options: dict[str, Any] = {"faults": faults, "max_map_count": max_map_count}
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        if when is not None:
            _when(trace, at, rules, when, mm, options, as_json)
        else:
            _against(trace, at, rules, str(against), options, as_json)


def _when(trace: Any, at: int, rules: Any, when: str, mm: int | None, options: dict[str, Any], as_json: bool) -> None:
    from vmastore.replay import bisect as engine
    from vmastore.replay.predicate import parse
    from vmastore.replay.text import call_text

    test = parse(when)
    found = engine.find(trace.header, trace.files, trace.events(1, at), rules, test, mm, **options)
    if found is None:
        if as_json:
            echo_json({"found": None, "when": when, "kernel": rules.name})
        else:
            echo(f"nowhere in {trace.header.name}: {when} (events 1 to {at}, {rules.name})")
        raise typer.Exit(1)
    if as_json:
        echo_json(
            {"found": found.event.seq, "when": when, "kernel": rules.name, "flips": found.flips, **_side(found)}
        )
        return
    echo(f"first event with {when}: {trace.header.name}@{found.event.seq}  ({rules.name})")
    echo(f"  {call_text(found.event)}  [{found.outcome.map_count} VMAs]")
    _explain(found.outcome, found.change)
    if found.flips > 1:
        echo(f"  the predicate changes its answer {found.flips} times; this is the first time it holds")


def _against(trace: Any, at: int, rules: Any, against: str, options: dict[str, Any], as_json: bool) -> None:
    from vmastore.mm.rules import resolve
    from vmastore.replay import bisect as engine
    from vmastore.replay.text import call_text

    other = resolve(against)
    parted = engine.part(trace.header, trace.files, trace.events(1, at), rules, other, **options)
    if parted is None:
        if as_json:
            echo_json({"found": None, "kernel": rules.name, "against": other.name})
        else:
            echo(f"{rules.name} and {other.name} decide every event of {trace.header.name} alike (1 to {at})")
        raise typer.Exit(1)
    if as_json:
        sides = [
            _outcome_dict(outcome, change) for outcome, change in zip(parted.outcomes, parted.changes, strict=True)
        ]
        echo_json({"found": parted.event.seq, "kernel": rules.name, "against": other.name, "outcomes": sides})
        return
    echo(f"first event that {rules.name} and {other.name} decide differently: {trace.header.name}@{parted.event.seq}")
    echo(f"  {call_text(parted.event)}")
    for name, outcome, change in zip((rules.name, other.name), parted.outcomes, parted.changes, strict=True):
        echo(f"{name}: {outcome.cases or 'no merge, no split'}  [{outcome.map_count} VMAs]")
        _explain(outcome, change)


def _explain(outcome: Any, change: Any) -> None:
    from vmastore.replay.draw import draw
    from vmastore.replay.verify import describe

    for decision in outcome.decisions:
        echo(f"  {describe(decision)}")
    for line in draw(change):
        echo(f"  {line}")


def _side(found: Any) -> dict[str, Any]:
    return _outcome_dict(found.outcome, found.change)


def _outcome_dict(outcome: Any, change: Any) -> dict[str, Any]:
    from vmastore.replay.verify import describe

    return {
        "cases": outcome.cases,
        "map_count": outcome.map_count,
        "errno": outcome.errno,
        "certain": outcome.certain,
        "decisions": [describe(d) for d in outcome.decisions],
        "before": [vma_dict(v) for v in change.before],
        "after": [vma_dict(v) for v in change.after],
    }
