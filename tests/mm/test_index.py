"""The address index answers as a sorted list would, and each change leaves what the SortedDict is left with."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmastore.mm import index as index_module
from vmastore.mm.index import BLOCK, SortedIndex, VmaIndex
from vmastore.mm.vma import AttrsTable, Vma

ATTRS = AttrsTable(0).get(0)
HEAD, TAIL = Vma(-(1 << 256), -(1 << 256), ATTRS), Vma(1 << 256, 1 << 256, ATTRS)


@pytest.mark.parametrize("make", [lambda: VmaIndex(HEAD, TAIL), lambda: SortedIndex(HEAD)])
@pytest.mark.parametrize("seed", range(5))
def test_floor_is_the_greatest_start_below(seed: int, make: Callable[[], VmaIndex | SortedIndex]) -> None:
    """After every insertion and removal, floor() gives the VMA with the greatest vm_start <= addr, or head."""
    rng = random.Random(seed)
    index, kept = make(), dict[int, Vma]()
    for _ in range(300):
        start = rng.randrange(200) * 4096
        if start in kept:
            index.remove(kept.pop(start))
        else:
            kept[start] = Vma(start, start + 4096, ATTRS)
            index.add(kept[start])
        addr = rng.randrange(200 * 4096)
        starts = sorted(kept)
        below = bisect_right(starts, addr)
        assert index.floor(addr) is (kept[starts[below - 1]] if below else HEAD)
        assert index.starting(addr & -4096) is kept.get(addr & -4096)
        assert len(index) == len(kept)
    assert list(index.items()) == sorted(kept.items())


class Pair:
    """The index and the reference, changed alike, and the VMAs that are in both, by address."""

    def __init__(self, vmas: list[Vma]) -> None:
        self.blocks, self.reference = VmaIndex(HEAD, TAIL), SortedIndex(HEAD)
        self.vmas = vmas
        for index in (self.blocks, self.reference):
            index.fill([vma.vm_start for vma in vmas], list(vmas))

    def change(self, what: str, at: int, count: int, draw: Callable[[int], int]) -> None:
        """The operation of that name, on the VMA at that place, or on so many from there on."""
        vmas = self.vmas
        gap = (vmas[at - 1] if at else HEAD).vm_start + 1  # the lowest start that a VMA at that place may have
        if what == "add" or not vmas:
            above = vmas[at].vm_start if at < len(vmas) else gap + 1_000
            if gap < above:
                self._add(at, gap + draw(above - gap))
            return
        vma, run = vmas[at], vmas[at : at + count]
        room = (vmas[at + 1].vm_start if at + 1 < len(vmas) else vma.vm_start + 1_000) - vma.vm_start
        start = vma.vm_start + 1 + draw(room - 1) if room > 1 else 0
        if what == "remove":
            self._both(lambda index: index.remove(vma, len(run)))
            del vmas[at : at + count]
        elif what == "put":
            new = Vma(gap + draw(vma.vm_start - gap + 1), vma.vm_end, ATTRS)
            self._both(lambda index: index.put(new, vma, len(run)))
            vmas[at : at + count] = [new]
        elif what == "take_over" and at + 1 < len(vmas):
            nxt = vmas[at + 1]
            self._both(lambda index: index.take_over(vma, nxt))
            nxt.vm_start = vma.vm_start
            del vmas[at]
        elif what == "move":
            moved = gap + draw(room - 1 + vma.vm_start - gap + 1)
            self._both(lambda index: index.move(vma, moved))
            vma.vm_start = moved
        elif what == "add_after" and start:
            self._add_beside(vma, at, start)
        elif what == "add_below" and start:
            part = Vma(vma.vm_start, start, ATTRS)
            self._both(lambda index: index.add_below(vma, part, start))
            vma.vm_start = start
            vmas.insert(at, part)
        elif what == "add_around" and room > 2:
            start = vma.vm_start + 1 + draw(room - 2)
            below = Vma(vma.vm_start, start, ATTRS)
            above = Vma(start + 1 + draw(vma.vm_start + room - start - 1), vma.vm_end, ATTRS)
            self._both(lambda index: index.add_around(vma, below, above, start))
            vma.vm_start = start
            vmas[at : at + 1] = [below, vma, above]

    def _add(self, at: int, start: int) -> None:
        vma = Vma(start, start + 1, ATTRS)
        self._both(lambda index: index.add(vma))
        self.vmas.insert(at, vma)

    def _add_beside(self, prev: Vma, at: int, start: int) -> None:
        vma = Vma(start, start + 1, ATTRS)
        self._both(lambda index: index.add_after(prev, vma))
        self.vmas.insert(at + 1, vma)

    def _both(self, change: Callable[[VmaIndex | SortedIndex], None]) -> None:
        change(self.blocks)
        change(self.reference)

    def agree(self, addr: int) -> None:
        """Both hold the same VMAs under their starts, and find the same ones, wherever the last place was."""
        assert self.blocks.floor(addr) is self.reference.floor(addr)
        held = list(self.blocks.items())
        assert held == list(self.reference.items()) == [(vma.vm_start, vma) for vma in self.vmas]
        assert len(self.blocks) == len(self.vmas)
        for vma in self.vmas:
            assert self.blocks.floor(vma.vm_start) is vma is self.blocks.starting(vma.vm_start)


CHANGES = ("add", "add_after", "add_below", "add_around", "move", "take_over", "put", "remove")
STEP = st.tuples(
    st.sampled_from(CHANGES), st.integers(0, 1 << 20), st.integers(1, 12), st.integers(0, 1 << 20), st.booleans()
)


@given(st.lists(st.integers(0, 600), max_size=30, unique=True), st.lists(STEP, max_size=40))
def test_every_change_leaves_what_the_sorted_dict_is_left_with(
    starts: list[int], steps: list[tuple[object, ...]]
) -> None:
    """In blocks of four, each operation comes upon the edges of blocks: cut in two, run empty, passed over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "BLOCK", 4)
        pair = Pair([Vma(start, start + 1, ATTRS) for start in sorted(starts)])
        for what, at, count, draw, look in steps:
            assert isinstance(what, str) and isinstance(at, int) and isinstance(count, int) and isinstance(draw, int)
            place = at % (len(pair.vmas) + (what == "add")) if pair.vmas else 0
            if look and pair.vmas:  # as find_vma does before a change: the place is known then
                pair.blocks.floor(pair.vmas[place % len(pair.vmas)].vm_start)
            pair.change(what, place, count, lambda most, draw=draw: draw % most)  # type: ignore[misc]
        pair.agree(steps[0][3] % 700 if steps else 0)  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(3))
