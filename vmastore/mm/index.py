"""The address index of an mm: which VMA holds, or comes first below, an address.

Two indexes behind one small interface. `VmaIndex`, which every mm uses, keeps the starts and the VMAs in
blocks of plain lists; `SortedIndex` keeps a SortedDict and is what tests hold the first to. Neighbours are
never looked up here (VMAs are linked), and nothing asks for a position.

Every VMA handed in must have the vm_start that the index knows it by: a change tells the index first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from sortedcontainers import SortedDict

from vmastore.mm.vma import Vma

BLOCK: Final = 512  # VMAs; a block that grows beyond is cut in two


class VmaIndex:
    """vm_start (bytes) -> Vma, ordered: blocks of starts, of VMAs beside them, and the first start of each block.

    The place of the VMA found or changed last is remembered: what follows is mostly done to the same one,
    and needs no second search.
    """

    __slots__ = ("_at", "_firsts", "_near", "_place", "_starts", "_vmas", "cached")

    def __init__(self, head: Vma, tail: Vma) -> None:
        """head, tail: the sentinels. head, below every address, is always the first here, and never taken out."""
        self.cached = tail  # the last VMA found: it answers for the hole below it, too
        self._starts = [[head.vm_start]]
        self._vmas = [[head]]
        self._firsts = [head.vm_start]
        self._near: Vma | None = head  # the VMA at _vmas[_at][_place]; None: no place is known
        self._at = 0
        self._place = 0

    # -- looking ---------------------------------------------------------------------------------

    def find(self, addr: int) -> Vma:
        """The first VMA that ends above addr, or tail (find_vma)."""
        vma = self.cached
        if vma.prev.vm_end <= addr < vma.vm_end:  # in it, or in the hole below it
            return vma
        at = self._at = bisect_right(self._firsts, addr) - 1  # floor(), without the cost of the call
        place = self._place = bisect_right(self._starts[at], addr) - 1
        vma = self._near = self._vmas[at][place]
        if vma.vm_end <= addr:
            vma = vma.next
        self.cached = vma
        return vma

    def floor(self, addr: int) -> Vma:
        """The VMA with the greatest vm_start <= addr, or head."""
        at = self._at = bisect_right(self._firsts, addr) - 1
        place = self._place = bisect_right(self._starts[at], addr) - 1
        vma = self._near = self._vmas[at][place]
        return vma

    def starting(self, vm_start: int) -> Vma | None:
        """The VMA that starts there."""
        vma = self.floor(vm_start)
        return vma if vma.vm_start == vm_start else None

    def __len__(self) -> int:
        return sum(map(len, self._starts)) - 1

    def items(self) -> Iterator[tuple[int, Vma]]:
        """Every start and its VMA, without head."""
        return islice(chain.from_iterable(map(zip, self._starts, self._vmas)), 1, None)

    def columns(self) -> tuple[list[int], list[Vma]]:
        """Every start, and the VMAs beside them, without head."""
        starts, vmas = list(chain.from_iterable(self._starts)), list(chain.from_iterable(self._vmas))
        return starts[1:], vmas[1:]

    # -- taking in -------------------------------------------------------------------------------

    def add(self, vma: Vma) -> None:
        """Take in a VMA where none starts yet."""
        self.add_after(self.floor(vma.vm_start), vma)

    def add_after(self, prev: Vma, vma: Vma) -> None:
        """Take in `vma`, the first above `prev`, which is here."""
        if self._near is not prev:
            self.floor(prev.vm_start)
        at, place = self._at, self._place + 1
        starts = self._starts[at]
        starts.insert(place, vma.vm_start)
        self._vmas[at].insert(place, vma)
        if len(starts) > BLOCK:
            self._cut(at)

    def add_below(self, vma: Vma, part: Vma, vm_start: int) -> None:
        """`part` takes the place of `vma`, where that starts now; `vma` starts at vm_start from now on."""
        if self._near is not vma:
            self.floor(vma.vm_start)
        at, place = self._at, self._place
        starts, vmas = self._starts[at], self._vmas[at]
        vmas[place] = part
        place = self._place = place + 1
        starts.insert(place, vm_start)
        vmas.insert(place, vma)
        if len(starts) > BLOCK:
            self._cut(at)

    def add_around(self, vma: Vma, below: Vma, above: Vma, vm_start: int) -> None:
        """`below` takes the place of `vma`, which starts at vm_start from now on; `above` is taken in behind it."""
        if self._near is not vma:
            self.floor(vma.vm_start)
        at, place = self._at, self._place
        starts = self._starts[at]
        self._vmas[at][place : place + 1] = below, vma, above
        place = self._place = place + 1
        starts[place:place] = vm_start, above.vm_start
        if len(starts) > BLOCK:
            self._cut(at)

    def fill(self, starts: list[int], vmas: list[Vma]) -> None:
        """Take VMAs and their starts in, all at once. Assumes: in order, and nothing is there yet."""
        half = BLOCK // 2
        self._starts += [starts[at : at + half] for at in range(0, len(starts), half)]
        self._vmas += [vmas[at : at + half] for at in range(0, len(starts), half)]
        self._firsts = [block[0] for block in self._starts]

    def _cut(self, at: int) -> None:
        half = BLOCK // 2
        starts, vmas = self._starts[at], self._vmas[at]
        self._starts.insert(at + 1, starts[half:])
        self._vmas.insert(at + 1, vmas[half:])
        self._firsts.insert(at + 1, starts[half])
        del starts[half:], vmas[half:]
        self._near = None

    # -- changing --------------------------------------------------------------------------------

    def move(self, vma: Vma, vm_start: int) -> None:
        """`vma` starts at vm_start from now on. Assumes: no other start is passed over."""
        if self._near is not vma:
            self.floor(vma.vm_start)
        self._starts[self._at][self._place] = vm_start
        if not self._place:
            self._firsts[self._at] = vm_start

    def take_over(self, vma: Vma, nxt: Vma) -> None:
        """`vma` goes, and `nxt`, the first above it, starts where it starts."""
        if self._near is not vma:
            self.floor(vma.vm_start)
        at, place = self._at, self._place
        self._vmas[at][place] = self._near = nxt
        self._drop(at, place + 1, 1)

    def put(self, vma: Vma, old: Vma, count: int = 1) -> None:
        """`vma` takes the place of `old` and of those above it, so many in all. It starts there or below."""
        if self._near is not old:
            self.floor(old.vm_start)
        at, place = self._at, self._place
        self._vmas[at][place] = self._near = vma
        if vma.vm_start != old.vm_start:
            self.move(vma, vma.vm_start)
        if count > 1:
            self._drop(at, place + 1, count - 1)

    # -- taking out ------------------------------------------------------------------------------

    def remove(self, vma: Vma, count: int = 1) -> None:
        """Take out `vma` and those above it: so many in all."""
        if self._near is not vma:
            self.floor(vma.vm_start)
        at, place = self._at, self._place
        if place:  # what comes next is mostly done to the one below
            vmas = self._vmas[at]
            self._place = place - 1
            self._near = vmas[place - 1]
            if count == 1:
                del vmas[place], self._starts[at][place]
            else:
                self._drop(at, place, count)
        else:
            self._near = None
            self._drop(at, 0, count)

    def _drop(self, at: int, place: int, count: int) -> None:
        """Take out so many VMAs, at least one: the first is at that place of block `at`, or begins the next."""
        starts = self._starts[at]
        if place and place + count <= len(starts):
            if count == 1:
                del starts[place], self._vmas[at][place]
            else:
                del starts[place : place + count], self._vmas[at][place : place + count]
            return
        while count:
            starts = self._starts[at]
            if not place and count >= len(starts):
                count -= len(starts)
                del self._starts[at], self._vmas[at], self._firsts[at]
                continue
            gone = min(count, len(starts) - place)
            del starts[place : place + gone], self._vmas[at][place : place + gone]
            if not place:
                self._firsts[at] = starts[0]
            count -= gone
            at, place = at + 1, 0


class SortedIndex:
    """The same on a SortedDict: the reference.

    `bisect`, `index` and `peekitem` build a positional index after every change, which costs more
    than the change at tens of thousands of VMAs; `irange` does not.
    """

    __slots__ = ("_by_start", "_head")

    def __init__(self, head: Vma) -> None:
        self._by_start = SortedDict()
        self._head = head

    def floor(self, addr: int) -> Vma:
        for start in self._by_start.irange(None, addr, reverse=True):
            return self._by_start[start]  # type: ignore[no-any-return]
        return self._head

    def starting(self, vm_start: int) -> Vma | None:
        return self._by_start.get(vm_start)  # type: ignore[no-any-return]

    def add(self, vma: Vma) -> None:
        self._by_start[vma.vm_start] = vma

    def add_after(self, prev: Vma, vma: Vma) -> None:
        self._by_start[vma.vm_start] = vma

    def add_below(self, vma: Vma, part: Vma, vm_start: int) -> None:
        self._by_start[vma.vm_start] = part
        self._by_start[vm_start] = vma

    def add_around(self, vma: Vma, below: Vma, above: Vma, vm_start: int) -> None:
        self.add_below(vma, below, vm_start)
        self.add(above)

    def fill(self, starts: list[int], vmas: list[Vma]) -> None:
        self._by_start.update(zip(starts, vmas, strict=True))

    def move(self, vma: Vma, vm_start: int) -> None:
        del self._by_start[vma.vm_start]
        self._by_start[vm_start] = vma

    def take_over(self, vma: Vma, nxt: Vma) -> None:
        del self._by_start[nxt.vm_start]
        self._by_start[vma.vm_start] = nxt

    def put(self, vma: Vma, old: Vma, count: int = 1) -> None:
        self.remove(old, count)
        self._by_start[vma.vm_start] = vma

    def remove(self, vma: Vma, count: int = 1) -> None:
        for start in list(islice(self._by_start.irange(vma.vm_start), count)):
            del self._by_start[start]

    def __len__(self) -> int:
        return len(self._by_start)

    def items(self) -> Iterator[tuple[int, Vma]]:
        return iter(self._by_start.items())

    def columns(self) -> tuple[list[int], list[Vma]]:
        return list(self._by_start.keys()), list(self._by_start.values())
