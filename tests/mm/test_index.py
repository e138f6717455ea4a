"""The address index answers as a sorted list would, and as the SortedDict does."""

from __future__ import annotations

import random
from bisect import bisect_right

import pytest

from vmastore.mm.index import BLOCK, SortedIndex, VmaIndex
from vmastore.mm.vma import AttrsTable, Vma

ATTRS = AttrsTable(0).get(0)


@pytest.mark.parametrize("kind", [VmaIndex, SortedIndex])
@pytest.mark.parametrize("seed", range(5))
def test_floor_is_the_greatest_start_below(seed: int, kind: type[VmaIndex] | type[SortedIndex]) -> None:
    """After every insertion and removal, floor() gives the VMA with the greatest vm_start <= addr."""
    rng = random.Random(seed)
    index, kept = kind(), dict[int, Vma]()
    for _ in range(300):
        start = rng.randrange(200) * 4096
        if start in kept:
            index.remove(start)
            del kept[start]
        else:
            kept[start] = Vma(start, start + 4096, ATTRS)
            index.add(start, kept[start])
        addr = rng.randrange(200 * 4096)
        starts = sorted(kept)
        below = bisect_right(starts, addr)
        assert index.floor(addr) is (kept[starts[below - 1]] if below else None)
        assert len(index) == len(kept)
    assert list(index.items()) == sorted(kept.items())


@pytest.mark.parametrize("seed", range(3))
def test_blocks_answer_as_the_sorted_dict(seed: int) -> None:
    """Over many blocks that grow, are cut and run empty, both indexes hold and find the same."""
    rng = random.Random(seed)
    blocks, reference = VmaIndex(), SortedIndex()
    starts: list[int] = []
    for phase in (0.9, 0.5, 0.1):
        for _ in range(3 * BLOCK):
            if not starts or rng.random() < phase:
                start = rng.randrange(1 << 40) * 16
                vma = Vma(start, start + 1, ATTRS)
                blocks.add(start, vma)
                reference.add(start, vma)
                starts.append(start)
            else:
                at = rng.randrange(len(starts))
                start = starts[at]
                if rng.random() < 0.2:  # another VMA takes the place
                    vma = Vma(start, start + 2, ATTRS)
                    blocks.put(start, vma)
                    reference.put(start, vma)
                elif rng.random() < 0.5:  # a start moves a little, as an edge does
                    starts[at] = start ^ 1
                    blocks.move(start, start ^ 1)
                    reference.move(start, start ^ 1)
                else:
                    starts[at] = starts[-1]
                    starts.pop()
                    blocks.remove(start)
                    reference.remove(start)
            addr = rng.randrange(1 << 44)
            assert blocks.floor(addr) is reference.floor(addr)
        assert list(blocks.items()) == list(reference.items())


@pytest.mark.parametrize("count", [0, 1, BLOCK, 3 * BLOCK + 1])
def test_an_index_filled_at_once_goes_on_as_one_filled_singly(count: int) -> None:
    """fill() leaves what add() one by one would, and further changes find their place."""
    vmas = [Vma(n * 4096, n * 4096 + 4096, ATTRS) for n in range(1, count + 1)]
    filled, singly = VmaIndex(), SortedIndex()
    filled.fill([vma.vm_start for vma in vmas], vmas)
    for vma in vmas:
        singly.add(vma.vm_start, vma)
    for start in (16, 4096 * (count // 2) + 32, 4096 * count + 5000):
        vma = Vma(start, start + 16, ATTRS)
        filled.add(start, vma)
        singly.add(start, vma)
        assert filled.floor(start + 1) is singly.floor(start + 1)
    assert list(filled.items()) == list(singly.items())
