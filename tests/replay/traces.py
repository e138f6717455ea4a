"""Small traces written by hand: `trace(("mmap", BASE, PAGE, …), …)`, answers by replay."""

from __future__ import annotations

from typing import Any

from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.memory import MemoryTrace, answered

BASE, PAGE = 0x100000000000, 4096
RW, RO, NONE = 3, 1, 0


def anon(page: int, pages: int, prot: int = RW, flags: int = 0x32) -> tuple[Any, ...]:
    """A fixed private anonymous mapping; numbers in pages from BASE."""
    return "mmap", BASE + page * PAGE, pages * PAGE, prot, flags, -1, 0


def protect(page: int, pages: int, prot: int) -> tuple[Any, ...]:
    return "mprotect", BASE + page * PAGE, pages * PAGE, prot


def unmap(page: int, pages: int) -> tuple[Any, ...]:
    return "munmap", BASE + page * PAGE, pages * PAGE


def write(page: int, pages: int = 1) -> tuple[Any, ...]:
    return "fault", BASE + page * PAGE, pages * PAGE, "w", None, "user"


def trace(*calls: tuple[Any, ...], kernel: str = "6.18", **config: Any) -> MemoryTrace:
    """A trace of these calls in one address space, a millisecond apart."""
    header = TraceHeader("t", "test", "jsonl", config=config, faults="recorded")
    events = [
        Event(n, 1, 100, 100 + n % 2, n * 1_000_000, call, tuple(args), None, 0, site=f"/app(f{n}+0x1) [0x{n}]")
        for n, (call, *args) in enumerate(calls, 1)
    ]
    made = MemoryTrace(header, {}, events)
    made.events = answered(made, preset(kernel))
    return made
