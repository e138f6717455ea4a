"""The benchmarks run, and nothing is slower than its baseline by orders of magnitude."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_quick_benchmarks() -> None:
    """Every figure is there; ratios are far above what a regression of the algorithm would give."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    for name in ("import, one thread", "import, four threads", "engine, 1 k live", "replay from the store"):
        assert results[name]["rate"] > 0
        assert results[name]["ratio"] > 0.01, (name, results[name])
    assert results["memory of import"]["MiB, four times the log"] < 500


def test_quick_store_benchmark() -> None:
    """The figures of the store beside sqlite3 alone; an event with its hash takes about 100 bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.store", "--quick", "--json"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["one batch"]["bytes_an_event"] < 105
    assert results["one batch"]["baseline_per_second"] > 0
    assert {"p50_us", "p95_us", "p99_us", "baseline_p99_us"} <= results["single appends"].keys()


def test_quick_bisection_benchmark() -> None:
    """Both bisections name the events that were put there, by few states and events (it checks that itself)."""
    command = [sys.executable, "-m", "benchmarks.bisection", "--quick", "--events", "5000", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert results["trace"]["events"] == 6_000
    assert results["predicate"]["states"] <= 6 and results["predicate"]["passed"] <= 1_000
    assert results["outcome"]["ms, linear"] > 0
