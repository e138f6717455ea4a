"""`vmastore export`: traces in other forms."""

from __future__ import annotations

from typing import Annotated

import typer

from vmastore.cli.common import StoreOption, open_existing, open_target
from vmastore.errors import InputError

FORMS = ("jsonl",)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to end there.")],
    to: Annotated[str, typer.Option("--to", help=f"One of {', '.join(FORMS)}.")] = "jsonl",
    output: Annotated[
        str, typer.Option("-o", "--output", help="File (.gz, .xz compress), - for standard output.")
    ] = "-",
    store: StoreOption = None,
) -> None:
    """Write a trace out; importing a .vmatrace.jsonl gives the same events again, hashes included.

    Example: vmastore export app -o app.vmatrace.jsonl.gz
    """
    from vmastore.reports.export_jsonl import export_jsonl, open_output

    if to not in FORMS:
        raise InputError(f"--to {to!r}: one of {', '.join(FORMS)}")
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        with open_output(output) as out:
            export_jsonl(trace.header, list(trace.files.values()), trace.events(1, at), out)
