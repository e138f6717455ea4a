"""A trace as a plain-text mail for linux-mm: the operations, the drawings, what is expected where."""

from __future__ import annotations

import textwrap

from vmastore.mm.rules import RuleSet
from vmastore.replay.bisect import Tracker, differ
from vmastore.replay.draw import draw
from vmastore.replay.maps_text import maps_line
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.text import call_text
from vmastore.replay.verify import describe
from vmastore.reports.program import Program
from vmastore.version import VERSION

_WIDTH = 72


def export_report(program: Program, against: RuleSet | None = None, goal: str | None = None) -> str:
    """The mail's text. against: rules to compare with; goal: what the operations show, in words."""
    last = program.steps[-1]
    trace = MemoryTrace(program.header, program.files, [step.event for step in program.steps])
    parted = [] if against is None else _compared(trace, program.rules, against)
    parts = [f"Subject: {_subject(program, parted, against, goal)}", "To: linux-mm@kvack.org", ""]
    count, kernel = len(program.steps), program.rules.name
    intro = f"What {count} operations do to the VMAs of a process under the rules of Linux {kernel}."
    if goal:
        intro = f"The {count} operations below show: {goal}."
    parts += [textwrap.fill(intro, _WIDTH), ""]
    parts += [line for text in program.notes for line in textwrap.wrap(text, _WIDTH)] + ([""] * bool(program.notes))
    if program.limit is not None:
        parts += [f"They depend on vm.max_map_count: here {program.limit}, all VMAs in the arena.", ""]
    parts += _operations(trace, program.rules)
    parts += [f"Afterwards, Linux {program.rules.name}:", ""]
    parts += ["  " + maps_line(line).rstrip() for line in last.lines] or ["  (nothing is mapped)"]
    parts += [""]
    if against is not None:
        parts += parted or [f"Linux {against.name} decides each of them alike.", ""]
    parts += ["A program that does this and checks /proc/self/maps after every step:", ""]
    parts += [f"  vmastore export {program.name} --to c", "", "-- ", f"vmastore {VERSION}", ""]
    return "\n".join(parts)


def _subject(program: Program, parted: list[str], against: RuleSet | None, goal: str | None) -> str:
    if against is not None and parted:
        return f"mm/vma: {program.rules.name} and {against.name} treat {program.steps[-1].event.call} differently"
    return f"mm/vma: {goal or program.name}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _operations(trace: MemoryTrace, rules: RuleSet) -> list[str]:
    """Each operation with what it decided and its drawing."""
    tracker = Tracker(trace.world(rules))
    lines = []
    for n, event in enumerate(trace.events, 1):
        outcome = tracker.apply(event)
        lines.append(f"{n}. {call_text(event._replace(result=outcome.result, errno=outcome.errno))}")
        lines += [line for d in outcome.decisions for line in _wrapped(describe(d), "     ")]
        if outcome.divergence:
            lines.append(f"     {outcome.divergence}")
        lines += [f"     {text}" for text in draw(tracker.change())]
        lines.append("")
    return lines


def _compared(trace: MemoryTrace, rules: RuleSet, against: RuleSet) -> list[str]:
    """The first operation that the two decide differently, both ways."""
    one, two = Tracker(trace.world(rules)), Tracker(trace.world(against))
    for n, event in enumerate(trace.events, 1):
        a, b = one.apply(event), two.apply(event)
        if not differ(a, b) and one.touched() == two.touched() and one.world.oops == two.world.oops:
            continue
        lines = [f"Operation {n} is where they part:", ""]
        for name, outcome, change in ((rules.name, a, one.change()), (against.name, b, two.change())):
            lines.append(f"  Linux {name}: {outcome.cases or 'no merge, no split'}; {outcome.map_count} VMAs")
            lines += [line for d in outcome.decisions for line in _wrapped(describe(d), "    ")]
            lines += [f"    {outcome.divergence}"] if outcome.divergence else []
            lines += [f"    {text}" for text in draw(change)] + [""]
        return lines
    return []
