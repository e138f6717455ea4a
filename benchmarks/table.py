"""`python -m benchmarks.table FILE … [--write PAGE]`: the table of a run's JSON, in Markdown; of several, made one.

--write puts it into a page, between the comments `<!-- benchmarks -->` and `<!-- /benchmarks -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import Goal, Row, from_json

_HEAD = ("job", "build", "ours", "baseline", "ratio", "goal", "met")
_MET = {True: "yes", False: "**no**", None: ""}


def number(value: float | None) -> str:
    """A figure as people read it."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.4g}"


def _goal(goal: Goal, row: Row) -> str:
    sign, limit = ("≥", goal.least) if goal.least is not None else ("≤", goal.most)
    what = {"ours": row.unit, "ratio": "× the baseline"}.get(goal.figure, goal.figure.replace("_", " "))
    return f"{sign} {number(limit)} {what}"


def cells(row: Row) -> tuple[str, ...]:
    """What the table shows of a row, by _HEAD."""
    goals = "; ".join(_goal(goal, row) for goal in row.goals)
    if row.skipped:
        return row.job, row.build, f"not measured: {row.skipped}", "", "", goals, ""
    base = "" if row.baseline is None else f"{number(row.baseline)} ({row.against})"
    return row.job, row.build, f"{number(row.ours)} {row.unit}", base, number(row.ratio), goals, _MET[row.met]


def heading(document: dict[str, Any]) -> str:
    """The same, and which run."""
    return f"{where(document)}; {document['mode']} run."


def _rows(document: dict[str, Any]) -> list[Row]:
    return [from_json(row) for row in document["rows"]]


def where(document: dict[str, Any]) -> str:
    """What the run was made on."""
    machine = document["machine"]
    return (
        f"{machine['when'][:16].replace('T', ' ')} UTC, {machine['cpu']}, {machine['cores']} cores, load"
        f" {machine['load'][0]} to {document['load_at_the_end'][0]};"
        f" Linux {machine['kernel']}, Python {machine['python']}, SQLite {machine['sqlite']},"
        f" vmastore {machine['vmastore']}"
    )


def joined(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Runs of single sections as one; what a later one measured again takes the earlier row's place."""
    rows = {(row["key"], row["build"]): row for document in documents for row in document["rows"]}
    loads = [load for document in documents for load in (document["machine"]["load"], document["load_at_the_end"])]
    machine = documents[0]["machine"] | {"load": min(loads)}
    kept = {"machine": machine, "load_at_the_end": max(loads), "rows": list(rows.values())}
    measured = any(row["build"] == "compiled" for row in kept["rows"])
    return documents[-1] | kept | ({"not_compiled": ""} if measured else {})


def _note(document: dict[str, Any]) -> str:
    lacks = document.get("not_compiled")
    return f"The compiled engine was not measured: {lacks}." if lacks else ""


def markdown(document: dict[str, Any]) -> str:
    """The table with its heading."""
    lines = [heading(document), "", "| " + " | ".join(_HEAD) + " |", "|---|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in _rows(document)]
    return "\n".join([*lines, *(["", _note(document)] if _note(document) else [])]) + "\n"


def plain(document: dict[str, Any]) -> str:
    """The same for a terminal."""
    shown = [_HEAD, *(tuple(cell.replace("*", "") for cell in cells(row)) for row in _rows(document))]
    widths = [max(len(row[n]) for row in shown) for n in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    return "\n".join([heading(document), *lines, *filter(None, [_note(document)])])


def written(page: str, table: str, name: str = "benchmarks") -> str:
    """The page with its table of that name replaced. Raises ValueError where it has no place for one."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    made, places = re.subn(f"{start}.*{end}", lambda _: f"{start}\n{table}{end}", page, flags=re.DOTALL)
    if places != 1:
        raise ValueError(f"{places} places between {start} and {end}: one is needed")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="what --json of a run wrote")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page to put it into")
    options = parser.parse_args()
    table = markdown(joined([json.loads(file.read_text()) for file in options.files]))
    if options.write is None:
        sys.stdout.write(table)
    else:
        options.write.write_text(written(options.write.read_text(), table))


if __name__ == "__main__":
    main()
