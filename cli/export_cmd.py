"""`vmastore export`: traces in other forms."""

from __future__ import annotations

from typing import Annotated

import typer

from vmastore.cli.common import (
    FaultsOption,
    JsonOption,
    KernelOption,
    MmOption,
    RuleOption,
    StoreOption,
    choose_rules,
    echo_json,
    note,
    open_existing,
    open_target,
)
from vmastore.cli.forms import ALONE, isolated, render, write_text
from vmastore.errors import InputError

FORMS = ("jsonl", "strace", "parquet", *ALONE)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to end there.")],
    to: Annotated[str, typer.Option("--to", help=f"One of {', '.join(FORMS)}.")] = "jsonl",
    output: Annotated[
        str, typer.Option("-o", "--output", help="File (.gz, .xz compress), - for standard output.")
    ] = "-",
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    against: Annotated[str | None, typer.Option("--against", help="report: compare with this kernel.")] = None,
    view: Annotated[str, typer.Option("--view", help="parquet: the view to write the rows of.")] = "events",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trace out. Importing it gives the same events again: of jsonl hashes included, of strace the calls.

    parquet is for data frames and other databases: the rows of a view (events, outcomes, vmas, …). With --json
    it says what it wrote: trace, format, output, events (rows of parquet), left_out (events by call).

    c, pytest and report are of one address space (--mm) and its operations on VMAs: c is a program that does
    them in an arena and checks /proc/self/maps after each (exit status 0, or 1 for a difference), pytest a
    test of the replay, report a plain-text mail with drawings.

    Example: vmastore export app -o app.vmatrace.jsonl.gz

    Example: vmastore export app --to strace -o app.log

    Example: vmastore export app --to parquet --view vmas -o vmas.parquet
    """
    from vmastore.reports.export_jsonl import export_jsonl, open_output
    from vmastore.reports.export_strace import export_strace

    if to not in FORMS:
        raise InputError(f"--to {to!r}: one of {', '.join(FORMS)}")
    given = {"--mm": mm, "--kernel": kernel, "--rule": rule, "--faults": faults if faults != "recorded" else None}
    _check_options(to, {**given, "--against": against, "--view": view if view != "events" else None})
    if as_json and output == "-":
        raise InputError("--json needs a file for the trace itself", hint="export TRACE -o FILE --json")
    left_out: dict[str, int] = {}
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        if to in ALONE:
            from vmastore.mm.rules import resolve

            rules = choose_rules(trace.header, kernel, rule)
            alone = isolated(trace, at, mm, rules, faults=faults).trace
            write_text(render(to, alone, rules, None if against is None else resolve(against)), output)
        elif to == "parquet":
            from vmastore.reports.export_parquet import export_parquet

            at = export_parquet(opened, trace.info.trace, view, at, output)
        else:
            with open_output(output) as out:
                files = list(trace.files.values())
                if to == "jsonl":
                    export_jsonl(trace.header, files, trace.events(1, at), out)
                else:
                    left_out = dict(sorted(export_strace(files, trace.events(1, at), out).left_out.items()))
    if as_json:
        name = trace.header.name
        echo_json({"trace": name, "format": to, "output": output, "events": at, "left_out": left_out})
    elif left_out:
        shown = ", ".join(f"{count} {call}" for call, count in left_out.items())
        note(f"a log of strace has no line for these events: {shown}")


_MEANT_FOR = {"--against": ("report",), "--view": ("parquet",)}


def _check_options(to: str, given: dict[str, object]) -> None:
    """Raise InputError for an option that says nothing about this form: it would be passed over in silence."""
    for option, value in given.items():
        forms = _MEANT_FOR.get(option, ALONE)
        if (value or value == 0) and to not in forms:
            raise InputError(
                f"{option} says nothing about --to {to}",
                hint=f"{option} is for --to {', '.join(forms)}.",
            )
