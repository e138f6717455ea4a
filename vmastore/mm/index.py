"""The address index of an mm: which VMA holds, or comes first after, an address.

A SortedDict of vm_start -> Vma behind a few questions. Neighbours are never looked up here (VMAs
are linked), and nothing asks for a position: `bisect`, `index` and `peekitem` build a positional
index after every change, which costs more than the change at tens of thousands of VMAs.
"""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedDict

from vmastore.mm.vma import Vma


class VmaIndex:
    """vm_start (bytes) -> Vma, ordered."""

    __slots__ = ("_by_start", "add", "remove")

    def __init__(self) -> None:
        self._by_start = SortedDict()
        self.add = self._by_start.__setitem__  # (vm_start, vma)
        self.remove = self._by_start.__delitem__  # (vm_start)

    def fill(self, starts: list[int], vmas: list[Vma]) -> None:
        """Take VMAs and their starts in, all at once: sorted already, they cost little."""
        self._by_start.update(zip(starts, vmas, strict=True))

    def move(self, vm_start: int, to: int) -> None:
        """The VMA at vm_start starts at `to` from now on."""
        self.add(to, self._by_start.pop(vm_start))

    def floor(self, addr: int) -> Vma | None:
        """The VMA with the greatest vm_start <= addr."""
        exact = self._by_start.get(addr)
        if exact is not None:
            return exact  # type: ignore[no-any-return]
        for start in self._by_start.irange(None, addr, reverse=True):
            return self._by_start[start]  # type: ignore[no-any-return]
        return None

    def __len__(self) -> int:
        return len(self._by_start)

    def items(self) -> Iterator[tuple[int, Vma]]:
        return iter(self._by_start.items())
