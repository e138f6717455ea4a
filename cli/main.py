"""`vmastore`: the commands put together, and the one place where errors are printed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vmastore.bulk import bulk_work
from vmastore.cli import (
    analyse_cmd,
    bisect_cmd,
    conform_cmd,
    db_cmd,
    explain_cmd,
    export_cmd,
    import_cmd,
    kernels_cmd,
    museum_cmd,
    record_cmd,
    reduce_cmd,
    replay_cmd,
    sql_cmd,
    traces_cmd,
    verify_cmd,
    whatif_cmd,
)
from vmastore.cli.common import StoreOption
from vmastore.cli.errors import guarded
from vmastore.version import VERSION

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Record, replay, verify and bisect a process's address space.",
)
for module in (
    record_cmd,
    import_cmd,
    traces_cmd,
    replay_cmd,
    verify_cmd,
    explain_cmd,
    analyse_cmd,
    bisect_cmd,
    reduce_cmd,
    whatif_cmd,
    export_cmd,
    kernels_cmd,
    museum_cmd,
    conform_cmd,
    sql_cmd,
    db_cmd,
):
    module.register(app)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    store: StoreOption = None,
) -> None:
    context.obj = store  # what a command takes that is given no --store of its own
    if version:
        print(f"vmastore {VERSION}")
        raise typer.Exit


def main() -> None:
    """Run the command line; an error is one line (and a hint) on stderr and exit status 2."""
    if sys.argv[1:] == ["--version"]:
        print(f"vmastore {VERSION}")
        return
    sys.exit(guarded(_run))


def _run() -> int:
    with bulk_work():
        status = app(prog_name="vmastore", standalone_mode=False)
    return status if isinstance(status, int) else 0
