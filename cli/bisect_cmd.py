"""`vmastore bisect`: the group, and `bisect find`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmastore.cli import bisect_git, bisect_parts, bisect_runs
from vmastore.cli.bisect_show import event_text, show_found, side_dict
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
    open_existing,
    open_target,
    pick_mm,
)
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.replay.bisect import Flip, Judge, Run
    from vmastore.replay.trace import StoredTrace

bisect = typer.Typer(
    cls=bisect_git.TermsGroup,
    no_args_is_help=True,
    help="Find the event that changed an outcome.",
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    bisect_git.register(bisect)
    app.add_typer(bisect, name="bisect")


@bisect.command("find")
def find(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to look no further.")],
    other: Annotated[str | None, typer.Argument(help="Another run: where do the two part?")] = None,
    when: Annotated[
        str | None, typer.Option("--when", help="Predicate: 'map_count > 1000', 'split_at ADDR', …")
    ] = None,
    sql: Annotated[
        str | None, typer.Option("--sql", help="SELECT over vmas as of the event; holds if its first value is true.")
    ] = None,
    command: Annotated[
        str | None, typer.Option("--command", help="Shell command asked as by `bisect run`; it says good, then bad.")
    ] = None,
    against: Annotated[str | None, typer.Option("--against", help="The other rule set.")] = None,
    against_rule: Annotated[
        list[str] | None, typer.Option("--against-rule", help="A switch of the other side: NAME=on or NAME=off.")
    ] = None,
    against_faults: Annotated[str | None, typer.Option("--against-faults", help="The other side's --faults.")] = None,
    against_max_map_count: Annotated[
        int | None, typer.Option("--against-max-map-count", help="The other side's --max-map-count.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every such event, not the first alone.")] = False,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    mm: MmOption = None,
    other_mm: Annotated[int | None, typer.Option("--other-mm", help="Address space of the other run.")] = None,
    each: Annotated[
        bool,
        typer.Option("--each", help="Two runs: every address space, paired by its forks and execs."),
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """The first event at which a predicate holds, that two rule sets decide differently, or where two runs part.

    Two rule sets: --kernel, --rule, --faults and --max-map-count against --against…; --rule alone is
    against the same kernel without it. Exit status 1 if there is no such event.

    Examples: vmastore bisect find app --when 'map_count > 1000'
              vmastore bisect find app --sql "SELECT count(*) > 9 FROM vmas WHERE perms = 'rwxp'"
              vmastore bisect find app --kernel 6.7 --against 6.18 --all
              vmastore bisect find good bad
    """
    check_faults(faults)
    other_side = bool(against or against_rule or against_faults or against_max_map_count is not None)
    asked = [when is not None, sql is not None, command is not None, other is not None, other_side]
    if sum(asked) > 1:
        raise InputError("bisect find answers one question: --when, --sql, --command, --against… or another run")
    if each and other is None:
        raise InputError("--each is about two runs", hint="bisect find GOOD BAD --each")
    if not any(asked) and not rule:
        raise InputError(
            "bisect find needs a question: --when PREDICATE, --sql QUERY, --against KERNEL or another run"
        )
    options: dict[str, Any] = {"faults": faults, "max_map_count": max_map_count}
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        if command is not None:
            _command(trace, at, rules, command, pick_mm(trace, mm, at), options, as_json)
            return
        if when is not None or sql is not None:
            if mm is not None:
                pick_mm(trace, mm, at)  # that it exists
            _holds(trace, at, rules, _judge(trace, when, sql, mm), options, every, as_json)
            return
        if other is not None:
            that, until = open_target(opened, other)
            theirs = choose_rules(that.header, kernel, rule)
            if each:
                if mm is not None or other_mm is not None:
                    raise InputError("--each looks at every address space: leave --mm and --other-mm out")
                bisect_runs.each_space(trace, at, that, until, (rules, theirs), options, every, as_json)
                return
            number = other_mm if other_mm is not None else mm if that.info.trace == trace.info.trace else None
            bisect_runs.two_runs(
                _run(trace, at, mm, rules, options), _run(that, until, number, theirs, options), every, as_json
            )
            return
        side = bisect_parts.Side(rules, options)
        against_side = bisect_parts.other_side(
            trace, side, kernel, against, against_rule, against_faults, against_max_map_count
        )
        bisect_parts.rule_sets(trace, at, side, against_side, every, as_json)


def _run(trace: StoredTrace, at: int, mm: int | None, rules: Any, options: dict[str, Any]) -> Run:
    from vmastore.replay.bisect import Run

    return Run(trace, pick_mm(trace, mm, at), rules, at, options)


def _command(
    trace: StoredTrace, at: int, rules: Any, text: str, mm: int, options: dict[str, Any], as_json: bool
) -> None:
    from vmastore.cli.bisect_run import Command, search
    from vmastore.replay.bisect import look
    from vmastore.replay.bisect.steps import Found

    name = trace.header.name
    step, asked = search(Command(["sh", "-c", text], trace, rules, options, mm), at)
    if not isinstance(step, Found):
        first, last = step  # type: ignore[misc]
        if as_json:
            echo_json(
                {"found": None, "command": text, "kernel": rules.name, "between": [first, last], "asked": asked}
            )
        else:
            echo(f"one of the events {name}@{first} to {name}@{last}: the command skips what lies between")
        raise typer.Exit(1)
    seen = look(trace, step.seq, rules, **options)
    if as_json:
        echo_json({"found": step.seq, "command": text, "kernel": rules.name, "asked": asked, **side_dict(seen)})
        return
    echo(f"first event that `{text}` calls bad: {name}@{step.seq}  ({rules.name}; {asked} states asked about)")
    show_found(seen)


def _judge(trace: StoredTrace, when: str | None, sql: str | None, mm: int | None) -> Judge:
    from vmastore.replay.bisect import PredicateJudge, SqlJudge
    from vmastore.replay.predicate import parse

    if when is not None:
        return PredicateJudge(parse(when), mm)
    return SqlJudge(str(sql), trace.info.trace)


def _holds(
    trace: StoredTrace, at: int, rules: Any, judge: Judge, options: dict[str, Any], every: bool, as_json: bool
) -> None:
    from vmastore.replay import bisect as engine

    name = trace.header.name
    side = engine.Side(rules, **options)
    held = engine.first_held(trace, side, judge, at, every=every)
    found, searched, first = held.flips, held.searched, held.first
    document: dict[str, Any] = {"found": None, "when": judge.text, "kernel": rules.name}
    listed = {"all": [_flip_dict(flip) for flip in found]} if every else {}
    if first is None:
        if as_json:
            echo_json({**document, "flips": len(found), **listed})
        else:
            echo(f"nowhere in {name}: {judge.text} (events 1 to {at}, {rules.name})")
        raise typer.Exit(1)
    seen = engine.look(trace, first.event.seq, rules, **options)
    if as_json:
        document |= {"found": first.event.seq, "flips": len(found) if searched is None else None}
        document["method"] = "every event" if searched is None else "snapshots"
        echo_json({**document, **side_dict(seen), **listed})
        return
    echo(f"first event with {judge.text}: {name}@{first.event.seq}  ({rules.name})")
    show_found(seen)
    if searched is not None:
        echo(f"  bisected: {searched.states} states and {searched.passed} events looked at. That the answer changes")
        echo("  only here is assumed; --all looks at every event")
    elif every:
        echo(f"the answer changes {len(found)} times in events 1 to {at}:")
        for flip in found:
            echo(f"  {_flip_text(name, flip)}")
    elif len(found) > 1:
        echo(f"  the answer changes {len(found)} times; this is the first time it holds (--all lists them)")


def _flip_dict(flip: Flip) -> dict[str, Any]:
    from vmastore.replay.text import call_text

    return {
        "seq": flip.event.seq,
        "mm": flip.mm or None,
        "holds": flip.holds,
        "call": call_text(flip.event),
        "map_count": flip.map_count,
    }


def _flip_text(name: str, flip: Flip) -> str:
    state = "holds from" if flip.holds else "ceases at "
    where = f" mm{flip.mm}" if flip.mm else ""
    return f"{state} {event_text(name, flip.event)}  [{flip.map_count} VMAs]{where}"
