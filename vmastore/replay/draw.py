"""Drawing what an event did: the VMAs it touched, before over after, with addresses."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from vmastore.events import ObservedVma

_WIDTH = 60  # characters for the whole range
_LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Change(NamedTuple):
    """The VMAs that an event removed or changed, and those that it made or left changed."""

    before: list[ObservedVma]
    after: list[ObservedVma]


def draw(change: Change) -> list[str]:
    """Two bars to one scale, then the lines of maps behind their letters.

    Each stretch between two boundaries gets at least one character; a hole is `.`.
    """
    lines = [*change.before, *change.after]
    if not lines:
        return ["(no VMA changed)"]
    edges = sorted({e for v in lines for e in (v.start, v.end)})
    widths = _widths(edges)
    names = _names(change)
    text = [
        f"{edges[0]:#x} … {edges[-1]:#x}",
        "before  " + _bar(change.before, edges, widths, names),
        "after   " + _bar(change.after, edges, widths, names),
    ]
    for line in change.before:
        text.append(f"  - {names[line]}  {_describe(line)}")
    for line in change.after:
        text.append(f"  + {names[line]}  {_describe(line)}")
    return text


def _names(change: Change) -> dict[ObservedVma, str]:
    """A letter a VMA; the same VMA before and after has the same one."""
    names: dict[ObservedVma, str] = {}
    for n, line in enumerate(dict.fromkeys([*change.before, *change.after])):
        names[line] = _LABELS[n % len(_LABELS)]
    return names


def _widths(edges: list[int]) -> list[int]:
    """Characters for each stretch between two edges, in proportion but at least two."""
    spans = [b - a for a, b in itertools.pairwise(edges)]
    total = sum(spans)
    return [max(2, round(span * _WIDTH / total)) for span in spans]


def _bar(lines: list[ObservedVma], edges: list[int], widths: list[int], names: dict[ObservedVma, str]) -> str:
    bar = ""
    for start, width in zip(edges, widths, strict=False):
        holder = next((v for v in lines if v.start <= start < v.end), None)
        if holder is None:
            bar += "." * width
        else:
            opens = "[" if holder.start == start else names[holder]
            bar += opens + names[holder] * (width - 1)
    return bar


def _describe(line: ObservedVma) -> str:
    pages = (line.end - line.start) >> 12
    name = f" {line.name}" if line.name else ""
    offset = f" offset {line.offset:#x}" if line.offset else ""
    flags = f"  [{line.vm_flags}]" if line.vm_flags else ""
    return f"{line.start:#x}-{line.end:#x} {line.perms} {pages} pages{offset}{name}{flags}"
