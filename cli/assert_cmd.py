"""`vmastore assert`: a predicate that must hold after every event."""

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
    pick_mm,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("assert")(assert_)


def assert_(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to end there.")],
    expr: Annotated[str, typer.Argument(help="Must hold after every event, e.g. 'map_count < 1000'.")],
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that a predicate holds after every event; exit status 1 names the first event that broke it.

    Without --mm it must hold in every address space. For CI.

    Example: vmastore assert app 'map_count < 1000 and wx == 0'
    """
    from vmastore.replay.bisect import PredicateJudge, look
    from vmastore.replay.draw import draw
    from vmastore.replay.predicate import parse
    from vmastore.replay.text import call_text
    from vmastore.replay.verify import describe

    judge = PredicateJudge(parse(expr), mm)
    options: dict[str, Any] = {"faults": check_faults(faults), "max_map_count": max_map_count}
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        if mm is not None:
            pick_mm(trace, mm, at)
        world = trace.world(rules, **options)
        judge.begin(world)
        seq = None
        for event in trace.events(1, at):
            if not all(holds for _, holds in judge.after(event, world.apply(event))):
                seq = event.seq
                break
        broken = None if seq is None else look(trace, seq, rules, **options)
    if as_json:
        echo_json(
            {
                "assert": expr,
                "kernel": rules.name,
                "events": at,
                "holds": broken is None,
                "seq": None if broken is None else broken.event.seq,
                "mm": None if broken is None else broken.event.mm,
                "call": None if broken is None else call_text(broken.event),
                "map_count": None if broken is None else broken.outcome.map_count,
                "certain": None if broken is None else broken.outcome.certain,
            }
        )
    elif broken is None:
        echo(f"holds after each of {at} events: {expr}  ({rules.name})")
    else:
        where = f"{trace.header.name}@{broken.event.seq}"
        echo(f"broken: {expr}  at {where} (address space {broken.event.mm}, {rules.name})")
        echo(f"  {call_text(broken.event)}  [{broken.outcome.map_count} VMAs]")
        for line in [describe(d) for d in broken.outcome.decisions] + draw(broken.change):
            echo(f"  {line}")
    if broken is not None:
        raise typer.Exit(1)
