"""`vmastore reduce`: the smallest sequence of operations that still shows it."""

from __future__ import annotations

import sys
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
    choose_rules,
    echo,
    echo_json,
    note,
    open_existing,
    open_target,
    parse_target,
    vma_dict,
)
from vmastore.cli.forms import ALONE, isolated, memory_jsonl, render, write_text
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.mm.rules import RuleSet
    from vmastore.replay.isolate import Isolated
    from vmastore.replay.reduce import Goal, Reduced

FORMS = ("text", "jsonl", *ALONE)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reduce")(reduce)


def reduce(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to look no further.")],
    when: Annotated[str | None, typer.Option("--when", help="Still show this predicate.")] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Still show what --kernel and this one decide differently.")
    ] = None,
    event: Annotated[int | None, typer.Option("--at", help="Still show the outcome of this event.")] = None,
    to: Annotated[str, typer.Option("--to", help=f"One of {', '.join(FORMS)}.")] = "text",
    output: Annotated[str, typer.Option("-o", "--output", help="File, - for standard output.")] = "-",
    name: Annotated[str | None, typer.Option("--name", help="Keep the result in the store under this name.")] = None,
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """The smallest sequence of operations that still shows a predicate, a difference of kernels, or an outcome.

    None of the operations left can be left out; their lengths are pages, their addresses an arena, their
    flags the simplest that do. Every step is checked by replay; the same trace gives the same result. Exit
    status 1 if the trace does not show it.

    Example: vmastore reduce app --when 'errno ENOMEM' --to c -o enomem.c
    """
    if sum(option is not None for option in (when, against, event)) != 1:
        raise InputError("name one of --when, --against and --at", hint="reduce TRACE --when 'map_count > 100'")
    if to not in FORMS:
        raise InputError(f"--to {to!r}: one of {', '.join(FORMS)}")
    from vmastore.mm.rules import resolve
    from vmastore.replay.predicate import parse
    from vmastore.replay.reduce import PredicateGoal, reduce_trace

    other = None if against is None else resolve(against)
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        if event is not None:
            _, event = open_target(opened, f"{parse_target(target).trace}@{event}")
            at = event
            mm = mm or (next(trace.events(event, event)).mm if event else None) or None
        done, goal, whole_goal = None, None, None
        if when is not None and parse(when).of_event:  # why it fails is told by the whole trace alone
            options: dict[str, Any] = {"faults": faults, "max_map_count": max_map_count}
            whole = isolated(trace, at, mm, rules, everything=True, quiet=True, **options)
            whole_goal = PredicateGoal(parse(when), rules).reasoned(whole.trace)
        for everything in (False, True):  # what no event comes near is made only if nothing shows without
            found = isolated(trace, at, mm, rules, faults=faults, max_map_count=max_map_count, everything=everything)
            goal = whole_goal or _goal(found, rules, when, other, event)
            if goal is not None:
                done = reduce_trace(found.trace, goal, rules, _progress if sys.stderr.isatty() else None)
            if done is not None:
                break
        if done is None or goal is None:
            _nothing(trace.header.name, at, goal, as_json)
            raise typer.Exit(1)
        title = name or f"{trace.header.name}-reduced"
        done.trace.header = done.trace.header._replace(name=title, source=f"reduced from {trace.header.name}")
        if name is not None:
            note(f"kept as {_keep(opened, done, rules)}")
    words = goal.text()
    if as_json:
        echo_json(_document(done, goal, rules))
    elif to == "text":
        _print(done, words, rules)
    elif to == "jsonl":
        memory_jsonl(done.trace, rules, output)
    else:
        write_text(render(to, done.trace, rules, other, words), output)


def _goal(found: Isolated, rules: RuleSet, when: str | None, other: RuleSet | None, event: int | None) -> Goal | None:
    """What the result must still show; None where the trace has no such event."""
    from vmastore.replay.predicate import parse
    from vmastore.replay.reduce import AtGoal, KernelGoal, PredicateGoal
    from vmastore.replay.reduce.goals import pair_signature, signature

    if when is not None:
        return PredicateGoal(parse(when), rules)
    trace = found.trace
    if other is not None:
        goal = KernelGoal(rules, other)
        at = goal.hit(trace, trace.events)
        if at is None:
            return None
        one, two = trace.world(rules), trace.world(other)
        for step in trace.events[: at + 1]:
            a, b = one.apply(step), two.apply(step)
        return KernelGoal(rules, other, pair_signature(step, a, b))
    if event not in found.origin:
        raise InputError(f"event {event} is no operation on the VMAs of that address space")
    world = trace.world(rules)
    for step in trace.events[: found.origin.index(event) + 1]:
        outcome = world.apply(step)
    return AtGoal(rules, signature(step, outcome))


def _progress(text: str) -> None:
    print(text, file=sys.stderr)


def _nothing(name: str, at: int, goal: Goal | None, as_json: bool) -> None:
    words = goal.text() if goal is not None else "the two decide every event alike"
    if as_json:
        echo_json({"found": False, "goal": words})
    else:
        echo(f"{name} does not show it (events 1 to {at}): {words}")


def _keep(store: Any, done: Reduced, rules: RuleSet) -> str:
    """Store the result; the name it got."""
    from vmastore.replay.memory import answered

    info = store.create_trace(done.trace.header)
    store.append(info.trace, answered(done.trace, rules), files=list(done.trace.files.values()))
    return str(info.header.name)


def _document(done: Reduced, goal: Goal, rules: RuleSet) -> dict[str, Any]:
    from vmastore.events.jsoncodec import event_json, file_json
    from vmastore.replay.memory import answered

    changes = _changes(done, rules)
    return {
        "found": True,
        "goal": goal.text(),
        "kernel": rules.name,
        "events": done.events,
        "left": len(done.trace.events),
        "replays": done.replays,
        "max_map_count": done.trace.header.config.get("max_map_count"),
        "files": [file_json(info) for info in done.trace.files.values()],
        "operations": [event_json(event) for event in answered(done.trace, rules)],
        "vmas": [vma_dict(line) for line in changes[-1][1]] if changes else [],
    }


def _changes(done: Reduced, rules: RuleSet) -> list[tuple[Any, list[Any]]]:
    """(what each operation changed, the address space after it)."""
    from vmastore.replay.bisect import Tracker
    from vmastore.replay.maps import observed

    tracker = Tracker(done.trace.world(rules))
    found = []
    for event in done.trace.events:
        tracker.apply(event)
        found.append((tracker.change(), observed(tracker.world.mms[event.mm])))
    return found


def _print(done: Reduced, words: str, rules: RuleSet) -> None:
    from vmastore.replay.draw import draw
    from vmastore.replay.memory import answered
    from vmastore.replay.text import call_text

    echo(f"{len(done.trace.events)} of {done.events} operations still show: {words}")
    if (limit := done.trace.header.config.get("max_map_count")) is not None and limit < 65530:
        echo(f"with vm.max_map_count {limit}")
    for event in answered(done.trace, rules):
        echo(f"{event.seq:>3}  {call_text(event)}")
    changes = _changes(done, rules)
    for line in draw(changes[-1][0]):
        echo(f"     {line}")
