"""`vmastore kernels`: the rule sets and their switches."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vmastore.cli.common import JsonOption, echo, echo_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("kernels")(kernels)


def kernels(
    kernel: Annotated[str | None, typer.Argument(help="Only this preset or release: what is on in it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List presets and switches: what each changes, since when, and where it is on.

    Example: vmastore kernels 6.12
    """
    from vmastore.mm.rules import PRESETS, SWITCHES, preset, resolve

    rules = {kernel: resolve(kernel)} if kernel else {name: preset(name) for name in PRESETS}
    if as_json:
        document: dict[str, Any] = {
            "presets": {name: ".".join(map(str, release)) for name, release in PRESETS.items()},
            "switches": {
                name: {"doc": s.doc, "change": s.change, "since": _since(s), "on_in": _on_in(rules, name)}
                for name, s in SWITCHES.items()
            },
        }
        echo_json(document)
        return
    if kernel is None:
        for name, release in PRESETS.items():
            echo(f"{name:<10} {'.'.join(map(str, release))}")
        echo()
    for name, switch in SWITCHES.items():
        echo(f"{name}  (since {_since(switch)}; on in: {', '.join(_on_in(rules, name)) or 'none'})")
        echo(f"    {switch.doc}")
        echo(f"    change: {switch.change}")


def _since(switch: Any) -> str:
    if switch.since[0] == 0:
        start = "the beginning"
    elif switch.since[0] > 900:
        start = "never released"
    else:
        start = ".".join(map(str, switch.since[:2]))
    backports = ", ".join(f"{a}.{b}.{c}" for (a, b), c in switch.backports.items())
    end = f" until {'.'.join(map(str, switch.until[:2]))}" if switch.until else ""
    ended = ", ".join(f"{a}.{b}.{c}" for (a, b), c in switch.ended.items())
    end += f", ended in {ended}" if ended else ""
    return start + end + (f", backported to {backports}" if backports else "")


def _on_in(rules: dict[str, Any], name: str) -> list[str]:
    return [preset for preset, chosen in rules.items() if getattr(chosen, name.replace("-", "_"))]