def test_blocks_answer_as_the_sorted_dict(seed: int) -> None:
    """Over many blocks of the real size that grow, are cut and run empty, both indexes hold and find the same."""
    rng = random.Random(seed)
    pair = Pair([Vma(n << 20, (n << 20) + 1, ATTRS) for n in range(1, BLOCK)])
    for grows in (CHANGES[:4], CHANGES, CHANGES[4:]):
        for _ in range(2 * BLOCK):
            what = rng.choice(grows)
            place = rng.randrange(len(pair.vmas) + (what == "add")) if pair.vmas else 0
            pair.change(what, place, rng.choice((1, 1, 2, 600)) if what != "remove" else 1, rng.randrange)
            addr = rng.randrange(BLOCK << 20)
            assert pair.blocks.floor(addr) is pair.reference.floor(addr)
        pair.agree(0)


@pytest.mark.parametrize("count", [0, 1, BLOCK, 3 * BLOCK + 1])
def test_an_index_filled_at_once_goes_on_as_one_filled_singly(count: int) -> None:
    """fill() leaves what add() one by one would, and further changes find their place."""
    vmas = [Vma(n * 4096, n * 4096 + 4096, ATTRS) for n in range(1, count + 1)]
    filled, singly = VmaIndex(HEAD, TAIL), SortedIndex(HEAD)
    filled.fill([vma.vm_start for vma in vmas], vmas)
    for vma in vmas:
        singly.add(vma)
    for start in (16, 4096 * (count // 2) + 32, 4096 * count + 5000):
        vma = Vma(start, start + 16, ATTRS)
        filled.add(vma)
        singly.add(vma)
        assert filled.floor(start + 1) is singly.floor(start + 1)
    assert list(filled.items()) == list(singly.items())
