"""`vmastore headroom`: how many VMAs there may be still."""

from __future__ import annotations

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
    alive_at,
    check_faults,
    choose_rules,
    echo,
    echo_json,
    open_existing,
    open_target,
)
from vmastore.cli.targets import TARGET_HELP, is_observation, observe_target
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.replay.headroom import Headroom


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("headroom")(headroom)


def headroom(
    target: Annotated[str, typer.Argument(help=TARGET_HELP)],
    warn: Annotated[
        str | None, typer.Option("--warn", help="Exit status 1 if this much is used: 90%, or a number of VMAs.")
    ] = None,
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """How far from vm.max_map_count, how the number of VMAs grows per event and per time, and when it will be there.

    Example: vmastore headroom app --warn 90%
    """
    from vmastore.replay.headroom import Headroom
    from vmastore.replay.headroom import headroom as measure

    bound = _bound(warn)
    if is_observation(target, store):
        view, header = observe_target(target, kernel, rule, faults, max_map_count)
        known = max_map_count is not None or "max_map_count" in header.config
        found = Headroom(view.mm.config.max_map_count, view.mm.map_count, view.mm.map_count)
    else:
        with open_existing(store) as opened:
            trace, at = open_target(opened, target)
            rules = choose_rules(trace.header, kernel, rule)
            number, at = alive_at(trace, mm, at)
            world = trace.world(rules, faults=check_faults(faults), max_map_count=max_map_count)
            known = max_map_count is not None or "max_map_count" in trace.header.config
            found = measure(world, trace.events(1, at), number)
    limit = None if bound is None else bound(found.limit)
    reached = limit is not None and found.map_count >= limit
    if as_json:
        echo_json(
            {
                **vars(found),
                "left": found.left,
                "used": round(found.used, 6),
                "limit_known": known,
                "warn_at": limit,
                "warned": reached,
            }
        )
    else:
        _print_headroom(found, known)
        if reached:
            echo(f"at or above {limit} VMAs (--warn {warn})")
    if reached:
        raise typer.Exit(1)


def _bound(warn: str | None) -> Any:
    """`90%` or `60000`, as a function of the limit. Raises InputError."""
    if warn is None:
        return None
    text = warn.removesuffix("%")
    try:
        value = float(text) if warn != text else int(text)
    except ValueError:
        raise InputError(f"--warn {warn!r} is neither a percentage nor a number of VMAs") from None
    return (lambda limit: int(limit * value / 100)) if warn != text else (lambda limit: int(value))


def _print_headroom(found: Headroom, known: bool) -> None:
    assumed = "" if known else " (the default: the limit is not recorded; --max-map-count gives it)"
    echo(f"{found.map_count} VMAs of {found.limit}{assumed}: {found.used:.1%} used, {found.left} left")
    if not found.events:
        echo("growth: not known from one observation")
        return
    echo(f"most: {found.peak} after event {found.peak_seq}")
    if found.per_event is None:
        echo("growth: not known, too few events")
        return
    timed = "" if found.per_second is None else f", {found.per_second:+.6g} a second"
    echo(f"growth over the newer half of {found.events} events: {found.per_event:+.6g} VMAs an event{timed}")
    if found.events_left is None:
        echo("forecast: not growing, the limit is not reached")
        return
    when = "" if found.seconds_left is None else f", {_span(found.seconds_left)}"
    echo(f"forecast: the limit after {found.events_left} more events{when}, if it goes on so")


def _span(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.3g} seconds"
