"""`python -m benchmarks [--quick] [--only SECTION …] [--json FILE]`: every figure beside its baseline, one table.

Where build/compiled holds the engine compiled from this source (`make compiled`), what the engine has a part in
is measured with it too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import bisection, engine, imports, points, processes, recording, reduce, replays, store
from benchmarks.measure import BUILD, machine
from benchmarks.rows import Row, from_json, to_json
from benchmarks.table import plain

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"  # ignored by git
COMPILED = ROOT / "build" / "compiled"


def long_traces(quick: bool, folder: Path) -> list[Row]:
    """Points in time and queries at 1 k and 65 k; bisection at 1 k, on the same trace."""
    found = []
    for live in (1_000,) if quick else (1_000, points.FOR_65K):
        trace = points.filled(folder / f"long{live}.db", 10_000 if quick else 1_000_000, live)
        found += points.rows(trace, live, 10 if quick else 200)
        if live == 1_000:
            found += bisection.rows(trace, 3 if quick else 9)
        trace.store.close()
    return found


SECTIONS: dict[str, Callable[[bool, Path], list[Row]]] = {
    "imports": imports.rows,
    "recording": recording.rows,
    "replays": replays.rows,
    "engine": lambda quick, folder: engine.rows(quick),
    "long": long_traces,
    "start-up": processes.rows,
    "store": store.rows,
    "reduce": lambda quick, folder: reduce.rows(quick),
}
BUILT = ("recording", "replays", "engine", "long", "reduce")  # what the engine has a part in


def measured(quick: bool, sections: list[str]) -> list[Row]:
    """The rows of these sections, in this build."""
    found = []
    for name in sections:
        print(f"{BUILD}: {name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found += SECTIONS[name](quick, Path(folder))
    return found


def stale() -> str:
    """Why build/compiled cannot be measured, or ''."""
    if not any(COMPILED.glob("vmastore/mm/*.so")):
        return "build/compiled is missing: make compiled"
    for path in (COMPILED / "vmastore").rglob("*.py"):
        source = ROOT / path.relative_to(COMPILED)
        if source.exists() and source.read_bytes() != path.read_bytes():
            return f"build/compiled is of another source ({source.name} differs): make compiled"
    return ""


def compiled(quick: bool, sections: list[str]) -> list[Row]:
    """The rows of these sections in the compiled build, measured by another process."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "compiled.json"
        words = ["-m", "benchmarks", "--only", *sections, "--json", str(kept), *(["--quick"] if quick else [])]
        path = os.pathsep.join([str(COMPILED), str(ROOT)])
        subprocess.run(
            [sys.executable, *words], check=True, cwd=COMPILED, env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return [from_json(row) for row in json.loads(kept.read_text())["rows"]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; figures mean little")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="these sections")
    parser.add_argument("--pure", action="store_true", help="not the compiled engine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go (benchmarks/results/)")
    options = parser.parse_args()
    about: dict[str, Any] = {"machine": machine(), "mode": "quick" if options.quick else "full"}
    rows = measured(options.quick, options.only)
    again = [name for name in options.only if name in BUILT]
    if BUILD == "pure" and again and not options.pure:
        about["not_compiled"] = lacks = stale()
        rows += [] if lacks else compiled(options.quick, again)
    about["load_at_the_end"] = machine()["load"]
    about["rows"] = [to_json(row) for row in rows]
    RESULTS.mkdir(exist_ok=True)
    kept = options.json or RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{about['mode']}.json"
    kept.write_text(json.dumps(about, indent=1) + "\n")
    print(plain(about))


if __name__ == "__main__":
    main()
