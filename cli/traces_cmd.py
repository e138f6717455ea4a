"""`vmastore traces`, `log`, `show`: what is in the store."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

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
    pick_mm,
)
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.events import Event
    from vmastore.replay.world import Outcome


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("traces")(traces)
    app.command("log")(log)
    app.command("show")(show)


_COLUMNS = ("trace", "name", "format", "kernel", "events", "faults", "complete", "created_at", "source")


def traces(store: StoreOption = None, as_json: JsonOption = False, nl: NlOption = False) -> None:
    """List the traces of the store.

    Example: vmastore traces
    """
    with open_existing(store) as opened:
        rows = [
            (
                i.trace,
                i.header.name,
                i.header.format,
                i.header.release,
                i.events,
                i.header.faults,
                "yes" if i.complete else "no",
                i.created_at,
                i.header.source,
            )
            for i in opened.traces()
        ]
    emit_rows(_COLUMNS, rows, as_json=as_json, nl=nl)


def log(
    trace: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to end there.")],
    last: Annotated[int, typer.Option("-n", "--last", help="Only the last N events (0: all).")] = 0,
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    nl: NlOption = False,
) -> None:
    """Events with their outcomes, one a line.

    Keys of --json and --nl: seq, mm, tid, ts_ns, call, cases, map_count, certain, divergence.

    Example: vmastore log app@200 -n 20
    """
    from collections import deque

    with open_existing(store) as opened:
        target, at = open_target(opened, trace)
        if mm:  # 0 is before the first exec
            pick_mm(target, mm, at)
        world = target.world(
            choose_rules(target.header, kernel, rule), faults=check_faults(faults), max_map_count=max_map_count
        )
        all_pairs = ((event, world.apply(event)) for event in target.events(1, at))
        pairs: Iterable[tuple[Event, Outcome]] = (p for p in all_pairs if mm is None or p[0].mm == mm)
        if last:
            pairs = deque(pairs, maxlen=last)
        if as_json:  # one document, a row a line, however long
            before = "["
            for event, outcome in pairs:
                echo(before + json.dumps(_log_row(event, outcome), ensure_ascii=False))
                before = ","
            echo("]" if before == "," else "[]")
            return
        for event, outcome in pairs:
            if nl:
                echo_json(_log_row(event, outcome))
            else:
                echo(_log_line(event, outcome))


def _log_row(event: Event, outcome: Outcome) -> dict[str, Any]:
    from vmastore.replay.text import call_text

    return {
        "seq": event.seq,
        "mm": event.mm,
        "tid": event.tid,
        "ts_ns": event.ts_ns,
        "call": call_text(event),
        "cases": outcome.cases,
        "map_count": outcome.map_count,
        "certain": outcome.certain,
        "divergence": outcome.divergence,
    }


def _log_line(event: Event, outcome: Outcome) -> str:
    from vmastore.replay.text import call_text

    extra = f"  {outcome.cases}" if outcome.cases else ""
    extra += "  (assumed)" if not outcome.certain else ""
    extra += f"  DIVERGES: {outcome.divergence}" if outcome.divergence else ""
    return f"{event.seq:>7} mm{event.mm} {event.tid} {call_text(event)}  [{outcome.map_count} VMAs]{extra}"


def show(
    target: Annotated[str, typer.Argument(help="TRACE@N")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """One event in full.

    Example: vmastore show app@17
    """
    from vmastore.replay.world import named_args

    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        if at < 1:
            raise InputError(f"{target}: there is no event 0", hint=f"events are 1 to {trace.info.events}")
        event = opened.event(trace.info.trace, at)
        document = {**event._asdict(), "args": named_args(event)}
        document["file"] = trace.files[event.file]._asdict() if event.file in trace.files else event.file
    if as_json:
        echo_json(document)
        return
    for key, value in document.items():
        if value is not None:
            echo(f"{key:>14}  {value}")
