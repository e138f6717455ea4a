"""`vmastore verify`: the replay against every observed maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmastore.cli.common import (
    FaultsOption,
    JsonOption,
    KernelOption,
    MaxMapOption,
    RuleOption,
    StoreOption,
    check_faults,
    choose_rules,
    echo,
    echo_json,
    is_stored,
    open_existing,
    open_target,
    vma_dict,
)
from vmastore.cli.progress import counted

if TYPE_CHECKING:
    from vmastore.replay.verify_report import Mismatch, Report


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    targets: Annotated[list[str], typer.Argument(help="Recordings (files or folders of them) or stored traces.")],
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the replay with every observed maps. Exit status 1 on any certain mismatch.

    Example: vmastore verify recordings/*.jsonl.gz
    """
    from vmastore.replay.verify_report import Report

    check_faults(faults)
    total = Report()
    options: dict[str, Any] = {"faults": faults, "max_map_count": max_map_count}
    for target in targets:
        for path in _files(target, store):
            report = (
                _verify_file(path, kernel, rule, options)
                if path
                else _verify_stored(target, store, kernel, rule, options)
            )
            if not as_json and len(targets) > 1 and _bad(report):
                echo(f"{path or target}: {report.mismatches} mismatches, {report.errno_mismatches} of errno")
            total.add(report)
    if as_json:
        document = total.as_dict()
        first = total.first_mismatch
        document["first_mismatch"] = None if first is None else mismatch_dict(first)
        echo_json(document)
    else:
        _print(total)
    if _bad(total):
        raise typer.Exit(1)


def _bad(report: Report) -> bool:
    return bool(report.mismatches or report.errno_mismatches)


def _files(target: str, store: str | None) -> list[Path | None]:
    """The files of a folder (with those below it), the file itself, or [None] for a stored trace.

    Of a trace and a file of one name (a program beside its recording), the trace is meant; ./NAME is the file.
    """
    path = Path(target)
    if path.exists() and is_stored(store, target):
        return [None]
    if path.is_dir():
        return [
            p for p in sorted(path.rglob("*")) if p.name.endswith((".jsonl.gz", ".jsonl", ".txt.gz")) and p.is_file()
        ]
    return [path] if path.exists() or "/" in target else [None]


def _verify_file(path: Path, kernel: str | None, rule: list[str] | None, options: dict[str, Any]) -> Report:
    from vmastore.importers.detect import open_traces
    from vmastore.replay.verify import Verifier
    from vmastore.replay.verify_report import Report
    from vmastore.replay.world import World

    total = Report()
    for reader in open_traces(path):
        rules = choose_rules(reader.header, kernel, rule)
        world = World(reader.header, lambda reader=reader: reader.files, rules, **options)  # type: ignore[misc]
        total.add(Verifier(world).run(counted(reader.events(), f"verifying {path.name}")))
    return total


def _verify_stored(
    target: str, store: str | None, kernel: str | None, rule: list[str] | None, options: dict[str, Any]
) -> Report:
    from vmastore.replay.verify import Verifier

    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        return Verifier(trace.world(rules, **options)).run(counted(trace.events(1, at), f"verifying {target}", at))


def _print(report: Report) -> None:
    echo(f"{report.events} events, {report.compared} comparisons")
    echo(
        f"{report.mismatches} mismatches, {report.mismatches_assumed} at assumed outcomes, "
        f"{report.errno_mismatches} of errno"
        + (f" ({report.errno_mismatches_assumed} more on what is open)" if report.errno_mismatches_assumed else "")
    )
    if report.assumed or report.settled:
        echo(f"{report.assumed} outcomes assumed, {report.settled} unknowns settled by an observation")
    for what, count in report.unmodelled.items():
        echo(f"{what}: {count}")
    if report.first_errno_mismatch:
        echo(f"first answer that differs: {report.first_errno_mismatch}")
    if report.first_mismatch is not None:
        draw_mismatch(report.first_mismatch)


def draw_mismatch(mismatch: Mismatch) -> None:
    from vmastore.replay.maps_text import maps_line

    where = f", line {mismatch.source_line}" if mismatch.source_line else ""
    args = ", ".join(hex(a) if isinstance(a, int) and a > 9 else str(a) for a in mismatch.args)
    echo(f"first difference: after event {mismatch.seq}{where}: {mismatch.call}({args})")
    for text in mismatch.decisions:
        echo(f"  decided: {text}")
    for line in mismatch.replayed:
        echo(f"  replay:  {maps_line(line).rstrip()}  [{line.vm_flags}]")
    for line in mismatch.observed:
        echo(f"  kernel:  {maps_line(line).rstrip()}  [{line.vm_flags}]")


def mismatch_dict(mismatch: Mismatch) -> dict[str, Any]:
    return {
        "seq": mismatch.seq,
        "call": mismatch.call,
        "args": mismatch.args,
        "source_line": mismatch.source_line,
        "mm": mismatch.mm,
        "certain": mismatch.certain,
        "observed": [vma_dict(line) for line in mismatch.observed],
        "replayed": [vma_dict(line) for line in mismatch.replayed],
        "decisions": mismatch.decisions,
    }
