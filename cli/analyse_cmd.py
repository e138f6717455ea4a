"""`vmastore blame`, `history`, `headroom`, `assert`: who made the VMAs, and how many there may be."""

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
    check_faults,
    choose_rules,
    echo,
    echo_json,
    emit_rows,
    open_existing,
    open_target,
    parse_addr,
    pick_mm,
    vma_dict,
)
from vmastore.cli.targets import TARGET_HELP, is_observation, observe_target
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.mm.mm import Mm
    from vmastore.replay.blame import Born
    from vmastore.replay.headroom import Headroom

COLUMNS = ("call", "site", "tid", "how", "reason", "name", "perms")
DEFAULT_BY = "call,site,tid,how,reason"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("blame")(blame)
    app.command("history")(history)
    app.command("headroom")(headroom)
    app.command("assert")(assert_)


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


def alive_at(trace: Any, mm: int | None, at: int) -> tuple[int, int]:
    """The address space to look at, and the event: the last before it ends, where it has ended by `at`."""
    from vmastore.cli.common import note

    number = pick_mm(trace, mm, at)
    died = {row[0]: row[5] for row in trace.store.address_spaces(trace.info.trace)}.get(number)
    if died is not None and died <= at:
        note(f"address space {number} ends at event {died}; this is after event {died - 1}")
        return number, died - 1
    return number, at


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


def history(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to end there.")],
    addr: Annotated[str, typer.Argument(help="The address.")],
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    store: StoreOption = None,
    as_json: JsonOption = False,
    nl: NlOption = False,
) -> None:
    """Every event that touched an address: that asked about it or changed the VMA there, and what became of it.

    The history of a forked address space begins with that of its parent.

    Example: vmastore history app 0x7f0000001000
    """
    from vmastore.replay import history as engine
    from vmastore.replay.text import call_text

    where = parse_addr(addr)
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        number = pick_mm(trace, mm, at)
        spaces = [(row[0], row[2] if row[3] == "fork" else None) for row in opened.address_spaces(trace.info.trace)]
        world = trace.world(rules, faults=check_faults(faults))
        touches = list(engine.history(world, trace.events(1, at), where, engine.lineage(spaces, number)))
    if as_json or nl:
        documents = [
            {
                "seq": t.event.seq,
                "mm": t.event.mm,
                "tid": t.event.tid,
                "call": call_text(t.event),
                "what": t.what,
                "certain": t.outcome.certain,
                "before": None if t.before is None else vma_dict(t.before),
                "after": None if t.after is None else vma_dict(t.after),
            }
            for t in touches
        ]
        for document in documents if nl else [documents]:
            echo_json(document)
        return
    if not touches:
        echo(f"no event up to {at} touched {where:#x}")
    for t in touches:
        certain = "" if t.outcome.certain else "  (assumed)"
        echo(f"{t.event.seq:>8}  {call_text(t.event)}")
        echo(f"          {t.what}{certain}")
    if touches:
        last = touches[-1].after
        shown = "not mapped" if last is None else f"{last.start:#x}-{last.end:#x} {last.perms} {last.name}".rstrip()
        echo(f"now: {shown}")


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


def assert_(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to end there.")],
    expr: Annotated[str, typer.Argument(help="Must hold after every event, e.g. 'map_count < 1000'.")],
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that a predicate holds after every event; exit status 1 names the first event that broke it.

    Without --mm it must hold in every address space. For CI.

    Example: vmastore assert app 'map_count < 1000 and wx == 0'
    """
    from vmastore.replay.bisect import PredicateJudge, look
    from vmastore.replay.draw import draw
    from vmastore.replay.predicate import parse
    from vmastore.replay.text import call_text
    from vmastore.replay.verify import describe

    judge = PredicateJudge(parse(expr), mm)
    options: dict[str, Any] = {"faults": check_faults(faults), "max_map_count": max_map_count}
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        if mm is not None:
            pick_mm(trace, mm, at)
        world = trace.world(rules, **options)
        judge.begin(world)
        seq = None
        for event in trace.events(1, at):
            if not all(holds for _, holds in judge.after(event, world.apply(event))):
                seq = event.seq
                break
        broken = None if seq is None else look(trace, seq, rules, **options)
    if as_json:
        echo_json(
            {
                "assert": expr,
                "kernel": rules.name,
                "events": at,
                "holds": broken is None,
                "seq": None if broken is None else broken.event.seq,
                "mm": None if broken is None else broken.event.mm,
                "call": None if broken is None else call_text(broken.event),
                "map_count": None if broken is None else broken.outcome.map_count,
                "certain": None if broken is None else broken.outcome.certain,
            }
        )
    elif broken is None:
        echo(f"holds after each of {at} events: {expr}  ({rules.name})")
    else:
        where = f"{trace.header.name}@{broken.event.seq}"
        echo(f"broken: {expr}  at {where} (address space {broken.event.mm}, {rules.name})")
        echo(f"  {call_text(broken.event)}  [{broken.outcome.map_count} VMAs]")
        for line in [describe(d) for d in broken.outcome.decisions] + draw(broken.change):
            echo(f"  {line}")
    if broken is not None:
        raise typer.Exit(1)
