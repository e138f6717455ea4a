"""Batteries that an arena cannot hold: the heap (brk) and the map-count limit. Each in a child of its own."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from vmastore.conform.kernel import BASE, PAGE, Kernel, heap, syscall

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # mallopt(3): keep the C library away from the heap
_BRK = 12
HEAP_WINDOW = 256 * PAGE  # bytes behind the first break that are compared


def brk_battery(kernel: Kernel) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(facts, steps): the heap grown, shrunk, split, unmapped in its middle and grown again."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, 0)
    libc.mallopt(_TRIM_THRESHOLD, 1 << 40)
    top, _ = syscall(_BRK, 0)
    assert top is not None
    start = _start_brk()
    window = (start & -PAGE, ((top + PAGE - 1) & -PAGE) + HEAP_WINDOW)
    base = (top + PAGE - 1) & -PAGE
    facts = {"start_brk": start, "brk0": top, "baseline": heap(*window), "window": list(window)}
    steps = []
    for name, args in _brk_calls(base):
        if name == "brk":
            result, errno = syscall(_BRK, args[0])
        else:
            result, errno = kernel.call(name, args)
        seen = heap(*window)
        steps.append({"call": name, "args": args, "result": result, "errno": errno, "arena": seen})
    return facts, steps


def _brk_calls(base: int) -> list[tuple[str, list[Any]]]:
    return [
        ("brk", [base + 4 * PAGE]),
        ("brk", [base + 6 * PAGE + 123]),
        ("fault", [base + PAGE, PAGE, "w", None, "user"]),
        ("mprotect", [base + 2 * PAGE, PAGE, 1]),
        ("brk", [base + 8 * PAGE]),
        ("mprotect", [base + 2 * PAGE, PAGE, 3]),
        ("brk", [base + 5 * PAGE]),
        ("munmap", [base + 3 * PAGE, PAGE]),
        ("brk", [base + 7 * PAGE]),
        ("mmap", [base + 16 * PAGE, 4 * PAGE, 3, 0x32, -1, 0]),
        ("brk", [base + 20 * PAGE]),
        ("brk", [base + 14 * PAGE]),
        ("mmap", [base + 14 * PAGE, 2 * PAGE, 3, 0x32, -1, 0]),
        ("brk", [base + 2 * PAGE]),
        ("brk", [0]),
        ("madvise", [base, PAGE, 16]),
        ("brk", [base + 3 * PAGE]),
    ]


def _start_brk() -> int:
    """Field 47 of /proc/self/stat."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[44])


def limit_battery(kernel: Kernel) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(facts, steps): the arena filled to vm.max_map_count, then what still works.

    facts["room"] is how many VMAs the arena may have; the fill itself is not printed: it is
    `fill_calls(room)`.
    """
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > 200_000:
        return {"room": None, "limit": limit}, []
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, 1 << 30)  # the C library takes from the heap, which is one VMA
    kernel.call("mmap", [BASE - 64 * PAGE, 16 * PAGE, 3, 0x32, -1, 0])
    own = _count() - 1  # that mapping is the battery's first call
    room = limit - own
    for name, args in fill_calls(room)[1:]:
        kernel.call(name, args)
    steps = []
    for name, args in _limit_calls(room):
        result, errno = kernel.call(name, args)
        steps.append({"call": name, "args": args, "result": result, "errno": errno})
    return {"room": room, "limit": limit, "own_after": _count() - own}, steps


def fill_calls(room: int) -> list[tuple[str, list[Any]]]:
    """One mapping to work on, then single pages of alternating permissions until `room` VMAs are there."""
    calls: list[tuple[str, list[Any]]] = [("mmap", [BASE - 64 * PAGE, 16 * PAGE, 3, 0x32, -1, 0])]
    for n in range(room - 1):
        calls.append(("mmap", [BASE + n * PAGE, PAGE, 1 if n % 2 else 0, 0x32, -1, 0]))
    return calls


def _limit_calls(room: int) -> list[tuple[str, list[Any]]]:
    work, end = BASE - 64 * PAGE, BASE + room * PAGE
    calls: list[tuple[str, list[Any]]] = [
        ("mprotect", [work + 4 * PAGE, PAGE, 1]),
        ("madvise", [work + 4 * PAGE, PAGE, 16]),
        ("munmap", [work + 4 * PAGE, PAGE]),
        ("mremap", [work, PAGE, PAGE, 3, end + 64 * PAGE]),
        ("munmap", [work, PAGE]),
        ("mmap", [end + 8 * PAGE, PAGE, 3, 0x32, -1, 0]),
        ("mmap", [end + 10 * PAGE, PAGE, 3, 0x32, -1, 0]),
        ("munmap", [end + 8 * PAGE, PAGE]),
    ]
    for n in range(6):
        calls.append(("munmap", [BASE + n * PAGE, PAGE]))
        calls.append(("mprotect", [work + (2 + 2 * n) * PAGE, PAGE, 1]))
        calls.append(("mremap", [work + 15 * PAGE, PAGE, PAGE, 3, end + 64 * PAGE]))
    return calls


def _count() -> int:
    """The process's VMAs; [vsyscall] is none."""
    with open("/proc/self/maps") as stream:
        return sum(1 for line in stream if "[vsyscall]" not in line)
