"""The forms of a trace that stand alone: a C program, a pytest file, a mail. Shared by export and reduce."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vmastore.cli.common import check_faults, note
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.mm.rules import RuleSet
    from vmastore.replay.isolate import Isolated
    from vmastore.replay.memory import MemoryTrace
    from vmastore.replay.trace import StoredTrace

ALONE = ("c", "pytest", "report")


def isolated(
    trace: StoredTrace,
    at: int,
    mm: int | None,
    rules: RuleSet,
    *,
    faults: str = "recorded",
    max_map_count: int | None = None,
    everything: bool = False,
    quiet: bool = False,
) -> Isolated:
    """The operations of one address space up to event `at`, as a trace that stands alone.

    everything: with all that was there before them, see isolate(). quiet: say nothing of what cannot be made.
    """
    from vmastore.cli.common import pick_mm
    from vmastore.replay.history import lineage
    from vmastore.replay.isolate import isolate

    number = pick_mm(trace, mm, at)
    rows = trace.store.address_spaces(trace.info.trace)
    line = lineage([(row[0], row[2] if row[3] == "fork" else None) for row in rows], number)
    options: dict[str, Any] = {"faults": check_faults(faults), "max_map_count": max_map_count}
    found = isolate(trace, trace.events(1, at), rules, line, everything=everything, **options)
    if quiet:
        return found
    for text in found.notes[:5]:
        note(text)
    if len(found.notes) > 5:
        note(f"and {len(found.notes) - 5} more VMAs that were there from the start")
    return found


def render(
    to: str, trace: MemoryTrace, rules: RuleSet, against: RuleSet | None = None, goal: str | None = None
) -> str:
    """The text of a trace that stands alone, in one of the forms `ALONE`. Raises InputError."""
    from vmastore.reports.export_c import export_c
    from vmastore.reports.export_pytest import export_pytest
    from vmastore.reports.export_report import export_report
    from vmastore.reports.program import program

    made = program(trace, rules)
    if to == "c":
        return export_c(made)
    return export_pytest(made) if to == "pytest" else export_report(made, against, goal)


def write_text(text: str, output: str) -> None:
    """Text to a file, or - for standard output. Raises InputError."""
    if output == "-":
        sys.stdout.write(text)
        return
    try:
        with open(output, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror or error}") from None


def memory_jsonl(trace: MemoryTrace, rules: RuleSet, output: Any) -> None:
    """The trace, answered, as JSON lines."""
    from vmastore.replay.memory import answered
    from vmastore.reports.export_jsonl import export_jsonl, open_output

    with open_output(output) as out:
        export_jsonl(trace.header, list(trace.files.values()), answered(trace, rules), out)
