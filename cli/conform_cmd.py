"""`vmastore conform`: the running kernel against the rule sets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmastore.cli.common import JsonOption, KernelOption, RuleOption, choose_rules, echo, echo_json
from vmastore.cli.verify_cmd import draw_mismatch, mismatch_dict

if TYPE_CHECKING:
    from vmastore.conform.compare import Run


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("conform")(conform)


def conform(
    seconds: Annotated[float, typer.Option("--seconds", help="How long to try random calls.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the first sequence.")] = 1,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run memory calls on the running kernel in child processes, and compare every step with its rule set.

    Exit status 1 if anything differs: a kernel developer sees what merges differently on a new build. The first
    random sequence that differs is shortened, by running it again without some of its calls, and printed.

    Example: vmastore conform --seconds 60
    """
    from vmastore.conform import conform as run
    from vmastore.events import TraceHeader

    uname = os.uname()
    header = TraceHeader("conform", "conform", "conform", uname.release, uname.version)
    rules = choose_rules(header, kernel, rule)
    found = run(rules, seconds=seconds, seed=seed)
    if as_json:
        document = {
            "kernel": uname.release,
            "rules": found.rules,
            "runs": found.runs,
            "steps": found.steps,
            "compared": found.report.compared,
            "differences": found.differences,
            "differing": found.differing,
            "presets": found.presets,
            "switches": found.switches,
            "skipped": found.skipped,
            "reduced": None if found.reduced is None else _reduced_dict(found.reduced),
            "first": mismatch_dict(found.report.first_mismatch) if found.report.first_mismatch else None,
        }
        echo_json(document)
    else:
        echo(f"{uname.release} against {found.rules}: {found.steps} calls in {found.runs} children")
        echo(f"{found.differences} differences in {found.report.compared} comparisons")
        echo("differences by preset: " + ", ".join(f"{name} {count}" for name, count in found.presets.items()))
        for switch, count in found.switches.items():
            echo(f"flipping {switch} would leave {count}")
        for what in found.skipped:
            echo(f"not checked: {what}")
        if found.report.first_errno_mismatch:
            echo(f"first answer that differs: {found.report.first_errno_mismatch}")
        if found.report.first_mismatch:
            draw_mismatch(found.report.first_mismatch)
        if found.reduced is not None:
            echo(f"shortest sequence that still differs ({len(found.reduced.steps)} calls):")
            for text in _calls(found.reduced):
                echo(f"  {text}")
    if found.differences:
        raise typer.Exit(1)


def _calls(run: Run) -> list[str]:
    """The calls of a run as text; those of a forked child name its address space."""
    from vmastore.replay.text import call_text

    calls = [event for event in run.events if event.call not in ("maps", "exit")]
    return [("" if event.mm == 1 else f"[mm {event.mm}] ") + call_text(event) for event in calls]


def _reduced_dict(run: Run) -> dict[str, Any]:
    return {
        "calls": [{"mm": mm, "call": call, "args": args} for mm, call, args in run.steps],
        "text": _calls(run),
    }
