"""A naive address space: one record a page, nothing merged, nothing split.

Written from the description of the calls, with no look at the merge code. While no page has been
written, the kernel's VMAs are exactly the maximal runs of pages that are alike and contiguous in
their file; once pages are written, they are at least never longer than such runs.
"""

from __future__ import annotations

from errno import EACCES, EBADF, EBUSY, EFAULT, EINVAL, ENOMEM, ENOSYS, EPERM
from typing import NamedTuple

R, W, X, SHARED = 1, 2, 4, 8
MAYWRITE, MAYSHARE = 0x20, 0x80
MAY = 0x70
ACCOUNT, NORESERVE, LOCKED, ONFAULT = 0x100000, 0x200000, 0x2000, 0x80000
DONTCOPY, DONTDUMP, SEQ, RAND, WIPE = 0x20000, 0x4000000, 0x8000, 0x10000, 0x2000000
HUGE, NOHUGE, MERGEABLE, SEALED = 0x20000000, 0x40000000, 0x80000000, 1 << 42

UFFD_MISSING, UFFD_WP = 0x200, 0x1000
UFFD = UFFD_MISSING | UFFD_WP

ADVICE = {
    0: (0, SEQ | RAND),
    1: (RAND, SEQ),
    2: (SEQ, RAND),
    10: (DONTCOPY, 0),
    11: (0, DONTCOPY),
    14: (HUGE, NOHUGE),
    15: (NOHUGE, HUGE),
    16: (DONTDUMP, 0),
    17: (0, DONTDUMP),
    18: (WIPE, 0),
    19: (0, WIPE),
}


class Page(NamedTuple):
    """What must be equal for two pages to lie in one VMA."""

    flags: int
    file: int  # 0: anonymous
    offset: int  # page number in the file minus page number in memory
    policy: object = None
    name: str | None = None
    uffd: int = 0  # userfaultfd context


