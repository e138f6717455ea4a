"""How bisection shows events: as text with the decisions and a drawing, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmastore.cli.common import echo, vma_dict

if TYPE_CHECKING:
    from vmastore.events import Event
    from vmastore.replay.bisect import Found
    from vmastore.replay.world import Outcome


def show_found(found: Found) -> None:
    """The call, what the merge/split API decided, and the VMAs before and after."""
    from vmastore.replay.text import call_text

    echo(f"  {call_text(found.event)}  [{found.outcome.map_count} VMAs]")
    explain(found)


def explain(found: Found) -> None:
    """The decisions and the drawing."""
    from vmastore.replay.draw import draw
    from vmastore.replay.verify import describe

    for decision in found.outcome.decisions:
        echo(f"  {describe(decision)}")
    for line in draw(found.change):
        echo(f"  {line}")


def side_dict(found: Found) -> dict[str, Any]:
    """One side of what was found, for JSON."""
    return {
        **outcome_dict(found.outcome),
        "before": [vma_dict(v) for v in found.change.before],
        "after": [vma_dict(v) for v in found.change.after],
    }


def outcome_dict(outcome: Outcome) -> dict[str, Any]:
    """An outcome for JSON."""
    from vmastore.replay.verify import describe

    return {
        "cases": outcome.cases,
        "map_count": outcome.map_count,
        "errno": outcome.errno,
        "certain": outcome.certain,
        "decisions": [describe(d) for d in outcome.decisions],
    }


def outcome_text(outcome: Outcome) -> str:
    """An outcome in a few words: `3, 62 VMAs` or `no merge, no split, ENOMEM, 61 VMAs`."""
    from vmastore.replay.world import ERRNO_NAMES

    failed = f", {ERRNO_NAMES.get(outcome.errno, outcome.errno)}" if outcome.errno else ""
    return f"{outcome.cases or 'no merge, no split'}{failed}  [{outcome.map_count} VMAs]"


def event_text(name: str, event: Event) -> str:
    """`app@12 mprotect(…) = 0`."""
    from vmastore.replay.text import call_text

    return f"{name}@{event.seq} {call_text(event)}"
