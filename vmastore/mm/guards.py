"""Which pages of an address space are guard pages (MADV_GUARD_INSTALL): markers in page tables, not VMAs.

A marker goes with its page: mprotect, split and merge leave it, mremap moves it, fork copies it, discarding pages
(MADV_DONTNEED, …) keeps it, and only unmapping or MADV_GUARD_REMOVE takes it away.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Guards:
    """Disjoint ranges [start, end) in bytes, by address, none touching the next."""

    __slots__ = ("ends", "starts")

    def __init__(self, ranges: list[tuple[int, int]] | None = None) -> None:
        self.starts = [start for start, _ in ranges or []]
        self.ends = [end for _, end in ranges or []]

    def __bool__(self) -> bool:
        return bool(self.starts)

    def __contains__(self, addr: int) -> bool:
        return self.first(addr, addr + 1) == addr

    def ranges(self) -> list[tuple[int, int]]:
        """All of them."""
        return list(zip(self.starts, self.ends, strict=True))

    def copy(self) -> Guards:
        return Guards(self.ranges())

    def first(self, start: int, end: int) -> int:
        """The lowest guarded address of [start, end), or end."""
        n = bisect_right(self.ends, start)
        return min(max(self.starts[n], start), end) if n < len(self.starts) else end

    def end(self, start: int, limit: int) -> int:
        """Where the guarded range that holds `start` ends, at most at `limit`."""
        return min(self.ends[bisect_right(self.ends, start)], limit)

    def add(self, start: int, end: int) -> None:
        """Guard [start, end), which is not empty."""
        low, high = bisect_left(self.ends, start), bisect_right(self.starts, end)
        if low < high:
            start, end = min(start, self.starts[low]), max(end, self.ends[high - 1])
        self.starts[low:high], self.ends[low:high] = [start], [end]

    def drop(self, start: int, end: int) -> None:
        """Guard nothing in [start, end)."""
        self._take(start, end)

    def move(self, start: int, length: int, to: int) -> None:
        """Move the guards of [start, start+length) to `to`, where there are none."""
        for low, high in self._take(start, start + length):
            self.add(low - start + to, high - start + to)

    def _take(self, start: int, end: int) -> list[tuple[int, int]]:
        """Take out what is guarded in [start, end). Returns it."""
        low, high = bisect_right(self.ends, start), bisect_left(self.starts, end)
        if low >= high:
            return []
        found = list(zip(self.starts[low:high], self.ends[low:high], strict=True))
        rest = []
        if found[0][0] < start:
            rest.append((found[0][0], start))
        if found[-1][1] > end:
            rest.append((end, found[-1][1]))
        self.starts[low:high] = [a for a, _ in rest]
        self.ends[low:high] = [b for _, b in rest]
        return [(max(a, start), min(b, end)) for a, b in found]
