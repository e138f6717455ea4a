"""The cycle collector's policy in long loops."""

from __future__ import annotations

import gc

import pytest

from vmastore.bulk import bulk_work
from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.mm.vma import Vma
from vmastore.replay.world import World


def test_thresholds_come_back() -> None:
    """They are raised inside, and what they were outside, after an error too; 0 (off) stays off."""
    before = gc.get_threshold()
    with pytest.raises(KeyError), bulk_work():
        assert gc.get_threshold()[0] >= 100_000
        raise KeyError
    assert gc.get_threshold() == before
    gc.set_threshold(0)
    with bulk_work():
        assert gc.get_threshold()[0] == 0
    gc.set_threshold(*before)


def test_unmapped_vmas_are_freed_without_the_collector() -> None:
    """VMAs that went together do not keep one another alive."""
    world = World(TraceHeader("t", "t", "jsonl", faults="recorded"), {}, preset("6.18"))
    mm = world.mm(1)
    mm.complete = True
    for n in range(1, 4):
        mm.insert(Vma(n << 20, (n << 20) + 4096, world.env.table.get(0x73)))
    gc.disable()
    try:
        before = _alive()
        world.apply(Event(1, 1, 1, 1, None, "munmap", (1 << 20, 3 << 20), 0, 0))
        assert mm.map_count == 0
        assert _alive() == before - 3
    finally:
        gc.enable()


def _alive() -> int:
    return sum(type(thing) is Vma for thing in gc.get_objects())
