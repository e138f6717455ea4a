"""Makes the small traces of docs/questions.md: programs written as lists of calls, answered by replay.

`python docs/examples.py` writes them to docs/data; `--check` fails if a file is not what this writes.
"""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path
from typing import Any

from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import resolve
from vmastore.replay.memory import MemoryTrace, answered
from vmastore.reports.export_jsonl import export_jsonl

DATA = Path(__file__).parent / "data"
BASE, PAGE = 0x7F0000000000, 4096
RW, RO, NONE = 3, 1, 0
Call = tuple[Any, ...]

LIBC = "/usr/lib/libc.so.6"


def at(page: int) -> int:
    return BASE + page * PAGE


def anon(page: int, pages: int, prot: int = RW, flags: int = 0x32) -> Call:
    return "mmap", at(page), pages * PAGE, prot, flags, -1, 0


def protect(page: int, pages: int, prot: int) -> Call:
    return "mprotect", at(page), pages * PAGE, prot


def write(page: int) -> Call:
    return "fault", at(page), PAGE, "w", None, "user"


def decommit() -> list[tuple[Call, str, int]]:
    """An allocator's arena: pages written, then given back one by one with mprotect(PROT_NONE)."""
    rng = random.Random(1)
    calls: list[tuple[Call, str, int]] = [(anon(0, 256), "arena_new", 1)]
    for page in rng.sample(range(1, 255), 120):
        calls.append((write(page), "worker", 1 + page % 2))
        calls.append((protect(page, 1, NONE), "arena_decommit", 1 + page % 2))
    return calls


def names() -> list[tuple[Call, str, int]]:
    """Forty thread caches side by side, each named."""
    calls: list[tuple[Call, str, int]] = []
    for n in range(40):
        calls.append((anon(4 * n, 4), "cache_new", 1))
        calls.append((("prctl", 0x53564D41, 0, at(4 * n), 4 * PAGE, 0, f"cache {n}"), "cache_name", 1))
    return calls


def guards() -> list[tuple[Call, str, int]]:
    """Twenty fibre stacks side by side, each with a guard page, written before and after."""
    calls: list[tuple[Call, str, int]] = [(anon(0, 20 * 16), "stacks_new", 1)]
    for n in range(20):
        calls.append((write(16 * n + 15), "fibre", 1))
        calls.append((protect(16 * n, 1, NONE), "guard", 1))
    return calls


def commits() -> list[tuple[Call, str, int]]:
    """A heap reserved as a whole and committed region by region, in whatever order threads ask."""
    order = list(range(32))
    random.Random(4).shuffle(order)
    calls: list[tuple[Call, str, int]] = [(anon(0, 32 * 8, NONE), "reserve", 1)]
    for region in order:
        calls.append((protect(8 * region, 8, RW), "commit", 1 + region % 4))
        calls.append((write(8 * region), "worker", 1 + region % 4))
    return calls


def policy() -> list[tuple[Call, str, int]]:
    """A table bound to its node stripe by stripe."""
    calls: list[tuple[Call, str, int]] = [(anon(0, 256), "table_new", 1)]
    for n in range(0, 32, 2):
        calls.append((("mbind", at(8 * n), 8 * PAGE, 2, 1, 64, 0), "bind_stripe", 1))
    return calls


def missed() -> list[tuple[Call, str, int]]:
    """The written half of a mapping made alike to the half that was never written."""
    calls: list[tuple[Call, str, int]] = [(anon(100, 20), "f", 1), (write(100), "f", 1), (anon(0, 64), "f", 1)]
    calls += [(protect(0, 24, 7), "f", 1), (write(30), "f", 1), (anon(200, 4), "f", 1)]
    return [*calls, (protect(24, 40, 7), "g", 1)]


def fibres(base: int, wide: int) -> list[tuple[Call, str, int]]:
    """Eight fibre stacks from page `base` on; the guard of number `wide` takes a page too many (8: none does)."""
    calls: list[tuple[Call, str, int]] = [(anon(base, 8 * 16), "stacks_new", 1)]
    for n in range(8):
        calls.append((write(base + 16 * n + 15), "fibre", 1))
        calls.append((protect(base + 16 * n, 2 if n == wide else 1, NONE), "guard", 1))
    return calls


TRACES: dict[str, tuple[list[tuple[Call, str, int]], str, dict[str, Any]]] = {
    "decommit": (decommit(), "6.18.44", {"max_map_count": 100}),
    "names": (names(), "6.12.117", {"anon_name": True}),
    "guards": (guards(), "6.18.44", {}),
    "commits": (commits(), "6.12.117", {}),
    "policy": (policy(), "6.18.44", {"nodes": 1}),
    "run-good": (fibres(0, 8), "6.18.44", {}),
    "run-bad": (fibres(0x5321, 5), "6.18.44", {}),
    "missed": (missed(), "6.12.117", {}),
}


def made(name: str) -> str:
    """The text of one trace file."""
    calls, release, config = TRACES[name]
    note = "written as a list of calls; the answers are those of replay under this release"
    header = TraceHeader(name, "docs/examples.py", "jsonl", release, None, config, "recorded", note)
    start = Event(1, 1, 1000, 1000, 0, "maps", ("baseline", 0, None, []), None, 0)
    events = [start]
    for n, ((call, *args), site, thread) in enumerate(calls, 2):
        stack = f"{LIBC}({call}+0x9) [0x9]\n/opt/app({site}+0x40) [0x40]" if call != "fault" else None
        events.append(Event(n, 1, 1000, 1000 + thread, n * 50_000_000, call, tuple(args), None, 0, site=stack))
    trace = MemoryTrace(header, {}, events)
    out = io.StringIO()
    export_jsonl(header, [], answered(trace, resolve(release)), out)
    return out.getvalue()


def main() -> int:
    stale = []
    for name in TRACES:
        path = DATA / f"{name}.vmatrace.jsonl"
        if "--check" not in sys.argv:
            path.write_text(made(name))
        elif not path.exists() or path.read_text() != made(name):
            stale.append(path.name)
    for name in stale:
        print(f"docs/data/{name} is not what docs/examples.py writes")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
