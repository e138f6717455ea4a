"""mremap on a naive address space: what moves, grows and shrinks, and what is refused before or midway.

Written from the description of the calls, with no look at the merge code. Ranges are pages, [start, end).
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOMEM, EPERM

from naive_vmas import LOCKED, SEALED, UFFD, Vmas


class Moves(Vmas):
    """Calls return 0 or -errno, and have their partial effects."""

    def mremap(self, start: int, end: int, target: int) -> int:
        """MREMAP_FIXED | MREMAP_MAYMOVE, same length, apart from the source. Returns 0 or -errno."""
        if self.release >= (6, 17):
            return self._move_refused(start, end, target) or self._move_all(start, end, target - start)
        failed = self._source_refused(start)
        failed = failed or self._move_refused(start, end, target)
        failed = failed or self.remove(target, target + end - start)
        if failed:
            return failed
        if start not in self.pages or self.extent(start)[1] < end:
            return -EFAULT
        return self._move(start, end, target)

    def _source_refused(self, start: int) -> int:
        if start not in self.pages:
            return -EFAULT
        return -EPERM if self.release >= (6, 12) and self.pages[start].flags & SEALED else 0

    def _move_refused(self, start: int, end: int, target: int) -> int:
        if target < end and start < target + end - start:
            return -EINVAL
        if self.release < (7, 3):
            return -ENOMEM if len(self.starts) + 2 >= self.limit - 3 else 0
        return self._no_room()

    def _no_room(self) -> int:
        """Whether the map limit is so near that no mremap is even begun, since 7.3."""
        return -ENOMEM if self.release >= (7, 3) and len(self.starts) + 4 > self.limit else 0

    def _move_all(self, start: int, end: int, shift: int) -> int:
        """VMA by VMA, gaps kept, since 6.17; a userfaultfd's goes alone or not at all."""
        if start not in self.pages:
            return -EFAULT
        at = start
        while at < end:
            if at not in self.pages:
                at += 1
                continue
            high = self.extent(at)[1]
            stop = min(end, high)
            if self.pages[at].uffd and (at > start or high < end):
                return -EFAULT
            if self.pages[at].flags & SEALED:
                return -EPERM
            failed = self.remove(at + shift, stop + shift) or self._move(at, stop, at + shift)
            if failed:
                return failed
            at = stop
        return 0

    def _move(self, start: int, end: int, target: int) -> int:
        if self.release < (7, 3) and len(self.starts) >= self.limit - 3:
            return -ENOMEM
        page, chain = self.pages[start], self.chains[start]
        shift = start - target
        if page.file == 0:
            moved = page._replace(offset=page.offset + shift if chain else 0)
        else:
            moved = page._replace(offset=page.offset + shift)
            if self.release >= (7, 1) and chain:
                moved = moved._replace(anon=page.anon + shift)
        alone = self.release >= (7, 3) and page.uffd != 0
        self.copy(target, target + end - start, moved, chain, alone=alone)
        if page.uffd:  # its file asked for no EVENT_REMAP: the copy, and what it joined, is registered no more
            low, high = self.extent(target)
            for n in range(low, high):
                self.pages[n] = self.pages[n]._replace(flags=self.pages[n].flags & ~UFFD, uffd=0)
        return self.remove(start, end)

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
