"""How things are measured: by CPU time, in turn with their baseline, medians.

CPU time, since what other programs take of the machine then counts for neither.
"""

from __future__ import annotations

import gc
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from vmastore.mm import mm as mm_module
from vmastore.version import VERSION

BUILD = "pure" if str(mm_module.__file__).endswith(".py") else "compiled"

Timed = tuple[float, float]  # work done (events, lines, …) and the seconds of CPU time it took
Job = Callable[[], Timed]


def cpu(job: Callable[[], object]) -> float:
    """Seconds of CPU time of one call."""
    gc.collect()
    start = time.process_time()
    job()
    return time.process_time() - start


def pair(runs: int, ours: Job, base: Job) -> dict[str, float]:
    """Rates (work per second of CPU time) of the two, run in turn: medians, and the median of the ratios.

    p95 is the rate that 95 of 100 runs reach: of few runs, the slowest.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for job, found in zip((ours, base), rates, strict=True):
            work, seconds = job()
            found.append(work / seconds)
    ratios = sorted(a / b for a, b in zip(*rates, strict=True))
    return {
        "rate": round(statistics.median(rates[0])),
        "p95": round(percentile(rates[0], 5)),
        "baseline": round(statistics.median(rates[1])),
        "baseline_p95": round(percentile(rates[1], 5)),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_least": round(ratios[0], 3),
        "ratio_most": round(ratios[-1], 3),
        "runs": runs,
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The value at that place of the sorted ones."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def of_child(command: Sequence[str], **options: Any) -> tuple[float, float, subprocess.CompletedProcess[str]]:
    """Runs a command. Returns (seconds by the clock, CPU seconds of it and its children, what it came to).

    Raises CalledProcessError if it fails.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, **options)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _model(),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "vmastore": VERSION,
    }


def _model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.machine()
