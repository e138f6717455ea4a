"""`vmastore museum`: historical bugs of merging and splitting, to look at and to play."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any

import typer

from vmastore.cli.common import JsonOption, StoreOption, echo, echo_json, store_place, vma_dict

NameArgument = Annotated[str, typer.Argument(help="An exhibit of `museum list`.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    museum = typer.Typer(no_args_is_help=True, help="Historical bugs of VMA merging and splitting.")
    museum.command("list")(list_)
    museum.command("show")(show)
    museum.command("play")(play)
    app.add_typer(museum, name="museum")


def list_(as_json: JsonOption = False) -> None:
    """The exhibits, and notes on bugs that a replay cannot show.

    Example: vmastore museum list
    """
    from vmastore.reports.museum import EXHIBITS, NOTES

    if as_json:
        echo_json(
            {
                "exhibits": [{"name": e.name, "title": e.title, "change": e.change} for e in EXHIBITS],
                "notes": [{"name": name, "title": title, "why_not": why} for name, title, why in NOTES],
            }
        )
        return
    for found in EXHIBITS:
        echo(f"{found.name:<22} {found.title}")
    echo("not to be played:")
    for name, title, why in NOTES:
        echo(f"{name:<22} {title}. {why}.")


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """What an exhibit is about: the story, the change, the rule switches, the calls.

    Example: vmastore museum show missed-merge
    """
    from vmastore.replay.text import call_text
    from vmastore.reports.museum import exhibit

    found = exhibit(name)
    bug, fix = found.rules()
    calls = [call_text(event) for event in found.trace().events[1:]]
    if as_json:
        document = {"name": found.name, "title": found.title, "story": found.story, "change": found.change}
        echo_json({**document, "bug": bug.name, "fix": fix.name, "calls": calls})
        return
    echo(f"{found.title}\n")
    echo(textwrap.fill(found.story, 100))
    echo(f"\n{found.change}\nwith the bug: {bug.name}\nwith the fix: {fix.name}\n")
    for n, text in enumerate(calls, 1):
        echo(f"{n:>3}  {text}")


def play(
    name: NameArgument,
    keep: Annotated[str | None, typer.Option("--name", help="Keep its trace in the store under this name.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay an exhibit with the bug and with its fix, to where they part, drawn.

    Example: vmastore museum play series-v1
    """
    from vmastore.replay.draw import draw
    from vmastore.reports.museum import exhibit

    found = exhibit(name)
    sides = _sides(found)
    if keep is not None:
        _keep(found, keep, store)
    if as_json:
        echo_json(
            {
                "name": found.name,
                "event": sides[0]["event"],
                "call": sides[0]["call"],
                **{
                    title: {
                        "kernel": side["kernel"],
                        "cases": side["cases"],
                        "errno": side["errno"],
                        "oops": side["oops"],
                        "decisions": side["decisions"],
                        "vmas": [vma_dict(line) for line in side["vmas"]],
                    }
                    for title, side in zip(("bug", "fix"), sides, strict=True)
                },
            }
        )
        return
    echo(found.title)
    for text in sides[0]["before"]:
        echo(f"     {text}")
    echo(f"  →  {sides[0]['call']}")
    for title, side in zip(("with the bug", "with the fix"), sides, strict=True):
        echo(f"{title} ({side['kernel']}): {side['what']}")
        for text in [*side["decisions"], *draw(side["change"])]:
            echo(f"  {text}")


def _sides(found: Any) -> list[dict[str, Any]]:
    """What each rule set does at the first event that they decide differently."""
    from vmastore.replay.bisect import Tracker, differ
    from vmastore.replay.maps import observed
    from vmastore.replay.memory import answered
    from vmastore.replay.text import call_text
    from vmastore.replay.verify import describe

    trace = found.trace()
    sides = [Tracker(trace.world(rules)) for rules in found.rules()]
    before = []
    for event in answered(trace, found.rules()[1]):
        asked = event._replace(result=None, errno=0)
        outcomes = [side.apply(asked) for side in sides]
        parted = differ(*outcomes) or sides[0].world.oops or sides[0].touched() != sides[1].touched()
        if parted:
            break
        if event.call != "maps":
            before.append(call_text(event))
    result = []
    for side, outcome in zip(sides, outcomes, strict=True):
        errno = outcome.errno
        what = str(outcome.divergence) if side.world.oops else outcome.cases or "no merge, no split"
        failed = call_text(asked._replace(errno=errno)).rpartition("= ")[2] if errno else None
        result.append(
            {
                "event": event.seq,
                "call": call_text(asked),
                "before": before,
                "kernel": side.world.rules.name,
                "cases": outcome.cases,
                "errno": errno,
                "oops": side.world.oops,
                "what": what + (f", {failed}" if failed else ""),
                "decisions": [describe(d) for d in outcome.decisions],
                "change": side.change(),
                "vmas": observed(side.world.mms[event.mm]),
            }
        )
    return result


def _keep(found: Any, name: str, store: str | None) -> None:
    """Store the exhibit's trace, its answers those of the fixed kernel."""
    from vmastore.replay.memory import answered
    from vmastore.store import open_store

    trace, (_, fix) = found.trace(), found.rules()
    header = trace.header._replace(name=name, release=found.kernel + ".0", note=found.title)
    with open_store(store_place(store)) as opened:
        info = opened.create_trace(header)
        opened.append(info.trace, answered(trace, fix), files=list(trace.files.values()))
        echo(f"kept as {info.header.name}")
