"""`vmastore record`: run or attach to a program and store its trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vmastore.cli.common import StoreOption, store_place
from vmastore.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("record", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(record)


def record(
    command: Annotated[list[str] | None, typer.Argument(help="The program and its arguments, after --.")] = None,
    pid: Annotated[int | None, typer.Option("-p", "--pid", help="Attach to this process instead.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the trace; else the program's.")] = None,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="Record page faults with perf.")] = True,
    check_every: Annotated[
        float | None, typer.Option("--check-every", help="Observe all address spaces every so many seconds.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing.")] = False,
    store: StoreOption = None,
) -> None:
    """Run a program under strace, observe its maps at every exec and exit, and store the trace.

    The exit status is the program's own.

    Example: vmastore record --name py -- python3 -c 'import json'
    """
    from vmastore import recorder
    from vmastore.store import open_store

    if (pid is None) == (not command):
        raise InputError("record needs a command after --, or -p PID", hint="vmastore record -- ls -l")
    with open_store(store_place(store)) as opened:
        options: dict[str, Any] = {"faults": faults, "check_every_s": check_every}
        if pid is not None:
            recording = recorder.attach(pid, name=name or f"pid{pid}", **options)
        else:
            words = list(command or ())
            recording = recorder.record(words, name=name or Path(words[0]).name, **options)
        info = opened.import_events(opened.create_trace(recording.trace.header), recording.trace)
    if not quiet:
        _say(recording, info)
    raise typer.Exit(recording.status)


def _say(recording: Any, info: Any) -> None:
    cost = recording.cost
    lines = [
        f"recorded {info.header.name}: {info.events} events in {cost.wall_s:.2f} s "
        f"({cost.observations} observations of maps, {cost.held_s:.2f} s held for them)"
    ]
    shown = {
        "recorded": "page faults recorded",
        "partial": "page faults recorded in part",
        "none": "no page faults recorded",
    }
    lines.append(
        f"  {shown.get(info.header.faults, info.header.faults)}"
        + (f"; {info.header.note}" if info.header.note else "")
    )
    if recording.signal:
        lines.append(f"  the program was ended by {recording.signal}: there is no observation at its end")
    if recording.interrupted:
        lines.append("  interrupted: what was seen until then is kept")
    print("\n".join(lines), file=sys.stderr)
