"""Start-up: whole processes, beside `python -c pass`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import of_child, percentile
from benchmarks.rows import Goal, Row
from vmastore.store import open_store


def rows(quick: bool, folder: Path) -> list[Row]:
    """Seconds of CPU time; by the clock beside it, which is the same on a machine with nothing else to do."""
    store = folder / "start-up.db"
    open_store(store).close()
    binary = str(Path(sys.executable).with_name("vmastore"))
    runs = 2 if quick else 11
    found = []
    for key, words, most in (
        ("start-version", ["--version"], 0.15),
        ("start-sql", ["sql", "select 1", "--store", str(store)], 0.4),
    ):
        times: tuple[list[float], list[float]] = ([], [])
        clocks = []
        for _ in range(runs):
            clock, seconds, _ = of_child([binary, *words])
            clocks.append(clock)
            times[0].append(seconds)
            times[1].append(of_child([sys.executable, "-c", "pass"])[1])
        ours, base = (percentile(seconds, 50) for seconds in times)
        more = {"p95": round(percentile(times[0], 95), 3), "clock": round(percentile(clocks, 50), 3), "runs": runs}
        found.append(
            Row(
                key, f"vmastore {' '.join(words[:2])}", "s", round(ours, 3), round(base, 3), "python -c pass",
                round(ours / base, 1), [Goal("ours", most=most)], more=more,
            )
        )  # fmt: skip
    return found
