"""`vmastore whatif`: replay an edited trace beside the original."""

from __future__ import annotations

from typing import Annotated

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
from vmastore.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("whatif")(whatif)


def whatif(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to end there.")],
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="names, policy, madvise or madvise:ADVICE: never called.")
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option("--replace", help="'mprotect(NONE)=guard', 'mprotect(NONE)=dontneed', 'munmap=dontneed', …"),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="Events that do not happen: 7, 7-12, or a call's name.")
    ] = None,
    reorder: Annotated[
        str | None, typer.Option("--reorder", help="Runs of this call and page faults, by address.")
    ] = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    mm: MmOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """What would have become of the VMAs, had the program or the kernel been otherwise. The trace is not changed.

    The original is replayed as recorded, under the trace's own kernel; --kernel, --rule, --faults and
    --max-map-count are of the edited side. Prints both curves' peaks and ends, and where they first differ.

    Example: vmastore whatif app --ignore names
    """
    from vmastore.replay import whatif as engine

    edits = [engine.ignoring(what) for what in ignore or ()]
    edits += [engine.replacing(what) for what in replace or ()]
    edits += [engine.dropping(what) for what in drop or ()]
    if not edits and not any((reorder, kernel, rule, max_map_count is not None, faults != "recorded")):
        raise InputError("nothing is changed", hint="whatif TRACE --ignore names, or --max-map-count 262144")
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        number = pick_mm(trace, mm, at)
        original = trace.world(choose_rules(trace.header, None, None))
        other = choose_rules(trace.header, kernel, rule)
        edited = trace.world(other, faults=check_faults(faults), max_map_count=max_map_count)
        pairs = engine.edited_pairs(trace.events(1, at), edits, reorder)
        found = engine.whatif(original, edited, pairs, number)
    first = found.first
    if as_json:
        echo_json(
            {
                "mm": number,
                "changed": found.changed,
                "original": vars(found.original),
                "edited": vars(found.edited),
                "first_difference": None
                if first is None
                else {"seq": first[0], "call": first[1], "original": first[2], "edited": first[3]},
            }
        )
        return
    for title, curve in (("as it was", found.original), ("what if", found.edited)):
        failed = f", {curve.failed} calls failed" if curve.failed else ""
        peak = f"at most {curve.peak} VMAs (after event {curve.peak_seq})"
        echo(f"{title + ':':<11}{peak}, {curve.end} at the end{failed}  ({curve.kernel})")
    echo(f"{found.changed} events changed, moved or left out")
    if first is None:
        echo("the number of VMAs is the same after every event")
    else:
        echo(f"first difference: event {first[0]}: {first[1]}: {first[2]} VMAs became {first[3]}")
