"""`bisect find TRACE OTHER`: where two runs part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from vmastore.cli.bisect_show import event_text, explain, outcome_text, side_dict
from vmastore.cli.common import echo, echo_json

if TYPE_CHECKING:
    from vmastore.mm.rules import RuleSet
    from vmastore.replay.bisect import Comparison, Found, Parting, Run
    from vmastore.replay.trace import StoredTrace

_SAYS = {
    "calls": "the calls part",
    "mapping": "the same call, on another mapping",
    "answer": "the kernel answers otherwise",
    "outcome": "the same call, another outcome",
}
_MOST = 8  # events of one side that are listed


def two_runs(a: Run, b: Run, every: bool, as_json: bool) -> None:
    """Where the runs part first, with both sides explained, or everywhere. Exit status 1 if nowhere."""
    from vmastore.replay.bisect import compare

    found = compare(a, b)
    calls, outcomes = found.first("calls", "mapping"), found.first("answer", "outcome")
    if as_json:
        echo_json(_document(a, b, found, calls, outcomes, every))
    elif not found.partings:
        echo(f"{_name(a)} and {_name(b)} are alike in all {found.matched} calls and their outcomes")
    else:
        _print(a, b, found, calls, outcomes, every)
    if not found.partings:
        raise typer.Exit(1)


def each_space(
    trace: StoredTrace,
    at: int,
    other: StoredTrace,
    until: int,
    rules: tuple[RuleSet, RuleSet],
    options: dict[str, Any],
    every: bool,
    as_json: bool,
) -> None:
    """Compare every address space of a run with its like of the other; explain where the first of all parts.

    Exit status 1 if all that are paired are alike and none is without its like.
    """
    from vmastore.replay.bisect import Run, compare
    from vmastore.replay.bisect.spaces import pair

    spaces = [
        [row for row in t.store.address_spaces(t.info.trace) if row[4] <= max(stop, 1)]
        for t, stop in ((trace, at), (other, until))
    ]
    paired = pair(*spaces)
    runs = [(Run(trace, x, rules[0], at, options), Run(other, y, rules[1], until, options)) for x, y in paired.pairs]
    found = [(a, b, compare(a, b)) for a, b in runs]
    parted = [entry for entry in found if entry[2].partings]
    first = min(parted, key=lambda entry: _first_seq(entry[2]), default=None)
    alike = not (parted or paired.only_a or paired.only_b)
    if as_json:
        rows = [{"mms": [a.mm, b.mm], "matched": c.matched, "partings": len(c.partings)} for a, b, c in found]
        document: dict[str, Any] = {"spaces": rows, "only_mms": [paired.only_a, paired.only_b], "found": None}
        if first is not None:
            a, b, c = first
            document |= _document(a, b, c, c.first("calls", "mapping"), c.first("answer", "outcome"), every)
        echo_json(document)
    else:
        for a, b, c in found:
            says = "alike" if not c.partings else f"parts after {c.before} calls"
            echo(f"{_name(a)} mm{a.mm} / {_name(b)} mm{b.mm}: {c.matched} calls in both, {says}")
        for run, only in ((trace, paired.only_a), (other, paired.only_b)):
            for mm in only:
                echo(f"{run.header.name} mm{mm}: only there")
        if first is not None:
            a, b, c = first
            echo(f"the first to part: mm{a.mm} / mm{b.mm}")
            _print(a, b, c, c.first("calls", "mapping"), c.first("answer", "outcome"), every)
    if alike:
        raise typer.Exit(1)


def _first_seq(found: Comparison) -> int:
    first = found.partings[0]
    return min((*first.a[:1], *first.b[:1]))


def _print(a: Run, b: Run, found: Comparison, calls: Parting | None, outcomes: Parting | None, every: bool) -> None:
    same = f"{found.matched} calls in both, {found.only_a} only in {_name(a)}, {found.only_b} only in {_name(b)}"
    echo(f"{same}; alike up to the first parting: {found.before}")
    for parting in sorted((p for p in (calls, outcomes) if p is not None), key=found.partings.index):
        echo(f"first place where {_SAYS[parting.kind]}: {_places(a, b, parting)}{_detail(parting)}")
        for run, numbers in ((a, parting.a), (b, parting.b)):
            _side(run, numbers)
    if outcomes is None:
        echo("calls that are in both have the same outcomes throughout")
    if every:
        echo(f"{len(found.partings)} partings (those behind the first may be its consequences):")
        for parting in found.partings:
            echo(f"  {_SAYS[parting.kind]}: {_places(a, b, parting)}{_detail(parting)}")


def _side(run: Run, numbers: tuple[int, ...]) -> None:
    name = run.trace.header.name
    if not numbers:
        echo(f"{name}: nothing")
        return
    seen = _look(run, numbers[0])
    echo(f"{name}: {event_text(name, seen.event)}  {outcome_text(seen.outcome)}")
    explain(seen)
    for event in run.trace.events(numbers[0] + 1, numbers[min(len(numbers), _MOST) - 1]):
        if event.seq in numbers:
            echo(f"  then {event_text(name, event)}")
    if len(numbers) > _MOST:
        echo(f"  … and {len(numbers) - _MOST} more")


def _look(run: Run, seq: int) -> Found:
    from vmastore.replay.bisect import look

    return look(run.trace, seq, run.rules, **run.options)


def _name(run: Run) -> str:
    return run.trace.header.name


def _places(a: Run, b: Run, parting: Parting) -> str:
    sides = []
    for run, numbers in ((a, parting.a), (b, parting.b)):
        if numbers:
            many = f" … {numbers[-1]}" if len(numbers) > 1 else ""
            sides.append(f"{_name(run)}@{numbers[0]}{many}")
    only = " only" if len(sides) == 1 else ""
    return " / ".join(sides) + only


def _detail(parting: Parting) -> str:
    return f" ({parting.detail})" if parting.detail else ""


def _document(
    a: Run, b: Run, found: Comparison, calls: Parting | None, outcomes: Parting | None, every: bool
) -> dict[str, Any]:
    first = found.first()
    document: dict[str, Any] = {
        "found": None if first is None else _dict(first),
        "calls": None if calls is None else _dict(calls),
        "outcome": None if outcomes is None else _dict(outcomes),
        "matched": found.matched,
        "before": found.before,
        "only": [found.only_a, found.only_b],
        "kernels": [a.rules.name, b.rules.name],
        "mms": [a.mm, b.mm],
    }
    if first is not None:
        sides = ((a, first.a), (b, first.b))
        document["sides"] = [side_dict(_look(run, seqs[0])) if seqs else None for run, seqs in sides]
    if every:
        document["all"] = [_dict(parting) for parting in found.partings]
    return document


def _dict(parting: Parting) -> dict[str, Any]:
    return {"kind": parting.kind, "a": list(parting.a), "b": list(parting.b), "detail": parting.detail or None}
