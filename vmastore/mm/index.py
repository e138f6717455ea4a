"""The address index of an mm: which VMA holds, or comes first below, an address.

Two indexes behind one small interface. `VmaIndex`, which every mm uses, keeps the starts in blocks
of plain lists; `SortedIndex` keeps a SortedDict and is what tests hold the first to. Neighbours are
never looked up here (VMAs are linked), and nothing asks for a position.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from sortedcontainers import SortedDict

from vmastore.mm.vma import Vma

BLOCK = 512  # starts; a block that grows beyond is cut in two


class VmaIndex:
    """vm_start (bytes) -> Vma, ordered: blocks of starts, and the first start of each block."""

    __slots__ = ("_blocks", "_by_start", "_firsts")

    def __init__(self) -> None:
        self._by_start: dict[int, Vma] = {}
        self._blocks: list[list[int]] = []
        self._firsts: list[int] = []

    def add(self, vm_start: int, vma: Vma) -> None:
        """Assumes: no VMA starts there."""
        self._by_start[vm_start] = vma
        at = bisect_right(self._firsts, vm_start) - 1
        if at < 0:
            if not self._blocks:
                self._blocks.append([vm_start])
                self._firsts.append(vm_start)
                return
            at = 0
            self._firsts[0] = vm_start
        block = self._blocks[at]
        block.insert(bisect_left(block, vm_start), vm_start)
        if len(block) > BLOCK:
            self._cut(at, block)

    def _cut(self, at: int, block: list[int]) -> None:
        upper = block[BLOCK // 2 :]
        del block[BLOCK // 2 :]
        self._blocks.insert(at + 1, upper)
        self._firsts.insert(at + 1, upper[0])

    def fill(self, starts: list[int], vmas: list[Vma]) -> None:
        """Take VMAs and their starts in, all at once. Assumes: in order, and nothing is there yet."""
        self._by_start.update(zip(starts, vmas, strict=True))
        self._blocks = [starts[at : at + BLOCK // 2] for at in range(0, len(starts), BLOCK // 2)]
        self._firsts = [block[0] for block in self._blocks]

    def put(self, vm_start: int, vma: Vma) -> None:
        """Another VMA starts there from now on. Assumes: one did."""
        self._by_start[vm_start] = vma

    def remove(self, vm_start: int) -> None:
        """Assumes: a VMA starts there."""
        del self._by_start[vm_start]
        at = bisect_right(self._firsts, vm_start) - 1
        block = self._blocks[at]
        if block[0] != vm_start:
            del block[bisect_left(block, vm_start)]
        elif len(block) > 1:
            del block[0]
            self._firsts[at] = block[0]
        else:
            del self._blocks[at]
            del self._firsts[at]

    def move(self, vm_start: int, to: int) -> None:
        """The VMA at vm_start starts at `to` from now on. Assumes: no other start is passed over."""
        self._by_start[to] = self._by_start.pop(vm_start)
        at = bisect_right(self._firsts, vm_start) - 1
        block = self._blocks[at]
        place = bisect_left(block, vm_start)
        block[place] = to
        if not place:
            self._firsts[at] = to

    def floor(self, addr: int) -> Vma | None:
        """The VMA with the greatest vm_start <= addr."""
        exact = self._by_start.get(addr)
        if exact is not None:
            return exact
        at = bisect_right(self._firsts, addr) - 1
        if at < 0:
            return None
        block = self._blocks[at]
        return self._by_start[block[bisect_right(block, addr) - 1]]

    def starting(self, vm_start: int) -> Vma | None:
        """The VMA that starts there."""
        return self._by_start.get(vm_start)

    def __len__(self) -> int:
        return len(self._by_start)

    def items(self) -> Iterator[tuple[int, Vma]]:
        return ((start, self._by_start[start]) for block in self._blocks for start in block)


class SortedIndex:
    """The same on a SortedDict: the reference.

    `bisect`, `index` and `peekitem` build a positional index after every change, which costs more
    than the change at tens of thousands of VMAs; `irange` does not.
    """

    __slots__ = ("_by_start", "add", "put", "remove")

    def __init__(self) -> None:
        self._by_start = SortedDict()
        self.add = self.put = self._by_start.__setitem__  # (vm_start, vma)
        self.remove = self._by_start.__delitem__  # (vm_start)

    def fill(self, starts: list[int], vmas: list[Vma]) -> None:
        self._by_start.update(zip(starts, vmas, strict=True))

    def move(self, vm_start: int, to: int) -> None:
        self.add(to, self._by_start.pop(vm_start))

    def floor(self, addr: int) -> Vma | None:
        exact = self._by_start.get(addr)
        if exact is not None:
            return exact  # type: ignore[no-any-return]
        for start in self._by_start.irange(None, addr, reverse=True):
            return self._by_start[start]  # type: ignore[no-any-return]
        return None

    def starting(self, vm_start: int) -> Vma | None:
        return self._by_start.get(vm_start)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._by_start)

    def items(self) -> Iterator[tuple[int, Vma]]:
        return iter(self._by_start.items())
