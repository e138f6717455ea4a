"""What a reason costs is what doing away with it saves."""

from __future__ import annotations

from traces import BASE, PAGE, RO, anon, trace, write

from vmastore.mm.rules import preset
from vmastore.replay.lost import costs
from vmastore.replay.memory import MemoryTrace


def cost(made: MemoryTrace, kernel: str = "6.18") -> list[tuple[str, int, int]]:
    world = made.world(preset(kernel))
    for event in made.events:
        world.apply(event)
    return [(c.reason, c.vmas, c.alone) for c in costs(world.mms[1])]


def name(page: int, text: str) -> tuple[object, ...]:
    return "prctl", 0x53564D41, 0, BASE + page * PAGE, PAGE, 0, text


def test_alone_and_with_others() -> None:
    """Two names apart: alone. Another flag and a name: the flag is first and not alone."""
    made = trace(anon(0, 2), name(0, "a"), anon_name=True)
    assert cost(made) == [("anonymous name differs", 1, 1)]
    made = trace(anon(0, 1), name(0, "a"), anon(1, 1, RO), anon_name=True)
    assert cost(made) == [("flags differ: wr ac", 1, 0)]
    made = trace(anon(0, 1), anon(1, 1, RO), anon(2, 1))
    assert cost(made) == [("flags differ: wr ac", 2, 2)]


def test_anon_vma_and_policy() -> None:
    """Written apart: alone, for with one anon_vma they would be one. A policy: as named."""
    made = trace(anon(0, 1), write(0), anon(2, 1), write(2), anon(1, 1))
    assert cost(made) == [("anon_vma: both written, at different times", 1, 1)]
    made = trace(anon(0, 2), ("mbind", BASE, PAGE, 2, 1, 8, 0))
    assert cost(made) == [("memory policy differs", 1, 1)]


def test_nobody_asked() -> None:
    """Alike and never asked about since: named so, and one VMA could be saved."""
    made = trace(anon(0, 1), write(0), anon(2, 1), write(2), anon(1, 1), ("madvise", BASE, 3 * PAGE, 15))
    assert cost(made)[0][0].startswith("anon_vma")
