"""`vmastore record`: run or attach to a program and store its trace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmastore.cli.common import JsonOption, StoreOption, echo_json, parse_duration, store_place
from vmastore.cli.progress import meter
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.recorder import Live
    from vmastore.recorder.plan import Plan
    from vmastore.store import Store, TraceInfo

_FAULTS = {
    "recorded": "page faults recorded",
    "partial": "page faults recorded in part",
    "none": "no page faults recorded",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("record", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(record)


def record(
    command: Annotated[list[str] | None, typer.Argument(help="The program and its arguments, after --.")] = None,
    pid: Annotated[int | None, typer.Option("-p", "--pid", help="Attach to this process instead.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the trace; else the program's.")] = None,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="Record page faults with perf.")] = True,
    check_every: Annotated[
        str | None, typer.Option("--check-every", help="Observe all address spaces this often: 5s, 500ms, 1m.")
    ] = None,
    hold: Annotated[
        str,
        typer.Option("--hold", help="How long an exit is held to be observed; an exec a quarter of it."),
    ] = "20ms",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a program under strace, observe its maps at every exec and exit, and store the trace.

    The exit status is the program's own. What was recorded and what it cost is said on stderr; with --json on
    stdout, as the last line, behind what the program itself prints there. Keys: trace, name, events,
    address_spaces, status, signal, interrupted, kernel, faults, note, skipped, wall_s, program_cpu_s,
    strace_cpu_s, holds, held_s, observations, observations_missed, observations_late, log_lines, log_bytes,
    faults_seen, faults_kept, faults_lost, held_back, held_back_s.

    Example: vmastore record --name py -- python3 -c 'import json'

    Example: vmastore record -p 1234 --check-every 5s
    """
    from vmastore import recorder
    from vmastore.recorder.strace import Hold
    from vmastore.store import open_store

    if (pid is None) == (not command):
        raise InputError("record needs a command after --, or -p PID", hint="vmastore record -- ls -l")
    exit_us = round(parse_duration(hold) * 1e6)
    options: dict[str, Any] = {
        "faults": faults,
        "check_every_s": None if check_every is None else parse_duration(check_every),
        "hold": Hold(exit_us // 4, exit_us),
    }
    with open_store(store_place(store)) as opened:
        if pid is not None:
            plan = recorder.of_process(pid, name=name or f"pid{pid}", **options)
            with meter(f"recording {pid}", "lines of strace") as tick:
                info, live = _store(opened, plan, tick)
        else:  # the terminal is the program's: nothing is shown meanwhile
            words = list(command or ())
            info, live = _store(opened, recorder.of_command(words, name=name or Path(words[0]).name, **options))
        document = _document(live, info, opened)
    if as_json:
        echo_json(document)
    elif not quiet:
        print("\n".join(_lines(document)), file=sys.stderr)
    raise typer.Exit(live.result.status)


def _store(store: Store, plan: Plan, tick: Callable[[int], None] = lambda lines: None) -> tuple[TraceInfo, Live]:
    """Store events as they come; a trace is made for them when there are some."""
    from vmastore import recorder

    with recorder.Live(plan) as live:
        batches = live.batches(tick)
        first = next(batches, [])
        if not first:
            _ = live.result  # says why there is nothing
        info = store.create_trace(live.trace.header)
        return store.import_batches(info, live.trace, chain([first], batches)), live


def _document(live: Live, info: TraceInfo, store: Store) -> dict[str, Any]:
    recording = live.result
    cost, (seen, kept, lost) = recording.cost, live.trace.faults
    source = info.header.source  # of a process that was there before, the time since then is not known
    return {
        "trace": info.trace,
        "name": info.header.name,
        "events": info.events,
        "address_spaces": len(store.address_spaces(info.trace)),
        "status": recording.status,
        "signal": recording.signal,
        "interrupted": recording.interrupted,
        "kernel": info.header.release,
        "faults": info.header.faults,
        "note": info.header.note,
        "skipped": sum(skip[4] for skip in store.skips(info.trace)),
        "wall_s": round(cost.wall_s, 3),
        "program_cpu_s": None if source.startswith("pid:") else round(cost.program_s, 3),
        "strace_cpu_s": round(cost.strace_s, 3),
        "holds": cost.holds,
        "held_s": round(cost.held_s, 3),
        "observations": cost.observations,
        "observations_missed": cost.missed,
        "observations_late": cost.late,
        "log_lines": cost.lines,
        "log_bytes": cost.log_bytes,
        "faults_seen": seen,
        "faults_kept": kept,
        "faults_lost": lost,
        "held_back": cost.held_back,
        "held_back_s": round(cost.held_back_s, 3),
    }


def _lines(found: dict[str, Any]) -> list[str]:
    """What is said to people."""
    lines = [
        f"recorded {found['name']}: {found['events']} events in {found['wall_s']:.2f} s "
        f"({found['observations']} observations of maps, {found['held_s']:.2f} s held for them)"
    ]
    faults = _FAULTS.get(found["faults"], found["faults"])
    lines.append(f"  {faults}" + (f"; {found['note']}" if found["note"] else ""))
    program = "" if found["program_cpu_s"] is None else f"{found['program_cpu_s']:.2f} s for the program, "
    lines.append(
        f"  measured: of processor time {program}{found['strace_cpu_s']:.2f} s for strace; "
        f"{found['log_lines']} lines of strace ({found['log_bytes']} bytes), "
        f"{found['faults_seen']} page faults ({found['faults_kept']} kept); how long it takes unrecorded is not known"
    )
    if found["held_back"]:
        lines.append(
            f"  the program was stopped {found['held_back']} times, {found['held_back_s']:.2f} s in all, until what"
            " it had done was stored"
        )
    if found["signal"]:
        lines.append(f"  the program was ended by {found['signal']}: there is no observation at its end")
    if found["interrupted"]:
        lines.append("  interrupted: what was seen until then is kept")
    return lines
