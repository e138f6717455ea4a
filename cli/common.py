"""What the commands share: options, the store, TRACE@N, rule sets, output."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmastore.errors import InputError, VmastoreError

if TYPE_CHECKING:
    from vmastore.events import ObservedVma, TraceHeader
    from vmastore.mm.mm import Mm
    from vmastore.mm.rules import RuleSet
    from vmastore.replay.trace import StoredTrace
    from vmastore.store import Store


def _inherited(context: typer.Context, value: str | None) -> str | None:
    """A command's own --store, else the one given before the command."""
    return value if value is not None else context.obj


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Database (path or URL); else $VMASTORE_STORE, else ./vmastore.db.",
        callback=_inherited,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document.")]
NlOption = Annotated[bool, typer.Option("--nl", help="JSON lines.")]
KernelOption = Annotated[
    str | None,
    typer.Option("--kernel", help="Rule set: a preset (6.18) or a release (6.12.117); else the trace's own."),
]
RuleOption = Annotated[list[str] | None, typer.Option("--rule", help="Flip one switch: NAME=on or NAME=off.")]
FaultsOption = Annotated[
    str, typer.Option("--faults", help="What is not recorded of page faults: recorded, written or untouched.")
]
MaxMapOption = Annotated[
    int | None, typer.Option("--max-map-count", help="vm.max_map_count, instead of the trace's.")
]
MmOption = Annotated[int | None, typer.Option("--mm", help="Address space; else the one with most events.")]

FAULT_POLICIES = ("recorded", "written", "untouched")


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def store_place(option: str | None) -> str:
    """Where the store is: the option, the environment, the folder."""
    return option or os.environ.get("VMASTORE_STORE") or "vmastore.db"


def open_existing(option: str | None) -> Store:
    """The store, which must exist."""
    from vmastore.store import open_store

    return open_store(store_place(option), create=False)


def is_stored(option: str | None, target: str) -> bool:
    """Whether a plain word (no "/") names a trace of the store: such a trace comes before a file of that name."""
    if "/" in target or target == "-" or not target:
        return False
    try:
        with open_existing(option) as store:
            store.trace(parse_target(target).trace)
    except VmastoreError:
        return False
    return True


@dataclass(frozen=True)
class Target:
    """TRACE or TRACE@N: a trace and a point in it."""

    trace: str
    at: int | None  # None: no point named; negative: from the end


def parse_target(text: str) -> Target:
    """`NAME`, `NAME@12`, `NAME@-1`. Raises InputError."""
    name, sign, point = text.rpartition("@")
    if not sign:
        return Target(text, None)
    try:
        return Target(name, int(point))
    except ValueError:
        raise InputError(
            f"{text!r}: what follows @ should be an event's number", hint="for example TRACE@12, TRACE@-1"
        ) from None


def parse_addr(text: str) -> int:
    """An address or size: decimal, hex, 4k, 2M; negative as SQL shows those of 2^63 and above. Raises InputError."""
    from vmastore.replay.predicate import number

    try:
        value = number(text)
        if not -(1 << 63) <= value < 1 << 64:
            raise ValueError(text)
    except ValueError:
        raise InputError(f"{text!r} is not an address", hint="decimal, hex (0x7f…), or a size like 4k, 2M") from None
    return value % (1 << 64)


def parse_duration(text: str) -> float:
    """Seconds of `5s`, `500ms`, `1.5`, `2m`, `1h`. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h)?", text.strip())
    seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
    if not seconds:
        raise InputError(f"{text!r} is not a duration", hint="a number and a unit: 500ms, 5s, 1m")
    return seconds


def choose_rules(header: TraceHeader, kernel: str | None, rules: Sequence[str] | None) -> RuleSet:
    """The rule set of a command: --kernel, else the trace's release, else the running kernel (said on stderr)."""
    from vmastore.mm.rules import resolve

    if kernel:
        chosen = resolve(kernel)
    elif header.release:
        chosen = resolve(header.release, header.version)
    else:
        uname = os.uname()
        chosen = resolve(uname.release, uname.version)
        note(f"the trace names no kernel: taken as the running one, {uname.release} (--kernel chooses another)")
    for text in rules or ():
        name, sign, state = text.partition("=")
        if not sign or state not in ("on", "off"):
            raise InputError(
                f"--rule {text!r}: write NAME=on or NAME=off", hint="`vmastore kernels` lists the switches"
            )
        chosen = chosen.with_rule(name, state == "on")
    return chosen


