"""strace's own recording rate on a program, beside our import and replay of what it recorded.

The program makes the calls of `benchmarks.stream`; needs gcc and strace, and is skipped by name without.
"""

from __future__ import annotations

import platform
import shutil
import statistics
import struct
from collections.abc import Iterable
from pathlib import Path

from benchmarks.engine import RULES
from benchmarks.imports import imported
from benchmarks.measure import BUILD, cpu, of_child
from benchmarks.replays import replay
from benchmarks.rows import Goal, Row
from benchmarks.stream import BASE, Call, calls
from vmastore.replay.trace import StoredTrace
from vmastore.store import open_store

SOURCE = Path(__file__).with_name("load.c")
_MOVED = 0x200000000000 - BASE  # to where no program has anything, whatever address randomisation does
_NUMBERS = {"mmap": 0, "mprotect": 1, "madvise": 2, "fault": 3}
_TIMES = 6  # the goal: so many times as fast as it was recorded
_TRACED = "trace=memory,process"
_NAMES = {"record-replay": "replay of what strace recorded", "record-import": "import of what strace recorded"}


def missing() -> str:
    """What of the tools is not here, or ''."""
    found = [tool for tool in ("gcc", "strace") if shutil.which(tool) is None]
    if platform.machine() != "x86_64":
        found.append("x86_64")
    return f"{' and '.join(found)} is missing" if found else ""


def pack(stream: Iterable[Call]) -> bytes:
    """The calls as load.c reads them; a fault on a page that is not writable is left out: it would be a SIGSEGV."""
    found = []
    prot: dict[int, int] = {}  # by page
    for name, args, _ in stream:
        addr, length = args[0], args[1]
        word, flags = args[2] if len(args) > 2 else 0, args[3] if len(args) > 3 else 0
        if name in ("mmap", "mprotect"):
            prot.update(dict.fromkeys(range(addr, addr + length, 4096), word))
        elif name == "fault" and not prot.get(addr, 0) & 2:
            continue
        found.append(struct.pack("6q", _NUMBERS[name], addr + _MOVED, length, word, flags, 0))
    return b"".join(found)


def rows(quick: bool, folder: Path) -> list[Row]:
    """Replay from the store, and import, beside the recording of the same calls."""
    lacks = missing()
    if lacks:
        return [Row(key, job, "calls/s", build=BUILD, skipped=lacks) for key, job in _NAMES.items()]
    runs, count = (1, 3_000) if quick else (3, 60_000)
    program, given, log = folder / "load", folder / "load.calls", folder / "load.strace"
    of_child(["gcc", "-O2", "-o", str(program), str(SOURCE)])
    given.write_bytes(pack(calls(count, 1_000)))
    rates: dict[str, list[float]] = {name: [] for name in ("plain", "strace", "strace_clock", "replay", "import")}
    for n in range(runs):
        _, alone, _ = of_child([str(program), str(given)])
        clock, busy, _ = of_child(["strace", "-f", "-e", _TRACED, "-o", str(log), str(program), str(given)])
        database = folder / f"recorded{n}.db"
        importing = cpu(lambda: imported(log, database))  # noqa: B023
        with open_store(database) as store:
            trace = StoredTrace(store, store.trace(1))
            events = trace.info.events
            replaying = cpu(lambda: replay(trace))  # noqa: B023
        with log.open() as lines:
            recorded = sum(1 for _ in lines)
        for name, work, seconds in (
            ("plain", recorded, alone), ("strace", recorded, busy), ("strace_clock", recorded, clock),
            ("replay", events, replaying), ("import", events, importing),
        ):  # fmt: skip
            rates[name].append(work / seconds)
    return [_row(f"record-{name}", name, rates, events) for name in ("replay", "import")]


def _row(key: str, name: str, rates: dict[str, list[float]], events: int) -> Row:
    ratios = [ours / base for ours, base in zip(rates[name], rates["strace"], strict=True)]
    middle = {job: round(statistics.median(found)) for job, found in rates.items()}
    more = {"events": events, "without_strace": middle["plain"], "strace_by_the_clock": middle["strace_clock"]}
    more |= {"p95": round(min(rates[name])), "baseline_p95": round(min(rates["strace"])), "kernel": RULES.name}
    goals = [Goal("ratio", least=_TIMES if name == "replay" else 1)]
    return Row(
        key, _NAMES[key], "calls/s", middle[name], middle["strace"], "strace -f -o on the same program",
        round(statistics.median(ratios), 2), goals, BUILD, more,
    )  # fmt: skip
