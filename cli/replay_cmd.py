"""`vmastore replay`, `diff`: the address space at a point, and what changed between two."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

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
    note,
    open_existing,
    open_target,
    parse_target,
    state,
    vma_dict,
)
from vmastore.cli.progress import meter
from vmastore.cli.targets import TARGET_HELP, open_view
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.events import ObservedVma

FORMATS = ("maps", "smaps", "json", "draw")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("replay")(replay)
    app.command("diff")(diff)


def replay(
    target: Annotated[str, typer.Argument(help="TRACE (whole; outcomes are stored) or TRACE@N.")],
    format: Annotated[str, typer.Option("--format", help="maps, smaps, json or draw.")] = "maps",
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print what the replay came to, not the VMAs.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """The address space after event N, byte for byte as /proc/PID/maps.

    A whole trace is replayed into the store too: views outcomes, decisions, vmas, lost_merges.

    Example: vmastore replay app@200 > maps.txt
    """
    if format not in FORMATS:
        raise InputError(f"--format {format!r}: one of {', '.join(FORMATS)}")
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        check_faults(faults)
        if parse_target(target).at is None:
            from vmastore.replay.derive import derive

            if opened.read_only:
                note(f"{opened.place} cannot be written: the outcomes are not kept in it")
            with meter("replaying", total=trace.info.events) as tick:
                _, sums = derive(trace, rules, faults=faults, max_map_count=max_map_count, progress=tick)
            if summary:
                _summary(sums, rules.name, as_json)
                return
            print(f"replayed {sums.events} events under {rules.name}", file=sys.stderr)
        space = state(trace, at, mm, rules, faults=faults, max_map_count=max_map_count)
        _print(space, "json" if as_json else format)


def _summary(sums: Any, kernel: str, as_json: bool) -> None:
    if as_json:
        echo_json({"kernel": kernel, **vars(sums)})
        return
    cases = ", ".join(f"case {case}: {count}" for case, count in sorted(sums.merges.items())) or "none"
    echo(f"{sums.events} events under {kernel}: merges {cases}; splits {sums.splits}")
    echo(f"most VMAs: {sums.peak} after event {sums.peak_seq} (address space {sums.peak_mm})")
    echo(f"assumed outcomes: {sums.assumed}; answers that differ from the kernel's: {sums.divergences}")
    if sums.inferred:
        echo(f"inferred VMAs (a call on them succeeded, but no event made them): {sums.inferred}")


def _print(mm: Any, format: str) -> None:
    from vmastore.replay.maps import observed
    from vmastore.replay.maps_text import maps_line

    lines = observed(mm)
    if format == "json":
        echo_json({"mm": mm.number, "map_count": len(lines), "vmas": [vma_dict(line) for line in lines]})
        return
    if format == "draw":
        from vmastore.replay.draw import Change, draw

        for text in draw(Change([], lines)):
            echo(text)
        return
    for line in lines:
        echo(maps_line(line).rstrip("\n"))
        if format == "smaps":
            echo(f"VmFlags: {line.vm_flags} ")


def _comparable(lines: Iterable[ObservedVma]) -> list[ObservedVma]:
    """Without what is no part of a VMA's state in maps: whether it was written."""
    return [line._replace(written=None) for line in lines]


def diff(
    a: Annotated[str, typer.Argument(help=TARGET_HELP)],
    b: Annotated[str, typer.Argument(help="The other, of the same kinds.")],
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """The VMAs that two points do not share. Exit status 1 if there are any.

    Example: vmastore diff app@100 app@200
    """
    from vmastore.replay.maps import observed
    from vmastore.replay.maps_text import maps_line
    from vmastore.replay.space import compare

    views = [open_view(target, store, mm, kernel, rule, faults) for target in (a, b)]
    sides = [_comparable(observed(v.mm) if v.lines is None else v.lines) for v in views]
    if any(line.vm_flags is None for side in sides for line in side):  # a maps file tells no VmFlags
        sides = [[line._replace(vm_flags=None) for line in side] for side in sides]
    gone, new = compare(*sides)
    if as_json:
        echo_json({"removed": [vma_dict(v) for v in gone], "added": [vma_dict(v) for v in new]})
    else:
        for line in gone:
            echo("-" + maps_line(line).rstrip("\n"))
        for line in new:
            echo("+" + maps_line(line).rstrip("\n"))
    if gone or new:
        raise typer.Exit(1)
