"""System calls on a naive address space: what each does to pages, one VMA after the other.

Written from the description of the calls, with no look at the merge code. Calls return 0 (or what the
kernel returns) or -errno, and have their partial effects. Ranges are pages, [start, end).
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES, EAGAIN, EBADF, EBUSY, EEXIST, EFAULT, EINVAL, ENOMEM, ENOSYS, EPERM

from naive_moves import Moves
from naive_vmas import LOCKED, ONFAULT, SEALED, SHARED, UFFD, Page, R, W

MAYWRITE, MAYSHARE = 0x20, 0x80
MAY = 0x70
ACCOUNT, NORESERVE = 0x100000, 0x200000
DONTCOPY, DONTDUMP, SEQ, RAND, WIPE = 0x20000, 0x4000000, 0x8000, 0x10000, 0x2000000
HUGE, NOHUGE, MERGEABLE = 0x20000000, 0x40000000, 0x80000000

UFFD_MISSING, UFFD_WP = 0x200, 0x1000

DROPPABLE = 1 << 40
NO_KSM = SHARED | MAYSHARE | DROPPABLE

DONTFORK, KSM_ON, DODUMP, WIPEONFORK, KEEPONFORK = 10, 12, 17, 18, 19
ADVICE = {
    0: (0, SEQ | RAND),
    1: (RAND, SEQ),
    2: (SEQ, RAND),
    DONTFORK: (DONTCOPY, 0),
    11: (0, DONTCOPY),
    KSM_ON: (MERGEABLE, 0),
    13: (0, MERGEABLE),
    14: (HUGE, NOHUGE),
    15: (NOHUGE, HUGE),
    16: (DONTDUMP, 0),
    DODUMP: (0, DONTDUMP),
    WIPEONFORK: (WIPE, 0),
    KEEPONFORK: (0, WIPE),
}

Change = Callable[[Page, int], "Page | int"]  # of a page and its number: the new page or -errno


class Naive(Moves):
    """One process. release: of the kernel, (6, 12)."""

    def __init__(self, release: tuple[int, int], limit: int = 65530) -> None:
        super().__init__(release, limit)
        self.shared: set[int] = set()  # kernel-made files of shared anonymous memory
        self.mergeable = False  # PR_SET_MEMORY_MERGE
        self.locks = 0  # LOCKED, ONFAULT: what MCL_FUTURE gives new mappings

    def walk(
        self,
        start: int,
        end: int,
        change: Change,
        *,
        stop_at_hole: bool = False,
        loses_tail: bool = False,
        full: int = ENOMEM,
        hole: int = ENOMEM,
    ) -> int:
        """Change [start, end) VMA by VMA; the first error ends it, a hole does or is told at the end.

        full, hole: the errno for the map limit and for a hole.
        """
        at, holes = start, False
        while at < end:
            if at not in self.pages:
                if stop_at_hole:
                    return -hole
                at, holes = at + 1, True
                continue
            stop = min(end, self.extent(at)[1])
            page = change(self.pages[at], at)
            if isinstance(page, int):
                return page
            if page != self.pages[at] and self.modify(at, stop, page, loses_tail=loses_tail):
                return -full
            at = stop
        return -hole if holes else 0

    # -- mmap, munmap, brk -----------------------------------------------------------------------

    def mmap(
        self,
        start: int,
        end: int,
        prot: int,
        kind: str,
        file: int,
        offset: int,
        *,
        more: int = 0,
        populate: bool = False,
        replace: bool = True,
    ) -> int:
        """MAP_FIXED, or MAP_FIXED_NOREPLACE.

        kind: private, shared (anonymous), file, file-shared, file-readonly (shared, opened read-only), droppable.
        more: LOCKED, NORESERVE, NOHUGE.
        """
        if len(self.starts) > self.limit:
            return -ENOMEM
        if not replace and any(n in self.pages for n in range(start, end)):
            return -EEXIST
        if kind == "file-readonly" and prot & W:
            return -EACCES
        if kind == "droppable" and (self.release < (6, 11) or more & LOCKED):
            return -EINVAL
        failed = self.remove(start, end)
        if failed:
            return failed
        more |= self.locks
        flags = prot | MAY | more
        delta = 0
        if kind in ("shared", "file-shared"):
            flags |= SHARED | MAYSHARE
        if kind == "file-readonly":
            flags = (flags | MAYSHARE) & ~MAYWRITE
        if kind == "shared":
            self.shared.add(file)
        if kind == "droppable":
            flags |= DROPPABLE | NORESERVE | WIPE | DONTDUMP
        anonymous = kind in ("private", "droppable")
        if not anonymous:
            delta = (offset if kind != "shared" else 0) - start
        if flags & (W | SHARED | NORESERVE) == W:
            flags |= ACCOUNT
        self._new_mergeable(start, end, Page(flags, 0 if anonymous else file, delta))
        if kind == "droppable" and more & LOCKED:  # MCL_FUTURE; given, and taken away once it is mapped
            for n in range(start, end):
                self.pages[n] = self.pages[n]._replace(flags=self.pages[n].flags & ~(LOCKED | ONFAULT))
        if populate or more & LOCKED:
            self.populate(start, end)
        return 0

    def shmat(self, start: int, end: int, file: int) -> int:
        """A new file each time, which has a close hook; refused where anything is mapped."""
        if any(n in self.pages for n in range(start, end)):
            return -EINVAL
        if len(self.starts) > self.limit:
            return -ENOMEM
        self.closing.add(file)
        self.new(start, end, Page(R | W | MAY | SHARED | MAYSHARE | self.locks, file, -start))
        if self.locks:
            self.populate(start, end)
        return 0

    def _new_mergeable(self, start: int, end: int, page: Page, heap: bool = False) -> None:
        """Under PR_SET_MEMORY_MERGE: mergeable before it joins since 6.17, else if it joined nothing."""
        on = self.mergeable and not page.flags & NO_KSM
        marked = page._replace(flags=page.flags | MERGEABLE) if on else page
        place = self.grow_heap if heap else self.new
        place(start, end, marked if self.release >= (6, 17) else page)
        if self.extent(start) == (start, end):
            for n in range(start, end):
                self.pages[n] = marked

    def munmap(self, start: int, end: int) -> int:
        return self.remove(start, end)

    def brk(self, heap: int, old: int, new: int) -> int:
        """The heap from page `heap` on goes from `old` pages to `new`. Returns how many it has then."""
        low, high = heap + min(old, new), heap + max(old, new)
        if new < old:
            return old if self.remove(low, high) else new
        if new > old:
            if len(self.starts) > self.limit:
                return old
            self._new_mergeable(low, high, Page(R | W | MAY | ACCOUNT | self.locks, 0, 0), heap=True)
            if self.locks:
                self.populate(low, high)
        return new

    # -- flags -----------------------------------------------------------------------------------

    def mprotect(self, start: int, end: int, prot: int) -> int:
        """Stops at the first hole, missing right or sealed page; what lies before is changed."""
        at = start
        while at < end:
            stop = min(end, self.extent(at)[1]) if at in self.pages else end
            before = self.pages.get(at)
            error = self.walk(at, stop, lambda page, n: self._protected(page, n, prot), stop_at_hole=True)
            if error:
                return error
            if before and before.flags & (W | SHARED | LOCKED) == LOCKED and prot & W and not before.flags & ONFAULT:
                self.write(at)
            at = stop
        return 0

    def _protected(self, page: Page, n: int, prot: int) -> Page | int:
        new = page.flags & ~7 | prot
        if prot & W and not page.flags & MAYWRITE:
            return -EACCES
        if page.flags & SEALED:
            return -EPERM
        if new == page.flags:
            return page
        if prot & W:
            if not page.flags & (ACCOUNT | W | SHARED | NORESERVE):
                new |= ACCOUNT
        elif self.release >= (6, 6) and page.file == 0 and not self.chains[n]:
            new &= ~ACCOUNT
        return page._replace(flags=new)

    def madvise(self, start: int, end: int, advice: int) -> int:
        """Passes over holes and says so at the end; stops at what an advice refuses."""
        on, off = ADVICE[advice]

        def change(page: Page, _: int) -> Page | int:
            if advice in (DONTFORK, WIPEONFORK) and page.flags & SEALED and page.file == 0 and not page.flags & W:
                return -EPERM
            if advice == WIPEONFORK and (page.file or page.flags & SHARED):
                return -EINVAL
            if advice == KSM_ON and page.flags & NO_KSM:
                return page
            if advice in (DODUMP, KEEPONFORK) and page.flags & DROPPABLE:
                return -EINVAL
            return page._replace(flags=page.flags & ~off | on)

        return self.walk(start, end, change, full=EAGAIN)

    def _holes(self, start: int, end: int) -> bool:
        return any(n not in self.pages for n in range(start, end))

    def mlock(self, start: int, end: int, lock: int) -> int:
        """lock: LOCKED, LOCKED | ONFAULT, or 0 for munlock."""

        error = self.walk(start, end, lambda page, _: self._locked(page, lock), stop_at_hole=True)
        if error or not lock:
            return error
        return 0 if self.populate(start, end, until_refused=True) else -ENOMEM

    @staticmethod
    def _locked(page: Page, lock: int) -> Page:
        if page.flags & DROPPABLE:
            return page
        return page._replace(flags=page.flags & ~(LOCKED | ONFAULT) | lock)

    def mlockall(self, flags: int) -> int:
        """1: MCL_CURRENT, 2: MCL_FUTURE, 4: MCL_ONFAULT; 0: munlockall."""
        if flags == 4:
            return -EINVAL
        lock = LOCKED | (ONFAULT if flags & 4 else 0)
        self.locks = lock if flags & 2 else 0
        if flags & 3 == 2:
            return 0
        for run in self.vmas():
            page = self._locked(self.pages[run.start], lock if flags & 1 else 0)
            if page != self.pages[run.start]:
                self.modify(run.start, self.extent(run.start)[1], page)
        if flags & 1 and self.pages:
            self.populate(min(self.pages), max(self.pages) + 1)
        return 0

    def guard(self, start: int, end: int) -> int:
        """MADV_GUARD_INSTALL: counts as written, VMA by VMA; locked memory takes none."""
        if self.release < (6, 13):
            return -EINVAL

        def change(page: Page, n: int) -> Page | int:
            if page.file == 0 and page.flags & SEALED and not page.flags & W:
                return -EPERM
            if page.flags & LOCKED:
                return -EINVAL
            if page.file == 0:
                self.write(n)
            self.guards.update(range(n, min(end, self.extent(n)[1])))
            return page

        return self.walk(start, end, change)

    def mseal(self, start: int, end: int) -> int:
        if self.release < (6, 10):
            return -ENOSYS
        if self._holes(start, end):
            return -ENOMEM
        return self.walk(start, end, lambda page, _: page._replace(flags=page.flags | SEALED))

    def memory_merge(self, on: bool) -> int:
        """PR_SET_MEMORY_MERGE: in place, nothing merges. What is so already is not done again."""
        if self.release < (6, 4):
            return -EINVAL
        if on == self.mergeable:
            return 0
        self.mergeable = on
        for n, page in self.pages.items():
            if not page.flags & NO_KSM:
                self.pages[n] = page._replace(flags=page.flags & ~MERGEABLE | (MERGEABLE if on else 0))
        return 0

    # -- policy, name, userfaultfd -----------------------------------------------------------------

    def mbind(self, start: int, end: int, policy: object) -> int:
        mapped = [n in self.pages for n in range(start, end)]
        if (policy is not None and not all(mapped)) or not any(mapped):
            return -EFAULT
        return self.walk(start, end, lambda page, _: page._replace(policy=policy), hole=0)

    def anon_name(self, start: int, end: int, name: str | None) -> int:
        """Refused on files; memory shared by fork has names since 6.2."""

        def change(page: Page, _: int) -> Page | int:
            if page.file and not (self.release >= (6, 2) and page.file in self.shared):
                return -EBADF
            return page._replace(name=name)

        return self.walk(start, end, change, full=EAGAIN)

    def _can_uffd(self, page: Page) -> bool:
        """Anonymous memory, private or shared; not the files of a disk, not SysV shared memory."""
        if page.flags & DROPPABLE and self.release >= (6, 13):
            return False
        return page.file == 0 or page.file in self.shared

    def uffd_register(self, start: int, end: int, ctx: int, mode: int) -> int:
        """Everything is checked, page by page, before anything changes; holes are passed over."""
        pages = [self.pages[n] for n in range(start, end) if n in self.pages]
        if not pages:
            return -EINVAL
        for page in pages:
            if not self._can_uffd(page):
                return -EINVAL
            if not page.flags & MAYWRITE:
                return -EPERM
            if page.uffd not in (0, ctx):
                return -EBUSY

        def change(page: Page, _: int) -> Page:
            if page.uffd == ctx and page.flags & mode == mode:
                return page
            return page._replace(flags=page.flags & ~UFFD | mode, uffd=ctx)

        return self._uffd_walk(start, end, change)

    def uffd_unregister(self, start: int, end: int, ctx: int) -> int:
        """Since 6.17 what another context registered is not for this one to free."""
        pages = [self.pages[n] for n in range(start, end) if n in self.pages]
        if not pages:
            return -EINVAL
        foreign = self.release >= (6, 17)
        if any(not self._can_uffd(p) or (foreign and p.uffd not in (0, ctx)) for p in pages):
            return -EINVAL
        return self._uffd_walk(start, end, lambda page, _: page._replace(flags=page.flags & ~UFFD, uffd=0))

    def uffd_release(self, ctx: int) -> None:
        """The last close: every VMA of the context, whole."""
        for run in self.vmas():
            page = self.pages[run.start]
            if page.uffd == ctx:
                self.modify(run.start, run.end, page._replace(flags=page.flags & ~UFFD, uffd=0))

    def _uffd_walk(self, start: int, end: int, change: Change) -> int:
        return self.walk(start, end, change, loses_tail=self.release < (6, 4), hole=0)

    # -- fork ------------------------------------------------------------------------------------

    def fork(self) -> None:
        """Go on as the child: no locks, no userfaultfd, and what was not to be copied is gone. Nothing merges."""
        for run in self.vmas():
            for n in range(run.start, run.end):
                if run.page.flags & DONTCOPY:
                    del self.pages[n], self.chains[n]
                    self.starts.discard(n)
                    self.guards.discard(n)
                    continue
                self.pages[n] = run.page._replace(flags=run.page.flags & ~(LOCKED | ONFAULT | UFFD), uffd=0)
                if run.page.flags & WIPE:
                    self.chains[n] = ()
                    self.guards.discard(n)
        self.inherit()
        self.locks = 0