def check_faults(faults: str) -> str:
    if faults not in FAULT_POLICIES:
        raise InputError(f"--faults {faults!r}: one of {', '.join(FAULT_POLICIES)}")
    return faults


def open_target(store: Store, target: str) -> tuple[StoredTrace, int]:
    """The trace and the event number that TRACE[@N] names (the last without @N). Raises InputError."""
    from vmastore.replay.trace import StoredTrace

    parsed = parse_target(target)
    trace = StoredTrace(store, store.trace(parsed.trace))
    last = trace.info.events
    at = last if parsed.at is None else parsed.at
    if at < 0:
        at += last + 1
    if not 0 <= at <= last:
        raise InputError(f"{target}: {trace.info.header.name} has events 1 to {last}")
    return trace, at


def pick_mm(trace: StoredTrace, option: int | None, at: int) -> int:
    """The address space: as asked, else of those born by event `at` the one with most events. Raises InputError."""
    from vmastore.replay.space import pick_space

    return pick_space(trace, option, at)


def alive_at(trace: StoredTrace, mm: int | None, at: int) -> tuple[int, int]:
    """The address space to look at, and the event: the last before it ends, where it has ended by `at`."""
    number = pick_mm(trace, mm, at)
    died = {row[0]: row[5] for row in trace.store.address_spaces(trace.info.trace)}.get(number)
    if died is not None and died <= at:
        note(f"address space {number} ends at event {died}; this is after event {died - 1}")
        return number, died - 1
    return number, at


def state(
    trace: StoredTrace,
    at: int,
    mm: int | None,
    rules: RuleSet,
    *,
    faults: str = "recorded",
    max_map_count: int | None = None,
) -> Mm:
    """The address space after event `at`; one that has ended by then as it last was (said on stderr)."""
    from vmastore.replay.space import space_at

    found, seq = space_at(trace, at, mm, rules, faults=check_faults(faults), max_map_count=max_map_count)
    if seq < at:
        note(f"address space {found.number} ends at event {seq + 1}; this is after event {seq}")
    return found


# -- output --------------------------------------------------------------------------------------------


def echo(text: str = "") -> None:
    """A line of output; a reader that went away (head) is no error."""
    try:
        print(text)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        raise typer.Exit(0) from None


def note(text: str) -> None:
    """A remark on stderr."""
    print(f"note: {text}", file=sys.stderr)


def echo_json(document: Any) -> None:
    echo(json.dumps(document, ensure_ascii=False))


def emit_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    as_json: bool = False,
    nl: bool = False,
    table: bool = False,
) -> None:
    """Rows as JSON, JSON lines, a table on a terminal (or where asked for), else tab-separated text."""
    if as_json:
        echo_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif nl:
        for row in rows:
            echo_json(dict(zip(columns, row, strict=True)))
    elif table or sys.stdout.isatty():
        _table(columns, rows)
    else:
        echo("\t".join(columns))
        for row in rows:
            echo("\t".join("" if value is None else str(value) for value in row))


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    Console().print(table)


def vma_dict(line: ObservedVma) -> dict[str, Any]:
    """A VMA for JSON output."""
    return {
        "start": line.start,
        "end": line.end,
        "perms": line.perms,
        "offset": line.offset,
        "dev": line.dev,
        "inode": line.inode,
        "name": line.name,
        "vm_flags": line.vm_flags,
    }
