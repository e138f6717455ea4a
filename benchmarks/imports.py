"""Imports, text to committed events, beside the bare import; memory of an import."""

from __future__ import annotations

import subprocess
import sys
from itertools import count as counter
from pathlib import Path

from benchmarks.bare import bare_import
from benchmarks.measure import Timed, cpu, pair
from benchmarks.rows import Goal, Row
from benchmarks.stream import log
from vmastore.importers.detect import open_traces
from vmastore.store import open_store


def imported(path: Path, database: Path) -> int:
    """Import a log into a new store. Returns the events."""
    with open_store(database) as store:
        reader = open_traces(path)[0]
        return store.import_events(store.create_trace(reader.header), reader).events


def rows(quick: bool, folder: Path) -> list[Row]:
    """A log of one thread, by events; a log of four, by lines."""
    runs, count = (2, 4_000) if quick else (5, 120_000)
    many = 20_000 if quick else 2_500_000
    return [_import(runs, count, threads, folder) for threads in (1, 4)] + [memory((count, many), folder)]


def _import(runs: int, count: int, threads: int, folder: Path) -> Row:
    path = folder / f"log{threads}.strace"
    lines = list(log(count, 1000, threads))
    path.write_text("\n".join(lines) + "\n")
    bytes_a_line = path.stat().st_size / len(lines)
    numbers = counter()
    seen = []

    def ours() -> Timed:
        place = folder / f"ours{threads}-{next(numbers)}.db"
        seconds = cpu(lambda: seen.append(imported(path, place)))
        place.unlink()
        return len(lines), seconds

    def base() -> Timed:
        place = folder / f"bare{threads}-{next(numbers)}.db"
        seconds = cpu(lambda: bare_import(str(path), str(place), threads))
        place.unlink()
        return len(lines), seconds

    figures = pair(runs, ours, base)
    more = figures | {"events": seen[-1], "lines": len(lines), "bytes_a_line": round(bytes_a_line, 1)}
    more["events_per_second"] = round(figures["rate"] * seen[-1] / len(lines))
    name = "one thread" if threads == 1 else f"{threads} threads"
    return Row(
        f"import-{threads}", f"import, {name}", "lines/s", figures["rate"], figures["baseline"],
        "hand-split + sqlite3.executemany", figures["ratio"], [Goal("ratio", least=0.6)], more=more,
    )  # fmt: skip


_PEAK = "next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) / 1024"
_IMPORT = (
    "import sys; from pathlib import Path; from benchmarks.imports import imported\n"
    f"imported(Path(sys.argv[1]), Path(sys.argv[2])); print({_PEAK})"
)


def peak(code: str, *words: str) -> float:
    """What a Python program prints: MiB. VmHWM, not ru_maxrss: that one begins with the parent's at the fork."""
    done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    return float(done.stdout)


def memory(counts: tuple[int, int], folder: Path) -> Row:
    """Peak of importing a log and a much longer one, each in a process of its own."""
    peaks = []
    for count in counts:
        path, database = folder / f"memory{count}.strace", folder / f"memory{count}.db"
        with path.open("w") as stream:
            stream.writelines(line + "\n" for line in log(count, 1000))
        peaks.append(peak(_IMPORT, str(path), str(database)))
        path.unlink()
        database.unlink()
    return Row(
        "memory-import", f"memory of an import, {counts[1]:,} calls", "MiB", round(peaks[1], 1), round(peaks[0], 1),
        f"{counts[0]:,} calls", round(peaks[1] / peaks[0], 3), [Goal("ratio", most=1.1), Goal("ours", most=100)],
    )  # fmt: skip
