"""io_setup and io_destroy: what Linux 6.18.44 was seen to do with the ring of a context."""

from __future__ import annotations

from errno import EINVAL

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.maps import observe
from vmastore.replay.world import World
from vmastore.syscalls import uapi

P = 4096
RING = 0x7F0000000000


def world(**config: int) -> World:
    return World(TraceHeader("t", "t", "record", config=dict(config), faults="recorded"), [], preset("6.18"))


def setup(space: World, count: int, at: int = RING) -> bool:
    """Whether the outcome is certain."""
    return space.apply(Event(1, 1, 1, 1, None, "io_setup", (count, f"[{at:#x}]"), 0, 0)).certain


def lines(space: World, mm: int = 1) -> list[tuple[int, int, str, str | None]]:
    shown = [observe(space.mm(mm), vma) for vma in space.mm(mm).vmas()]
    return [((s.start - RING) // P, (s.end - RING) // P, s.name, s.vm_flags) for s in shown]


@pytest.mark.parametrize(
    ("count", "cpus", "pages", "certain"),
    [(92, 2, 2, True), (154, 2, 3, True), (1, 2, 1, True), (1, 64, 5, True), (92, None, 2, False)],
)
def test_how_long_a_ring_is(count: int, cpus: int | None, pages: int, certain: bool) -> None:
    """Twice as many entries as were asked for, or as four for each processor; who does not know how many assumes."""
    space = world(**({} if cpus is None else {"cpus": cpus}))
    assert setup(space, count) == certain
    assert lines(space) == [(0, pages, "/[aio] (deleted)", "rd wr sh mr mw ms de")]


def test_rings_never_merge_and_go_by_io_destroy() -> None:
    """A child inherits the mapping, but not the context."""
    space = world(cpus=2)
    setup(space, 92), setup(space, 92, RING + 2 * P)
    space.apply(Event(2, 1, 1, 1, None, "fork", (17, 2), 2, 0))
    space.apply(Event(3, 1, 1, 1, None, "io_destroy", (RING,), 0, 0))
    assert [line[:2] for line in lines(space)] == [(2, 4)]
    assert [line[:2] for line in lines(space, 2)] == [(0, 2), (2, 4)]


@pytest.mark.parametrize(("errno", "left"), [(0, [(8, 10), (10, 11)]), (EINVAL, [(0, 2), (10, 11)])])
def test_a_ring_that_may_not_move(errno: int, left: list[tuple[int, int]]) -> None:
    """The target is unmapped by the time that is found out."""
    space = world(cpus=2)
    setup(space, 92)
    space.apply(Event(2, 1, 1, 1, None, "mmap", (RING + 8 * P, 3 * P, 3, 0x32, -1, 0), RING + 8 * P, 0))
    args = (RING, 2 * P, 2 * P, 3, RING + 8 * P)
    done = space.apply(Event(3, 1, 1, 1, None, "mremap", args, None if errno else RING + 8 * P, errno))
    assert done.divergence is None
    assert [line[:2] for line in lines(space)] == left


def test_personality_makes_no_ring_executable() -> None:
    """READ_IMPLIES_EXEC passes over files that may not be executed."""
    space = world(cpus=2)
    space.mm(1).persona = uapi.READ_IMPLIES_EXEC
    setup(space, 92)
    assert lines(space)[0][3] == "rd wr sh mr mw ms de"


def test_a_context_whose_number_is_not_shown() -> None:
    """Raw arguments show where the number was put: nothing is mapped, and nothing raised."""
    space = world()
    space.apply(Event(1, 1, 1, 1, None, "io_setup", (92, 0x7FFE0000), 0, 0))
    space.apply(Event(2, 1, 1, 1, None, "io_destroy", (RING,), 0, 0))
    assert lines(space) == []
