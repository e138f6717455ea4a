"""A log that begins in the middle of a process's life: the kernel's answer tells of what is not known."""

from __future__ import annotations

from errno import EACCES, EBUSY, EEXIST, EFAULT, ENOMEM, EPERM
from typing import Any

import pytest

from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.world import World

P = 4096
A = 0x10000000
RW, ANON, SHARED = 3, 0x32, 0x11
UFFD = FileInfo(1, "uffd", None)
FILE = FileInfo(2, "regular", "/f")

Call = tuple[str, tuple[Any, ...], int | None, int]
MAPPED: Call = ("mmap", (A, P, RW, ANON, -1, 0), A, 0)

UNKNOWN: dict[str, list[Call]] = {
    "something is in the way": [("mmap", (A, P, RW, 0x100022, -1, 0), None, EEXIST)],
    "a policy": [("mbind", (A, 2 * P, 4, None, 0, 0), 0, 0)],
    "no policy, over a hole": [("mbind", (A, 2 * P, 0, None, 0, 0), 0, 0)],
    "a name": [("prctl", (0x53564D41, 0, A, 2 * P, 0x1000, "x"), 0, 0)],
    "a file that may not be written behind it": [MAPPED, ("mprotect", (A, 2 * P, 1), None, EACCES)],
    "a file opened read-only": [
        ("mmap", (A, P, 1, SHARED, 3, 0), A, 0),
        ("mprotect", (A, P, RW), None, EACCES),
    ],
    "sealed": [("munmap", (A, P), None, EPERM)],
    "registered": [("ioctl", (5, "UFFDIO_REGISTER", A, P, 1, None), 0, 0)],
    "unregistered": [("ioctl", (5, "UFFDIO_UNREGISTER", A, P, None, None), 0, 0)],
    "registered by another": [MAPPED, ("ioctl", (5, "UFFDIO_REGISTER", A, 2 * P, 1, None), None, EBUSY)],
    "no room to grow": [("mremap", (A, P, 2 * P, 0, 0), None, ENOMEM)],
    "no room behind": [MAPPED, ("mremap", (A, P, 2 * P, 1, 0), A + 64 * P, 0)],
    "a heap that ends below its first sight": [
        ("brk", (A + 8 * P,), A + 4 * P, 0),
        ("brk", (A + 2 * P,), A + 2 * P, 0),
        ("brk", (A + 5 * P,), A + 5 * P, 0),
        ("brk", (A + 3 * P,), A + 3 * P, 0),
    ],
}


def events(calls: list[Call]) -> list[Event]:
    found = []
    for seq, (call, args, result, errno) in enumerate(calls, 1):
        file = 1 if call == "ioctl" else 2 if call == "mmap" and args[4] == 3 else None
        found.append(Event(seq, 1, 1, 1, None, call, args, result, errno, file))
    return found


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_may_have_been_so(name: str) -> None:
    """No answer differs in an address space that was there before the log."""
    world = World(TraceHeader("t", "t", "strace", faults="none"), [UFFD, FILE], preset("6.18"))
    outcomes = [world.apply(event) for event in events(UNKNOWN[name])]
    assert [o.divergence for o in outcomes] == [None] * len(outcomes)


@pytest.mark.parametrize("name", ["something is in the way", "a policy", "sealed", "registered", "no room behind"])
def test_what_is_known_is_compared(name: str) -> None:
    """In an address space that is known whole the same answers are differences."""
    world = World(TraceHeader("t", "t", "strace", faults="none"), [UFFD, FILE], preset("6.18"))
    world.mm(1).complete = True
    outcomes = [world.apply(event) for event in events(UNKNOWN[name])]
    assert outcomes[-1].divergence is not None


def test_what_is_not_mapped_cannot_grow() -> None:
    """EFAULT shows that nothing is there, and nothing is inferred."""
    world = World(TraceHeader("t", "t", "strace", faults="none"), [], preset("6.18"))
    outcome = world.apply(Event(1, 1, 1, 1, None, "mremap", (A, P, 2 * P, 0, 0), None, EFAULT))
    assert outcome.divergence is None and world.mm(1).map_count == 0


def test_the_heap_is_where_the_last_answer_says() -> None:
    """What grew behind the first sight of the heap is mapped, what was given back is not."""
    world = World(TraceHeader("t", "t", "strace", faults="none"), [], preset("6.18"))
    for event in events(UNKNOWN["a heap that ends below its first sight"]):
        world.apply(event)
    assert [(v.vm_start, v.vm_end) for v in world.mm(1).vmas()] == [(A + 2 * P, A + 3 * P)]
