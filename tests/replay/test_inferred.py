"""What is inferred from a call that succeeded was there, on the running kernel too."""

from __future__ import annotations

import os
from errno import EINVAL
from typing import Any

import pytest

from vmastore.conform.kernel import BASE, PAGE, Kernel, arena
from vmastore.errors import RuleError
from vmastore.events import Event, TraceHeader
from vmastore.mm.flags import VM_GROWSDOWN
from vmastore.mm.rules import RuleSet, preset, resolve
from vmastore.replay.inferred import NEEDS_RANGE, prepare
from vmastore.replay.world import World

P = PAGE
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
AWAY = BASE + 32 * P

# name, pages mapped, call, arguments (addresses in pages behind BASE), pages inferred where nothing is known
CALLS: list[tuple[str, set[int], str, list[Any], set[int]]] = [
    ("no change, over a hole", {0, 3}, "mremap", [0, 4, 4, 0, 0], {0, 1, 2, 3}),
    ("shrink, hole in what goes", {0, 1, 3}, "mremap", [0, 4, 2, 0, 0], {0, 1}),
    ("shrink, hole in what stays", {0, 3}, "mremap", [0, 5, 3, 0, 0], {0, 1, 2}),
    ("grow in place", {0, 1}, "mremap", [0, 2, 4, 0, 0], {0, 1}),
    ("grow by moving", {0, 1, 2}, "mremap", [0, 2, 4, MAYMOVE, 0], {0, 1}),
    ("move one", {0, 1}, "mremap", [0, 2, 2, MAYMOVE | FIXED, 32], {0, 1}),
    ("move several, a gap between", {0, 2}, "mremap", [0, 3, 3, MAYMOVE | FIXED, 32], {0, 1, 2}),
    ("move and shrink, hole in what goes", {0, 1, 3}, "mremap", [0, 4, 2, MAYMOVE | FIXED, 32], {0, 1}),
    ("leave the source", {0, 1}, "mremap", [0, 2, 2, MAYMOVE | DONTUNMAP, 0], {0, 1}),
    ("mprotect", {0, 1, 2}, "mprotect", [0, 3, 1], {0, 1, 2}),
    ("mlock", {0, 1}, "mlock", [0, 2], {0, 1}),
    ("madvise", {0, 1}, "madvise", [0, 2, 16], {0, 1}),
    ("mbind", {0, 1}, "mbind", [0, 2, 4, 0, 0, 0], {0, 1}),
    ("mbind to the default", {1}, "mbind", [0, 3, 0, 0, 0, 0], set()),
    ("munmap", {1}, "munmap", [0, 3], set()),
]
_ADDRESSES = {"mremap": (0, 1, 2, 4)}


def _args(call: str, args: list[Any]) -> list[int]:
    """Pages as bytes, addresses behind BASE."""
    found = [n * P if k in _ADDRESSES.get(call, (0, 1)) else n for k, n in enumerate(args)]
    found[0] += BASE
    if call == "mremap" and found[4]:
        found[4] += BASE
    return found


def _event(seq: int, call: str, args: list[Any], result: int | None, errno: int) -> Event:
    return Event(seq, 1, 1, 1, None, call, tuple(args), result, errno)


def running() -> RuleSet:
    """The running kernel's rules; skipped where it is none that is known."""
    uname = os.uname()
    if uname.machine != "x86_64":
        pytest.skip("the calls are made by their x86-64 numbers")
    try:
        return resolve(uname.release, uname.version)
    except RuleError:
        pytest.skip(f"no rule set for {uname.release}")


