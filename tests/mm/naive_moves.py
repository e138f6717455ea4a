"""mremap on a naive address space: what moves, grows and shrinks, and what is refused before or midway.

Written from the description of the calls, with no look at the merge code. Ranges are pages, [start, end).
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOMEM, EPERM

from naive_vmas import LOCKED, ONFAULT, SEALED, UFFD, Vmas


class Moves(Vmas):
    """Calls return 0 or -errno, and have their partial effects."""

    remapping: frozenset[int] = frozenset()  # userfaultfds that asked for EVENT_REMAP

    def mremap(self, start: int, end: int, target: int, keep: bool = False) -> int:
        """MREMAP_FIXED | MREMAP_MAYMOVE, same length. keep: MREMAP_DONTUNMAP too."""
        if self.release >= (6, 17):
            return self._move_refused(start, end, target, keep) or self._move_all(start, end, target - start, keep)
        failed = self._source_refused(start)
        failed = failed or self._move_refused(start, end, target, keep)
        failed = failed or self.remove(target, target + end - start)
        if failed:
            return failed
        if start not in self.pages or self.extent(start)[1] < end:
            return -EFAULT
        return self._move(start, end, target, keep)

    def _source_refused(self, start: int) -> int:
        if start not in self.pages:
            return -EFAULT
        return -EPERM if self.release >= (6, 12) and self.pages[start].flags & SEALED else 0

    def _move_refused(self, start: int, end: int, target: int, keep: bool) -> int:
        if target < end and start < target + end - start:
            return -EINVAL
        if self.release < (7, 3):
            return -ENOMEM if len(self.starts) + 2 >= self.limit - 3 else 0
        return self._no_room(keep)

    def _no_room(self, keep: bool = False) -> int:
        """Whether the map limit is so near that no mremap is even begun, since 7.3."""
        return -ENOMEM if self.release >= (7, 3) and len(self.starts) + 4 + keep > self.limit else 0

    def _move_all(self, start: int, end: int, shift: int, keep: bool) -> int:
        """VMA by VMA, gaps kept, since 6.17; a userfaultfd's or a SysV segment's goes alone or not at all."""
        if start not in self.pages:
            return -EFAULT
        at = start
        while at < end:
            if at not in self.pages:
                at += 1
                continue
            high = self.extent(at)[1]
            stop = min(end, high)
            alone = self.pages[at].uffd or self.pages[at].file in self.closing
            if alone and (at > start or high < end):
                return -EFAULT
            if self.pages[at].flags & SEALED:
                return -EPERM
            failed = self.remove(at + shift, stop + shift) or self._move(at, stop, at + shift, keep)
            if failed:
                return failed
            at = stop
        return 0

    @property
    def _keeps_well(self) -> bool:
        """The two fixes of MREMAP_DONTUNMAP, in 7.3 and in the stable releases of 6.1 and 6.12."""
        return self.release in ((6, 1), (6, 12), (7, 3))

    def _move(self, start: int, end: int, target: int, keep: bool) -> int:
        if self.release < (7, 3) and len(self.starts) >= self.limit - 3:
            return -ENOMEM
        if keep and self._keeps_well and self.pages[start].flags & LOCKED and (self.split(start) or self.split(end)):
            return -ENOMEM
        page, chain = self.pages[start], self.chains[start]
        shift = start - target
        if page.file == 0:
            moved = page._replace(offset=page.offset + shift if chain else 0)
        else:
            moved = page._replace(offset=page.offset + shift)
            if self.release >= (7, 1):
                moved = moved._replace(anon=page.anon + shift if chain else 0)
        apart: tuple[int, ...] = ()
        stripped = page.uffd != 0 and page.uffd not in self.remapping
        low, high = self.extent(start)
        if stripped and self.release >= (7, 3):
            apart = (target - 1, target + end - start)
        elif keep and self._keeps_well and not chain and page.file == 0:
            apart = tuple(range(low, high))
            if self.release < (6, 12) and (target - 1 in apart or target + end - start in apart):
                apart = (target - 1, target + end - start)
        self.copy(target, target + end - start, moved, chain, apart=apart)
        guards = self.guards.intersection(range(start, end))
        self.guards = self.guards - guards | {n - shift for n in guards}
        if stripped:  # its file asked for no EVENT_REMAP: the copy, and what it joined, is registered no more
            low, high = self.extent(target)
            for n in range(low, high):
                self.pages[n] = self.pages[n]._replace(flags=self.pages[n].flags & ~UFFD, uffd=0)
        return self._keep(start, end, target) if keep else self.remove(start, end)

    def _keep(self, start: int, end: int, target: int) -> int:
        """What MREMAP_DONTUNMAP leaves behind: not locked, and not written if it was moved whole."""
        low, high = self.extent(start)
        whole = (low, high) == (start, end)
        for n in range(low, high):
            page = self.pages[n]
            page = page._replace(flags=page.flags & ~(LOCKED | ONFAULT))
            if whole:
                self.chains[n] = ()
                page = page._replace(offset=0) if page.file == 0 and self._keeps_well else page
            self.pages[n] = page
        return 0

    def shrink(self, start: int, end: int, stop: int) -> int:
        """mremap from [start, end) to [start, stop), stop < end; the range may cross VMAs and holes."""
        return self._no_room() or self._source_refused(start) or self.remove(stop, end)

    def grow(self, start: int, end: int, stop: int) -> int:
        """mremap from [start, end) to [start, stop), stop > end, not allowed to move."""
        failed = self._no_room() or self._source_refused(start)
        if failed:
            return failed
        page = self.pages[start]
        last = self.extent(start)[1]
        if last < end:
            return -EFAULT
        if last > end or any(n in self.pages for n in range(end, stop)):
            return -ENOMEM
        self.extend(end, stop)
        if page.flags & LOCKED:
            self.populate(end, stop)
        return 0
