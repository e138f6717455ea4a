"""The address index answers as a sorted list would."""

from __future__ import annotations

import random
from bisect import bisect_right

import pytest

from vmastore.mm.index import VmaIndex
from vmastore.mm.vma import AttrsTable, Vma


@pytest.mark.parametrize("seed", range(5))
def test_floor_is_the_greatest_start_below(seed: int) -> None:
    """After every insertion, removal and move, floor() gives the VMA with the greatest vm_start <= addr."""
    rng = random.Random(seed)
    attrs = AttrsTable(0).get(0)
    index, kept = VmaIndex(), dict[int, Vma]()
    for _ in range(300):
        start = rng.randrange(200) * 4096
        if start in kept and rng.random() < 0.5:
            index.move(start, start + 16)
            index.move(start + 16, start)
        elif start in kept:
            index.remove(start)
            del kept[start]
        else:
            kept[start] = Vma(start, start + 4096, attrs)
            index.add(start, kept[start])
        addr = rng.randrange(200 * 4096)
        starts = sorted(kept)
        below = bisect_right(starts, addr)
        assert index.floor(addr) is (kept[starts[below - 1]] if below else None)
        assert len(index) == len(kept)
    assert list(index.items()) == sorted(kept.items())