@pytest.mark.parametrize("row", CALLS, ids=lambda row: row[0])
def test_the_running_kernel_needed_no_more(row: tuple[str, set[int], str, list[Any], set[int]]) -> None:
    """Where the trace shows what was mapped, a call that succeeds over a hole infers nothing."""
    _, pages, call, args, _ = row
    rules = running()
    world = World(TraceHeader("t", "t", "strace"), [], rules)
    kernel = Kernel()
    try:
        events = []
        for page in sorted(pages):
            made = [BASE + page * P, P, 3, 0x32, -1, 0]
            events.append(("mmap", made, *kernel.call("mmap", made)))
        done = _args(call, args)
        events.append((call, done, *kernel.call(call, done)))
        seen = [line[:2] for line in arena()]
    finally:
        kernel.call("munmap", [BASE, 64 * P])
        if (moved := events[-1][2]) and call == "mremap":
            kernel.call("munmap", [moved, done[2]])
    outcomes = [world.apply(_event(n, *event)) for n, event in enumerate(events, 1)]
    assert [o.divergence for o in outcomes] == [None] * len(outcomes)
    assert world.env.inferred == 0
    low, high = BASE, BASE + 1000 * P
    assert [[v.vm_start, v.vm_end] for v in world.mm(1).vmas() if low <= v.vm_start < high] == seen


@pytest.mark.parametrize("row", CALLS, ids=lambda row: row[0])
def test_what_an_unknown_range_must_have_held(row: tuple[str, set[int], str, list[Any], set[int]]) -> None:
    """Where nothing is known, what the call was to keep is inferred, and what it unmapped is not."""
    _, _, call, args, inferred = row
    done = _args(call, args)
    result = 0 if call != "mremap" else done[4] or (AWAY if done[3] else done[0])
    world = World(TraceHeader("t", "t", "strace"), [], preset("6.12"))
    mm = world.mm(1)
    if call in NEEDS_RANGE:
        prepare(mm, _event(1, call, done, result, 0))
    mapped = {(a - BASE) // P for v in mm.vmas() for a in range(v.vm_start, v.vm_end, P)}
    assert mapped == inferred
    assert all(v.unsure for v in mm.vmas())
    assert world.env.inferred == mm.inferred == mm.map_count


def test_a_growing_mprotect_may_start_below_its_mapping() -> None:
    """PROT_GROWSDOWN begins at the VMA found, so a hole below it need not have been mapped."""
    world = World(TraceHeader("t", "t", "strace"), [], preset("6.12"))
    stack = [BASE + 4 * P, 2 * P, 3, 0x132, -1, 0]
    world.apply(_event(1, "mmap", stack, stack[0], 0))
    done = world.apply(_event(2, "mprotect", [BASE + 3 * P, 3 * P, 0x01000000 | 1], 0, 0))
    assert done.divergence is None and world.env.inferred == 0


def test_several_vmas_move_only_where_the_release_moves_them() -> None:
    """A move over a gap proves the gap's absence before 6.17, when only one VMA could move."""
    for kernel, inferred in (("6.12", 1), ("6.18", 0)):
        world = World(TraceHeader("t", "t", "strace"), [], preset(kernel))
        world.apply(_event(1, "mmap", [BASE, P, 3, 0x32, -1, 0], BASE, 0))
        world.apply(_event(2, "mmap", [BASE + 2 * P, P, 3, 0x32, -1, 0], BASE + 2 * P, 0))
        world.apply(_event(3, "mremap", [BASE, 3 * P, 3 * P, MAYMOVE | FIXED, AWAY], AWAY, 0))
        assert world.env.inferred == inferred, kernel


def test_a_stack_that_no_event_has_shown() -> None:
    """mprotect with PROT_GROWSDOWN succeeded: something that grows downwards is there, as of glibc's stacks."""
    world = World(TraceHeader("t", "t", "strace", faults="none"), [], preset("6.18"))
    done = world.apply(Event(1, 1, 1, 1, None, "mprotect", (BASE, P, 0x1000003), 0, 0))
    assert done.divergence is None
    assert [(v.vm_start, v.vm_end, bool(v.vm_flags & VM_GROWSDOWN)) for v in world.mm(1).vmas()] == [
        (BASE, BASE + P, True)
    ]


def test_einval_of_a_mapping_that_no_event_has_shown() -> None:
    """A part of [vdso] cannot be split off; with a baseline it is known what is there."""
    world = World(TraceHeader("t", "t", "strace", faults="none"), [], preset("6.18"))
    refused = Event(1, 1, 1, 1, None, "mprotect", (BASE, P, 1), None, EINVAL)
    assert world.apply(refused).divergence is None
    world.mm(1).complete = True
    assert world.apply(refused).divergence is not None
