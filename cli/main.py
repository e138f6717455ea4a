"""`vmastore`: the commands put together, and the one place where errors are printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from vmastore.bulk import bulk_work
from vmastore.cli.common import StoreOption
from vmastore.cli.errors import guarded
from vmastore.version import VERSION

# the modules of vmastore.cli in the order of the help, and the commands of each
COMMANDS = {
    "record_cmd": ("record",),
    "import_cmd": ("import",),
    "traces_cmd": ("traces", "log", "show"),
    "replay_cmd": ("replay", "diff"),
    "verify_cmd": ("verify",),
    "explain_cmd": ("explain", "why", "lost-merges"),
    "blame_cmd": ("blame",),
    "history_cmd": ("history",),
    "headroom_cmd": ("headroom",),
    "assert_cmd": ("assert",),
    "bisect_cmd": ("bisect",),
    "reduce_cmd": ("reduce",),
    "whatif_cmd": ("whatif",),
    "export_cmd": ("export",),
    "kernels_cmd": ("kernels",),
    "museum_cmd": ("museum",),
    "conform_cmd": ("conform",),
    "sql_cmd": ("sql",),
    "db_cmd": ("db",),
}


def commands(modules: Iterable[str]) -> typer.Typer:
    """The command line with the commands of these modules."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help="Record, replay, verify and bisect a process's address space.",
    )
    for module in modules:
        import_module(f"vmastore.cli.{module}").register(app)
    app.callback(invoke_without_command=True)(_root)
    return app


def asked(words: list[str]) -> Iterable[str]:
    """The module of the command that is called; all where the first word is none. Start-up is mostly importing."""
    return [module for module, names in COMMANDS.items() if words and words[0] in names] or COMMANDS


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    store: StoreOption = None,
) -> None:
    context.obj = store  # what a command takes that is given no --store of its own
    if version:
        print(f"vmastore {VERSION}")
        raise typer.Exit


def __getattr__(name: str) -> typer.Typer:
    if name != "app":
        raise AttributeError(name)
    return commands(COMMANDS)  # the whole command line


def main() -> None:
    """Run the command line; an error is one line (and a hint) on stderr and exit status 2."""
    if sys.argv[1:] == ["--version"]:
        print(f"vmastore {VERSION}")
        return
    sys.exit(guarded(_run))


def _run() -> int:
    with bulk_work():
        status = commands(asked(sys.argv[1:]))(prog_name="vmastore", standalone_mode=False)
    return status if isinstance(status, int) else 0
