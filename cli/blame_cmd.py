"""`vmastore blame`: who made the VMAs that are alive."""

from __future__ import annotations

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
    alive_at,
    check_faults,
    choose_rules,
    emit_rows,
    open_existing,
    open_target,
    vma_dict,
)
from vmastore.cli.targets import TARGET_HELP, is_observation, observe_target
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.mm.mm import Mm
    from vmastore.replay.blame import Born

COLUMNS = ("call", "site", "tid", "how", "reason", "name", "perms")
DEFAULT_BY = "call,site,tid,how,reason"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("blame")(blame)


def blame(
    target: Annotated[str, typer.Argument(help=TARGET_HELP)],
    by: Annotated[str, typer.Option("--by", help=f"Group by these: {', '.join(COLUMNS)}.")] = DEFAULT_BY,
    call: Annotated[str | None, typer.Option("--call", help="Only VMAs made by this call, e.g. mbind.")] = None,
    flag: Annotated[str | None, typer.Option("--flag", help="Only VMAs with these VmFlags, e.g. nh,hg.")] = None,
    vmas: Annotated[bool, typer.Option("--vmas", help="Every VMA, not the sums.")] = False,
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    nl: NlOption = False,
) -> None:
    """Who made the VMAs that are alive: by call, call site (strace -k), thread, and why each is one of its own.

    how: mapped, split (the call cut it off the VMA below), observed (it was there at the baseline) or
    inferred. A process or a saved file has no calls; its VMAs are told apart by reason, name and permissions.

    Example: vmastore blame app --by call,reason
    """
    keys = [key.strip() for key in by.split(",")]
    unknown = [key for key in keys if key not in COLUMNS]
    if unknown:
        raise InputError(f"--by {unknown[0]!r}: one of {', '.join(COLUMNS)}")
    space, born = _blamed(target, store, mm, kernel, rule, faults, max_map_count)
    wanted = set((flag or "").replace(",", " ").split())
    rows = [row for row in _rows(space, born) if wanted <= set(row["vm_flags"].split())]
    if call is not None:
        rows = [row for row in rows if row["call"] == call]
    if vmas:
        columns = ("start", "end", "perms", "name", "seq", "call", "tid", "site", "how", "reason")
        emit_rows(columns, [_listed(row, columns, as_json or nl) for row in rows], as_json=as_json, nl=nl)
        return
    if is_observation(target, store) and by == DEFAULT_BY:
        keys = ["how", "reason", "name", "perms"]
    emit_rows(("vmas", "bytes", *keys, "first_seq", "last_seq"), _grouped(rows, keys), as_json=as_json, nl=nl)


def _blamed(
    target: str,
    store: str | None,
    mm: int | None,
    kernel: str | None,
    rule: list[str] | None,
    faults: str,
    max_map_count: int | None,
) -> tuple[Mm, Any]:
    """The address space and, for a VMA of it, how it was born."""
    from vmastore.replay.blame import Blame, observed_blame

    if is_observation(target, store):
        view, _ = observe_target(target, kernel, rule, faults, max_map_count)
        return view.mm, observed_blame(view.mm)
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        number, at = alive_at(trace, mm, at)
        tracker = Blame(trace.world(rules, faults=check_faults(faults), max_map_count=max_map_count))
        tracker.run(trace.events(1, at))
    found = tracker.world.mms.get(number)
    if found is None:
        raise InputError(f"{target}: address space {number} does not exist at event {at}")
    return found, tracker.born


def _rows(space: Mm, born: Any) -> list[dict[str, Any]]:
    from vmastore.replay.maps import observe

    rows = []
    for vma in space.vmas():
        made: Born = born(space, vma)
        line = observe(space, vma)
        rows.append({**vma_dict(line), **made._asdict(), "vm_flags": line.vm_flags or ""})
    return rows


def _listed(row: dict[str, Any], columns: tuple[str, ...], plain: bool) -> list[Any]:
    return [hex(row[c]) if c in ("start", "end") and not plain else row[c] for c in columns]


def _grouped(rows: list[dict[str, Any]], keys: list[str]) -> list[tuple[Any, ...]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), str(item[0])))
    return [
        (
            len(members),
            sum(row["end"] - row["start"] for row in members),
            *key,
            min(row["seq"] for row in members),
            max(row["seq"] for row in members),
        )
        for key, members in ranked
    ]
