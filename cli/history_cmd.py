"""`vmastore history`: every event that touched an address."""

from __future__ import annotations

from typing import Annotated

import typer

from vmastore.cli.common import (
    FaultsOption,
    JsonOption,
    KernelOption,
    MmOption,
    NlOption,
    RuleOption,
    StoreOption,
    check_faults,
    choose_rules,
    echo,
    echo_json,
    open_existing,
    open_target,
    parse_addr,
    pick_mm,
    vma_dict,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("history")(history)


def history(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to end there.")],
    addr: Annotated[str, typer.Argument(help="The address.")],
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    store: StoreOption = None,
    as_json: JsonOption = False,
    nl: NlOption = False,
) -> None:
    """Every event that touched an address: that asked about it or changed the VMA there, and what became of it.

    The history of a forked address space begins with that of its parent.

    Example: vmastore history app 0x7f0000001000
    """
    from vmastore.replay import history as engine
    from vmastore.replay.text import call_text

    where = parse_addr(addr)
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        number = pick_mm(trace, mm, at)
        spaces = [(row[0], row[2] if row[3] == "fork" else None) for row in opened.address_spaces(trace.info.trace)]
        world = trace.world(rules, faults=check_faults(faults))
        touches = list(engine.history(world, trace.events(1, at), where, engine.lineage(spaces, number)))
    if as_json or nl:
        documents = [
            {
                "seq": t.event.seq,
                "mm": t.event.mm,
                "tid": t.event.tid,
                "call": call_text(t.event),
                "what": t.what,
                "certain": t.outcome.certain,
                "before": None if t.before is None else vma_dict(t.before),
                "after": None if t.after is None else vma_dict(t.after),
            }
            for t in touches
        ]
        for document in documents if nl else [documents]:
            echo_json(document)
        return
    if not touches:
        echo(f"no event up to {at} touched {where:#x}")
    for t in touches:
        certain = "" if t.outcome.certain else "  (assumed)"
        echo(f"{t.event.seq:>8}  {call_text(t.event)}")
        echo(f"          {t.what}{certain}")
    if touches:
        last = touches[-1].after
        shown = "not mapped" if last is None else f"{last.start:#x}-{last.end:#x} {last.perms} {last.name}".rstrip()
        echo(f"now: {shown}")
