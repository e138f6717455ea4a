"""A deterministic stream of memory calls in the manner of allocators, as events and as strace text.

Every call names its place (MAP_FIXED), so that its result is known without a kernel.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

BASE = 0x7F0000000000
SLOT = 64 << 12  # bytes kept for each live mapping


class Call(NamedTuple):
    """One call; fault is a write by the process, which no log shows."""

    name: str
    args: tuple[int, ...]
    result: int


def calls(count: int, live: int, seed: int = 1, hot: int | None = None) -> Iterator[Call]:
    """`live` mappings first, then `count` calls on them (on the first `hot` of them, if given)."""
    rng = random.Random(seed)
    for slot in range(live):
        yield Call("mmap", (BASE + slot * SLOT, 16 << 12, 3, 0x32, -1, 0), BASE + slot * SLOT)
    for _ in range(count):
        yield _call(rng, BASE + rng.randrange(hot or live) * SLOT)


def _call(rng: random.Random, start: int) -> Call:
    kind, page, pages = rng.random(), rng.randrange(12) << 12, rng.randrange(1, 4) << 12
    if kind < 0.30:
        return Call("mprotect", (start + page, pages, rng.choice((1, 3))), 0)
    if kind < 0.45:
        return Call("madvise", (start + page, pages, rng.choice((4, 8))), 0)
    if kind < 0.60:
        return Call("mprotect", (start, 16 << 12, 3), 0)
    if kind < 0.80:
        return Call("mmap", (start, 16 << 12, 3, 0x32, -1, 0), start)
    if kind < 0.90:
        return Call("mmap", (start + page, pages, 3, 0x32, -1, 0), start + page)
    return Call("fault", (start + page, 4096), 0)


_PROT = {0: "PROT_NONE", 1: "PROT_READ", 3: "PROT_READ|PROT_WRITE"}
_ADVICE = {4: "MADV_DONTNEED", 8: "MADV_FREE"}


def text(call: Call) -> str | None:
    """The call as strace prints it; None for what strace does not see."""
    name, args, result = call
    if name == "mmap":
        addr, length, prot, _, _, _ = args
        shown = f"{addr:#x}, {length}, {_PROT[prot]}, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0"
        return f"mmap({shown}) = {result:#x}"
    if name == "mprotect":
        return f"mprotect({args[0]:#x}, {args[1]}, {_PROT[args[2]]}) = {result}"
    if name == "madvise":
        return f"madvise({args[0]:#x}, {args[1]}, {_ADVICE[args[2]]}) = {result}"
    return None


def log(count: int, live: int, threads: int = 1, seed: int = 1) -> Iterator[str]:
    """Lines of `strace -f -o`; with several threads of one process, their calls come in halves."""
    yield '7000  execve("/usr/bin/app", ["app"], 0x7ffd0 /* 9 vars */) = 0'
    for n in range(1, threads):
        yield f"7000  clone3({{flags=CLONE_VM|CLONE_THREAD, stack=0x7f}}, 88) = {7000 + n}"
    pending: list[tuple[int, str]] = []  # of a different thread each
    lines = ((call, line) for call in calls(count, live, seed) if (line := text(call)) is not None)
    for n, (call, line) in enumerate(lines):
        tid = 7000 + n % threads
        if threads == 1:
            yield f"{tid}  {line}"
            continue
        asked, _, answered = line.rpartition(") = ")
        yield f"{tid}  {asked} <unfinished ...>"
        pending.append((tid, f"<... {call.name} resumed>) = {answered}"))
        if len(pending) == threads:
            for waiting, rest in pending:
                yield f"{waiting}  {rest}"
            pending.clear()
    for waiting, rest in pending:
        yield f"{waiting}  {rest}"