class Naive:
    """Pages by number. Calls return 0 (or an address for mmap) or -errno, and have their partial effects."""

    def __init__(
        self, *, drops_account: bool, has_mseal: bool, names_shmem: bool, own_uffd: bool, checks_first: bool
    ) -> None:
        self.pages: dict[int, Page] = {}
        self.shared: set[int] = set()  # kernel-made files of shared anonymous memory
        self.drops_account = drops_account
        self.has_mseal = has_mseal
        self.names_shmem = names_shmem
        self.own_uffd = own_uffd  # UFFDIO_UNREGISTER of another context's pages is refused
        self.checks_first = checks_first  # mremap checks everything before it unmaps anything

    def runs(self) -> list[tuple[int, int, Page]]:
        """(first page, page behind the last, what they are) of maximal runs."""
        found: list[tuple[int, int, Page]] = []
        for number, page in sorted(self.pages.items()):
            if found and found[-1][1] == number and found[-1][2] == page:
                found[-1] = (found[-1][0], number + 1, page)
            else:
                found.append((number, number + 1, page))
        return found

    def sealed(self, start: int, end: int) -> bool:
        return any(n in self.pages and self.pages[n].flags & SEALED for n in range(start, end))

    def mmap(self, start: int, end: int, prot: int, kind: str, file: int, offset: int, noreserve: bool) -> int:
        """kind: private, shared (anonymous), file, file-shared, file-readonly (shared, opened read-only)."""
        if kind == "file-readonly" and prot & W:
            return -EACCES
        if self.sealed(start, end):
            return -EPERM
        flags = prot | MAY | (NORESERVE if noreserve else 0)
        delta = 0
        if kind in ("shared", "file-shared"):
            flags |= SHARED | MAYSHARE
        if kind == "file-readonly":
            flags = (flags | MAYSHARE) & ~MAYWRITE
        if kind == "shared":
            self.shared.add(file)
        if kind.startswith("file") or kind == "shared":
            delta = (offset if kind != "shared" else 0) - start
        if flags & (W | SHARED | NORESERVE) == W:
            flags |= ACCOUNT
        for n in range(start, end):
            self.pages[n] = Page(flags, file if kind != "private" else 0, delta)
        return 0

    def munmap(self, start: int, end: int) -> int:
        if self.sealed(start, end):
            return -EPERM
        for n in range(start, end):
            self.pages.pop(n, None)
        return 0

    def mprotect(self, start: int, end: int, prot: int) -> int:
        """Stops at the first hole, missing right or sealed page; what lies before is changed."""
        for n in range(start, end):
            page = self.pages.get(n)
            if page is None:
                return -ENOMEM
            new = page.flags & ~7 | prot
            if prot & W and not page.flags & MAYWRITE:
                return -EACCES
            if page.flags & SEALED:
                return -EPERM
            if new != page.flags:
                if prot & W:
                    if not page.flags & (ACCOUNT | W | SHARED | NORESERVE):
                        new |= ACCOUNT
                elif page.flags & ACCOUNT and self.drops_account and page.file == 0:
                    new &= ~ACCOUNT
            self.pages[n] = page._replace(flags=new)
        return 0

    def madvise(self, start: int, end: int, advice: int) -> int:
        """Passes over holes and says so at the end; stops at what an advice refuses."""
        on, off = ADVICE[advice]
        hole = False
        for n in range(start, end):
            page = self.pages.get(n)
            if page is None:
                hole = True
                continue
            destructive = advice in (10, 18)
            if destructive and page.flags & SEALED and page.file == 0 and not page.flags & W:
                return -EPERM
            if advice == 18 and (page.file or page.flags & SHARED):
                return -EINVAL
            self.pages[n] = page._replace(flags=page.flags & ~off | on)
        return -ENOMEM if hole else 0

    def mlock2(self, start: int, end: int, lock: bool) -> int:
        """With MLOCK_ONFAULT, so that nothing is written."""
        for n in range(start, end):
            page = self.pages.get(n)
            if page is None:
                return -ENOMEM
            flags = page.flags & ~(LOCKED | ONFAULT)
            self.pages[n] = page._replace(flags=flags | LOCKED | ONFAULT if lock else flags)
        return 0

    def mbind(self, start: int, end: int, policy: object) -> int:
        mapped = [n in self.pages for n in range(start, end)]
        if (policy is not None and not all(mapped)) or not any(mapped):
            return -EFAULT
        for n in range(start, end):
            if n in self.pages:
                self.pages[n] = self.pages[n]._replace(policy=policy)
        return 0

    def anon_name(self, start: int, end: int, name: str | None) -> int:
        hole = False
        for n in range(start, end):
            page = self.pages.get(n)
            if page is None:
                hole = True
                continue
            if page.file and not (self.names_shmem and page.file in self.shared):
                return -EBADF
            self.pages[n] = page._replace(name=name)
        return -ENOMEM if hole else 0

    def can_uffd(self, page: Page) -> bool:
        """Anonymous memory, private or shared; not the files of a disk."""
        return page.file == 0 or page.file in self.shared

    def uffd_register(self, start: int, end: int, ctx: int, mode: int) -> int:
        """Everything is checked, page by page, before anything changes; holes are passed over."""
        pages = {n: self.pages[n] for n in range(start, end) if n in self.pages}
        if not pages:
            return -EINVAL
        for page in pages.values():
            if not self.can_uffd(page):
                return -EINVAL
            if not page.flags & MAYWRITE:
                return -EPERM
            if page.uffd not in (0, ctx):
                return -EBUSY
        for n, page in pages.items():
            if page.uffd != ctx or page.flags & mode != mode:
                self.pages[n] = page._replace(flags=page.flags & ~UFFD | mode, uffd=ctx)
        return 0

    def uffd_unregister(self, start: int, end: int, ctx: int) -> int:
        pages = {n: self.pages[n] for n in range(start, end) if n in self.pages}
        if not pages:
            return -EINVAL
        for page in pages.values():
            if not self.can_uffd(page) or (self.own_uffd and page.uffd not in (0, ctx)):
                return -EINVAL
        for n, page in pages.items():
            self.pages[n] = page._replace(flags=page.flags & ~UFFD, uffd=0)
        return 0

    def mremap(self, start: int, end: int, target: int) -> int:
        """MREMAP_FIXED to another place, same length. Assumes one run of pages, none sealed, no userfaultfd."""
        shift = start - target
        moved = [self.pages[n] for n in range(start, end)]
        for n in range(target, target + end - start):
            self.pages.pop(n, None)
        for n in range(start, end):
            self.pages.pop(n, None)
        for n, page in enumerate(moved, target):
            self.pages[n] = page if page.file == 0 else page._replace(offset=page.offset + shift)
        return 0

    def brk(self, heap: int, count: int) -> None:
        """The heap has `count` pages from page `heap` on."""
        for n in range(heap, heap + 64):
            if n < heap + count:
                self.pages.setdefault(n, Page(R | W | MAY | ACCOUNT, 0, 0))
            else:
                self.pages.pop(n, None)

    def fork(self) -> None:
        """Go on as the child: no locks, no userfaultfd, and what was not to be copied is gone."""
        for n, page in list(self.pages.items()):
            if page.flags & DONTCOPY:
                del self.pages[n]
            else:
                self.pages[n] = page._replace(flags=page.flags & ~(LOCKED | ONFAULT | UFFD), uffd=0)

    def mseal(self, start: int, end: int) -> int:
        if not self.has_mseal:
            return -ENOSYS
        if any(n not in self.pages for n in range(start, end)):
            return -ENOMEM
        for n in range(start, end):
            self.pages[n] = self.pages[n]._replace(flags=self.pages[n].flags | SEALED)
        return 0
