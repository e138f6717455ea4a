"""VMAs as a set of cuts between pages: where a range joins its neighbours, said in terms of pages.

Written from the description of the kernel's rules, with no look at the merge code. There are no cases
and no survivors here: a range that becomes alike its neighbour loses the cut between them, if the
written pages of both allow it, and gains a cut where it was torn out of a VMA.
"""

from __future__ import annotations

from errno import ENOMEM, EPERM
from itertools import count
from typing import NamedTuple

R, W, X, SHARED = 1, 2, 4, 8
SEALED, LOCKED, ONFAULT = 1 << 42, 0x2000, 0x80000
UFFD = 0x200 | 0x1000  # missing, write-protect

Chain = tuple[int, ...]  # the anon_vmas of written pages, the VMA's own first; (): not written


class Page(NamedTuple):
    """What must be equal for two pages to lie in one VMA."""

    flags: int
    file: int  # 0: anonymous
    offset: int  # page number in the file minus page number in memory
    policy: object = None
    name: str | None = None
    uffd: int = 0  # userfaultfd context
    anon: int = 0  # 7.3: how far the written pages of a private file mapping have been moved


class Run(NamedTuple):
    """Pages [start, end) in one VMA."""

    start: int
    end: int
    page: Page
    chain: Chain


def own(chain: Chain) -> int | None:
    return chain[0] if chain else None


