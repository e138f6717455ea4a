"""`vmastore explain`, `why`, `lost-merges`: what an operation did to the VMAs, and why not more."""

from __future__ import annotations

from typing import Annotated

import typer

from vmastore.cli.common import (
    FaultsOption,
    JsonOption,
    KernelOption,
    MaxMapOption,
    MmOption,
    NlOption,
    RuleOption,
    StoreOption,
    check_faults,
    choose_rules,
    echo,
    echo_json,
    emit_rows,
    open_existing,
    open_target,
    parse_addr,
    state,
    vma_dict,
)
from vmastore.cli.targets import TARGET_HELP, open_view
from vmastore.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("explain")(explain)
    app.command("why")(why)
    app.command("lost-merges")(lost_merges)


def explain(
    target: Annotated[str, typer.Argument(help="TRACE@N")],
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """What event N did: each merge attempt with its case or the first reason why not, each split, drawn.

    Example: vmastore explain app@17
    """
    from vmastore.replay.bisect.tracker import look
    from vmastore.replay.draw import draw
    from vmastore.replay.text import call_text
    from vmastore.replay.verify import describe

    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        if at < 1:
            raise InputError(f"{target}: there is no event 0", hint=f"events are 1 to {trace.info.events}")
        rules = choose_rules(trace.header, kernel, rule)
        found = look(trace, at, rules, faults=check_faults(faults), max_map_count=max_map_count)
    event, outcome, change = found.event, found.outcome, found.change
    if as_json:
        echo_json(
            {
                "seq": event.seq,
                "call": call_text(event),
                "kernel": rules.name,
                "cases": outcome.cases,
                "map_count": outcome.map_count,
                "certain": outcome.certain,
                "divergence": outcome.divergence,
                "decisions": [describe(d) for d in outcome.decisions],
                "before": [vma_dict(v) for v in change.before],
                "after": [vma_dict(v) for v in change.after],
            }
        )
        return
    echo(f"{trace.header.name}@{at}: {call_text(event)}  ({rules.name}, address space {event.mm})")
    for decision in outcome.decisions:
        echo(f"  {describe(decision)}")
    if not outcome.decisions:
        echo("  neither merge nor split was asked for")
    if outcome.divergence:
        echo(f"  the kernel answered otherwise: {outcome.divergence}")
    for line in draw(change):
        echo(f"  {line}")
    echo(f"  {outcome.map_count} VMAs afterwards")


def why(
    target: Annotated[str, typer.Argument(help="TRACE or TRACE@N")],
    addr: Annotated[str, typer.Argument(help="Where the two VMAs meet, or an address in the lower one.")],
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why the two VMAs that meet at an address are not one.

    Example: vmastore why app 0x7f0000001000
    """
    from vmastore.replay.maps import observe
    from vmastore.replay.maps_text import maps_line
    from vmastore.replay.why import why_apart

    where = parse_addr(addr)
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        space = state(trace, at, mm, choose_rules(trace.header, kernel, rule), faults=faults)
    right = space.find_vma(where)
    if right.vm_start < where:
        right = right.next
    left = right.prev
    if right is space.tail or left is space.head or left.vm_end != right.vm_start:
        raise InputError(f"{target}: no two VMAs meet at {where:#x}")
    reason = why_apart(space, left, right)
    certain = not (left.unsure or right.unsure) or reason.code != "anon_vma"
    if as_json:
        echo_json(
            {
                "boundary": right.vm_start,
                "reason": reason.text,
                "certain": certain,
                "left": vma_dict(observe(space, left)),
                "right": vma_dict(observe(space, right)),
            }
        )
        return
    echo(maps_line(observe(space, left)).rstrip("\n"))
    echo(maps_line(observe(space, right)).rstrip("\n"))
    echo(f"not one VMA at {right.vm_start:#x}: {reason.text}" + ("" if certain else " (assumed)"))


def lost_merges(
    target: Annotated[str, typer.Argument(help=TARGET_HELP)],
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    every: Annotated[bool, typer.Option("--pairs", help="Every pair, not the sums by reason.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
    nl: NlOption = False,
) -> None:
    """Adjacent VMAs that are not one, by reason: what each reason costs in VMAs.

    vmas: pairs whose first reason it is; alone: those of them that would be one VMA but for it, so what
    doing away with it saves; assumed: pairs where a page fault that was not recorded decides.

    Example: vmastore lost-merges app
    """
    from vmastore.replay.lost import costs, pairs_apart

    view = open_view(target, store, mm, kernel, rule, faults)
    if every:
        table = [
            (hex(p.left.vm_start), hex(p.right.vm_start), hex(p.right.vm_end), p.reason.text, p.alone)
            for p in pairs_apart(view.mm)
        ]
        emit_rows(("left_start", "boundary", "right_end", "reason", "alone"), table, as_json=as_json, nl=nl)
        return
    sums = [(cost.vmas, cost.alone, cost.assumed, cost.reason) for cost in costs(view.mm)]
    emit_rows(("vmas", "alone", "assumed", "reason"), sums, as_json=as_json, nl=nl)
