"""process_madvise: the answer shows whose address space the pidfd names."""

from __future__ import annotations

from errno import EINVAL, ENOMEM, EPERM

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.mm.flags import VM_DONTCOPY
from vmastore.mm.rules import preset
from vmastore.replay.world import World

P = 4096
ADDR = 0x100000000
DONTFORK, COLD = 10, 20


@pytest.mark.parametrize(
    ("kernel", "advice", "iov", "result", "errno", "marked", "diverges"),
    [
        ("6.18", DONTFORK, [(ADDR, P), (ADDR + 2 * P, P)], 2 * P, 0, [0, 2], False),  # the own mm: any advice
        ("6.18", DONTFORK, [(ADDR, P), (ADDR + 9 * P, P)], P, 0, [0], False),  # what came before the hole is done
        ("6.18", DONTFORK, [(ADDR + 3 * P, 2 * P)], None, ENOMEM, [3], False),  # and what the failing part did
        ("6.18", DONTFORK, [(ADDR, P)], None, EINVAL, [], False),  # another's
        ("6.18", DONTFORK, [(ADDR, P)], None, EPERM, [], False),
        ("6.18", COLD, [(ADDR, P)], P, 0, [], False),
        ("6.12", DONTFORK, [(ADDR, P)], None, EINVAL, [], False),
        ("6.12", DONTFORK, [(ADDR, P)], P, 0, [], True),  # no such release answers so
    ],
)
def test_whose_it_is(
    kernel: str,
    advice: int,
    iov: list[tuple[int, int]],
    result: int | None,
    errno: int,
    marked: list[int],
    diverges: bool,
) -> None:
    """Advice that changes VMAs works on the own mm alone, since 6.13 (each answer of 6.18 was seen on 6.18.44)."""
    world = World(TraceHeader("t", "t", "jsonl"), [], preset(kernel))
    world.apply(Event(1, 1, 1, 1, None, "mmap", (ADDR, 4 * P, 3, 0x32, -1, 0), ADDR, 0))
    outcome = world.apply(Event(2, 1, 1, 1, None, "process_madvise", (3, iov, len(iov), advice, 0), result, errno))
    pages = [
        n
        for vma in world.mm(1).vmas()
        if vma.vm_flags & VM_DONTCOPY
        for n in range((vma.vm_start - ADDR) // P, (vma.vm_end - ADDR) // P)
    ]
    assert pages == marked
    assert bool(outcome.divergence) == diverges


def test_a_vector_that_the_log_does_not_show() -> None:
    """The kernel's answer is taken, whichever it is."""
    world = World(TraceHeader("t", "t", "strace", faults="none"), [], preset("6.18"))
    failed = Event(1, 1, 1, 1, None, "process_madvise", (19, None, 2, 0, 0), None, ENOMEM)
    assert world.apply(failed).divergence is None