class Vmas:
    """Pages by number, and the numbers at which VMAs start. release: of the kernel, (6, 12)."""

    def __init__(self, release: tuple[int, int], limit: int = 65530) -> None:
        self.release = release
        self.limit = limit  # max_map_count
        self.pages: dict[int, Page] = {}
        self.chains: dict[int, Chain] = {}
        self.starts: set[int] = set()
        self.closing: set[int] = set()  # files whose mappings have a close hook
        self.guards: set[int] = set()  # guard pages
        self._anon_vmas = count(1)

    # -- looking ---------------------------------------------------------------------------------

    def extent(self, n: int) -> tuple[int, int]:
        """The VMA that holds page n, as [start, end)."""
        start, end = n, n + 1
        while start not in self.starts:
            start -= 1
        while end in self.pages and end not in self.starts:
            end += 1
        return start, end

    def vmas(self) -> list[Run]:
        starts = sorted(self.starts)
        return [Run(*self.extent(n), self.pages[n], self.chains[n]) for n in starts]

    def pieces(self, start: int, end: int) -> list[tuple[int, int]]:
        """[start, end) cut at VMAs, holes left out."""
        cuts = [n for n in range(start, end) if n in self.pages and (n == start or n in self.starts)]
        return [(n, min(end, self.extent(n)[1])) for n in cuts]

    def runs(self) -> list[tuple[int, int, Page]]:
        """(first page, page behind the last, what they are) of maximal runs of equal pages."""
        found: list[tuple[int, int, Page]] = []
        for number, page in sorted(self.pages.items()):
            if found and found[-1][1] == number and found[-1][2] == page:
                found[-1] = (found[-1][0], number + 1, page)
            else:
                found.append((number, number + 1, page))
        return found

    def sealed(self, start: int, end: int) -> bool:
        return any(n in self.pages and self.pages[n].flags & SEALED for n in range(start, end))

    # -- joining ---------------------------------------------------------------------------------

    def fits(self, target: Chain, source: Chain, inherited: bool) -> bool:
        """Whether a range written as `source` may join a VMA written as `target`.

        inherited: the range comes from a VMA that fork copied when it was written.
        """
        if self.release < (6, 16):
            return ((not source or not target) and len(target) == 1) or own(source) == own(target)
        if source and not target:
            return not inherited
        if target and not source:
            return len(target) == 1
        return own(source) == own(target)

    @staticmethod
    def _no_conflict(one: Chain, other: Chain) -> bool:
        return not one or not other or one[0] == other[0]

    def _join(self, start: int, end: int, page: Page, chain: Chain, left: bool, right: bool) -> None:
        """[start, end) becomes `page`, in one VMA with what lies left and right where that is so."""
        low = self.extent(start - 1)[0] if left else start
        high = self.extent(end)[1] if right else end
        joined = (left and self.chains[start - 1]) or (right and self.chains[end]) or chain
        for n in range(start, end):
            self.pages[n] = page
        for n in range(low, high):
            self.chains[n] = joined
            self.starts.discard(n)
        self.starts.add(low)
        if high in self.pages:
            self.starts.add(high)

    def modify(self, start: int, end: int, page: Page, *, loses_tail: bool = False) -> int:
        """[start, end), within one VMA, becomes `page`. Returns 0 or -ENOMEM: a cut too many, earlier ones stay.

        loses_tail: the upper part of a VMA does not join what lies above it.
        """
        low, high = self.extent(start)
        chain = self.chains[start]
        inherited = len(chain) > 1
        left = start == low and self.pages.get(start - 1) == page
        left = left and self.fits(self.chains[start - 1], chain, inherited)
        right = end == high and self.pages.get(end) == page and not (loses_tail and start > low)
        right = right and self.fits(self.chains[end], chain, inherited)
        if left and right:
            right = self._no_conflict(self.chains[start - 1], self.chains[end])
        if page.file in self.closing:  # no VMA with a close hook may go
            left = left and end < high and self.release >= (6, 3)
            right = right and start > low and self.release >= (6, 12)
        if not left and not right:
            for at in (start, end):
                if self.split(at):
                    return -ENOMEM
        self._join(start, end, page, chain, left, right)
        return 0

    def new(self, start: int, end: int, page: Page) -> None:
        """A mapping of nothing but holes (mmap)."""
        left, right = self.pages.get(start - 1) == page, self.pages.get(end) == page
        if self.release < (6, 12):  # looks up first, then takes down what goes with that
            right = right and self.fits(self.chains[end], (), False)
            left = left and self.fits(self.chains[start - 1], self.chains[end] if right else (), False)
        else:
            left = left and self.fits(self.chains[start - 1], (), False)
            right = right and self.fits(self.chains[end], (), False)
            if left and right:
                right = self._no_conflict(self.chains[start - 1], self.chains[end])
        self._join(start, end, page, (), left, right)

    def copy(self, start: int, end: int, page: Page, chain: Chain, *, apart: tuple[int, ...] = ()) -> None:
        """What mremap moves arrives in a hole. apart: pages whose VMAs it does not join."""
        inherited = len(chain) > 1
        left = start - 1 not in apart and self.pages.get(start - 1) == page
        left = left and self.fits(self.chains[start - 1], chain, inherited)
        right = end not in apart and self.pages.get(end) == page
        right = right and self.fits(self.chains[end], chain, inherited)
        if left and right:
            right = self._no_conflict(self.chains[start - 1], self.chains[end])
        if page.file in self.closing:
            left = left and self.release >= (6, 3)
            right = right and not left and self.release >= (6, 12)
        self._join(start, end, page, chain, left, right)

    def extend(self, start: int, end: int) -> None:
        """The VMA below the hole [start, end) grows over it (mremap in place, brk's own way is `grow_heap`)."""
        page, chain = self.pages[start - 1], self.chains[start - 1]
        right = self.pages.get(end) == page and self.fits(self.chains[end], chain, False)
        right = right and self._no_conflict(chain, self.chains[end]) and page.file not in self.closing
        self._join(start, end, page, chain, True, right)

    def grow_heap(self, start: int, end: int, page: Page) -> None:
        """The heap grows over a hole: joins what lies below, and never looks above."""
        left = self.pages.get(start - 1) == page and self.fits(self.chains[start - 1], (), False)
        self._join(start, end, page, (), left, False)

    # -- cutting ---------------------------------------------------------------------------------

    def split(self, n: int) -> int:
        """Cut before page n. Returns 0 or -ENOMEM: the map limit."""
        if n in self.pages and n not in self.starts:
            if len(self.starts) >= self.limit:
                return -ENOMEM
            self.starts.add(n)
        return 0

    def remove(self, start: int, end: int) -> int:
        """Unmap [start, end). Returns 0, -ENOMEM or -EPERM; a sealed page may leave the cut at `start`."""
        if start in self.pages and start not in self.starts:
            if self.extent(start)[1] > end and len(self.starts) >= self.limit:
                return -ENOMEM
            if self.pages[start].flags & SEALED:
                return -EPERM
            self.starts.add(start)
        if self.sealed(start, end):
            return -EPERM
        if end in self.pages:
            self.starts.add(end)
        self.guards.difference_update(range(start, end))
        for n in range(start, end):
            if self.pages.pop(n, None):
                self.starts.discard(n)
                del self.chains[n]
        return 0

    # -- writing ---------------------------------------------------------------------------------

    def write(self, n: int) -> None:
        """The first write to a private VMA makes it one with a neighbour's written pages, or with none."""
        if self.pages[n].flags & SHARED or self.chains[n]:
            return
        start, end = self.extent(n)
        chain = self._reusable(n, end) or self._reusable(n, start - 1) or (next(self._anon_vmas),)
        for at in range(start, end):
            self.chains[at] = chain

    def populate(self, start: int, end: int, *, until_refused: bool = False) -> bool:
        """Fault [start, end) in, as locking does. False: stopped at a page without any right."""
        for low, _ in self.pieces(start, end):
            flags = self.pages[low].flags
            if flags & ONFAULT:
                continue
            if not flags & 7 and until_refused:
                return False
            if flags & W:
                self.write(low)
        return True

    def _reusable(self, n: int, other: int) -> Chain:
        """The neighbour's own writing, where the two differ in read, write, execute, name and context at most."""
        if other not in self.pages or len(self.chains[other]) != 1:
            return ()
        one, two = (p._replace(flags=p.flags & ~7, name=None, uffd=0) for p in (self.pages[n], self.pages[other]))
        return self.chains[other] if one == two else ()

    def inherit(self) -> None:
        """The chains of a child: its own anon_vma for every written VMA, before those of its parents."""
        for run in self.vmas():
            chain = (next(self._anon_vmas), *run.chain) if run.chain else ()
            for n in range(run.start, run.end):
                self.chains[n] = chain
