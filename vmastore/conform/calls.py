"""Which calls to make: seeded random ones that build on what is mapped, and scripted batteries."""

from __future__ import annotations

import random
from typing import Any

from vmastore.conform.kernel import BASE, END, FILE_PAGES, PAGE, PAGES, SHM_PAGES, SHM_SIZE

Call = tuple[str, list[Any]]
_ADVICE = (0, 1, 2, 3, 4, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 12, 13)
_GUARD = (102, 102, 103)
_PROTS = (3, 3, 3, 1, 1, 0, 5, 7)
_SIGCHLD = 17
MOST_FORKS = 60  # of one process: the number of a child's address space tells its place

# Batteries that change the whole process: each runs in a child of its own.
SCRIPTS: dict[str, list[Call]] = {
    "mlockall": [
        ("mmap", [BASE, 4 * PAGE, 3, 0x32, -1, 0]),
        ("mmap", [BASE + 4 * PAGE, 4 * PAGE, 1, 0x32, -1, 0]),
        ("mlock2", [BASE + PAGE, PAGE, 1]),
        ("mlockall", [1]),
        ("munlockall", []),
        ("mlockall", [2]),
        ("mmap", [BASE + 8 * PAGE, 4 * PAGE, 3, 0x32, -1, 0]),
        ("munlockall", []),
        ("mmap", [BASE + 12 * PAGE, 4 * PAGE, 3, 0x32, -1, 0]),
    ],
    "PR_SET_MEMORY_MERGE": [
        ("mmap", [BASE, 4 * PAGE, 3, 0x32, -1, 0]),
        ("mmap", [BASE + 8 * PAGE, 4 * PAGE, 1, 0x21 | 0x10, -1, 0]),
        ("prctl", [67, 1, 0, 0, 0]),
        ("mmap", [BASE + 4 * PAGE, 2 * PAGE, 3, 0x32, -1, 0]),
        ("mmap", [BASE + 6 * PAGE, 2 * PAGE, 3, 0x32, -1, 0]),
        ("mprotect", [BASE + PAGE, PAGE, 1]),
        ("mprotect", [BASE + PAGE, PAGE, 3]),
        ("prctl", [67, 0, 0, 0, 0]),
        ("mprotect", [BASE + 5 * PAGE, PAGE, 1]),
    ],
    "guard pages": [
        ("mmap", [BASE, 8 * PAGE, 3, 0x32, -1, 0]),
        ("fault", [BASE + 2 * PAGE, PAGE, "w", None, "kernel"]),
        ("madvise", [BASE + 2 * PAGE, 2 * PAGE, 102]),
        *(("fault", [BASE + n * PAGE, PAGE, "r", None, "kernel"]) for n in range(1, 5)),
        ("madvise", [BASE, 8 * PAGE, 4]),  # DONTNEED keeps them
        ("fault", [BASE + 2 * PAGE, PAGE, "r", None, "kernel"]),
        ("madvise", [BASE, 8 * PAGE, 23]),  # so does POPULATE_WRITE, which fails
        ("mprotect", [BASE + 3 * PAGE, 3 * PAGE, 1]),
        ("mprotect", [BASE + 3 * PAGE, 3 * PAGE, 3]),
        ("fault", [BASE + 3 * PAGE, PAGE, "w", None, "kernel"]),
        ("mremap", [BASE + 2 * PAGE, 4 * PAGE, 4 * PAGE, 3, BASE + 20 * PAGE]),  # they move
        *(("fault", [BASE + n * PAGE, PAGE, "w", None, "kernel"]) for n in (20, 21, 22)),
        ("mremap", [BASE + 20 * PAGE, 4 * PAGE, 4 * PAGE, 7, BASE + 30 * PAGE]),  # the source has none then
        *(("fault", [BASE + n * PAGE, PAGE, "w", None, "kernel"]) for n in (20, 21, 30, 31, 32)),
        ("mlock", [BASE + 30 * PAGE, 4 * PAGE]),  # locked, though the pages could not be faulted in
        ("madvise", [BASE + 33 * PAGE, PAGE, 102]),
        ("madvise", [BASE + 31 * PAGE, PAGE, 103]),
        *(("fault", [BASE + n * PAGE, PAGE, "w", None, "kernel"]) for n in (30, 31)),
        ("munmap", [BASE + 30 * PAGE, PAGE]),
        ("mmap", [BASE + 30 * PAGE, PAGE, 3, 0x32, -1, 0]),  # a new page is no guard page
        ("fault", [BASE + 30 * PAGE, PAGE, "w", None, "kernel"]),
        ("mmap", [BASE + 40 * PAGE, 4 * PAGE, 1, 2 | 0x10, 1, 0]),
        ("madvise", [BASE + 41 * PAGE, PAGE, 102]),  # of a file
        *(("fault", [BASE + n * PAGE, PAGE, "r", None, "kernel"]) for n in (40, 41)),
    ],
}


class Chooser:
    """Random calls; `lines` is the arena as it was last read."""

    def __init__(self, seed: int, *, uffd: bool, mseal: bool, shm: bool = False, mm: int = 1) -> None:
        """mm: the number of the address space the calls are for; 1 is the first, 64 n + k the k-th child of n."""
        self.rng = random.Random(seed)
        self.uffd = uffd
        self.mseal = mseal
        self.shm = shm
        self.mm = mm
        self.forks = 0

    def child(self, mm: int) -> Chooser:
        """Calls for a child that a fork made. Those of the userfaultfd that it inherits change its parent."""
        return Chooser(self.rng.randrange(1 << 30), uffd=self.uffd, mseal=self.mseal, shm=self.shm, mm=mm)

    def next(self, lines: list[list[Any]]) -> Call:
        """The next call. Touches go only where they are permitted and nobody waits for them."""
        rng = self.rng
        if rng.random() < 0.06:
            return self._rare(lines)
        kind = rng.random()
        start, length = self._range(lines)
        if kind < 0.26:
            return self._mmap()
        if kind < 0.34:
            return "munmap", [start, length]
        if kind < 0.52:
            return "mprotect", [start, length, rng.choice(_PROTS)]
        if kind < 0.66:
            return "madvise", [start, length, rng.choice(_ADVICE)]
        if kind < 0.78:
            return self._touch(lines) or self._mmap()
        if kind < 0.86:
            return self._mremap(start, length)
        if kind < 0.91:
            return rng.choice(("mlock", "munlock")), [start, length]
        if kind < 0.95:
            mode = rng.choice((0, 1, 2, 3, 4))
            return "mbind", [start, length, mode, 1 if mode in (1, 2, 3) else None, 8 if mode in (1, 2, 3) else 0, 0]
        if kind < 0.97:
            return "prctl", [0x53564D41, 0, start, length, 0, rng.choice((None, "one", "two"))]
        if kind < 0.995 and self.uffd:
            if rng.random() < 0.6:
                return "ioctl", [9, "UFFDIO_REGISTER", start, length, rng.choice((1, 2, 3)), None]
            return "ioctl", [9, "UFFDIO_UNREGISTER", start, length, None, None]
        if self.mseal and rng.random() < 0.3:
            return "mseal", [start, PAGE, 0]
        return "mlock2", [start, length, rng.choice((0, 1))]

    def _rare(self, lines: list[list[Any]]) -> Call:
        """Forks, guard pages, SysV segments."""
        rng = self.rng
        start, length = self._range(lines)
        kind = rng.random()
        if kind < 0.15 and self.forks < MOST_FORKS and self.mm < 64:
            self.forks += 1
            return "fork", [_SIGCHLD, 64 * self.mm + self.forks]
        if kind < 0.6 or not self.shm:
            return "madvise", [start, min(length, 4 * PAGE), rng.choice(_GUARD)]
        segments = [line[0] for line in lines if line[6].startswith("/SYSV")]
        if segments and kind < 0.75:
            return "shmdt", [rng.choice(segments)]
        page = rng.randrange(PAGES - SHM_PAGES)
        return "shmat", [0, BASE + page * PAGE, rng.choice((0o40000, 0o40000, 0, 0o50000)), SHM_SIZE]

    def _range(self, lines: list[list[Any]]) -> tuple[int, int]:
        """Often the edges of something mapped, sometimes anywhere."""
        rng = self.rng
        if lines and rng.random() < 0.8:
            line = rng.choice(lines)
            pages = (line[1] - line[0]) // PAGE
            first = 0 if rng.random() < 0.5 else rng.randrange(pages)
            count = pages - first if rng.random() < 0.4 else rng.randint(1, pages - first + 2)
            start = line[0] + first * PAGE
        else:
            start, count = BASE + rng.randrange(PAGES) * PAGE, rng.randint(1, 8)
        return start, min(count * PAGE, END - start)

    def _mmap(self) -> Call:
        rng = self.rng
        page = rng.randrange(PAGES)
        length = min(rng.randint(1, 10), PAGES - page) * PAGE
        fixed = 0x10 if rng.random() < 0.85 else 0x100000
        file = rng.choice((0, 0, 0, 1, 2, 3, 4))
        flags = fixed | rng.choice((0, 0, 0, 0, 0x4000, 0x20000, 0x8000))
        if file:
            offset = page % FILE_PAGES if rng.random() < 0.7 else rng.randrange(8)
            kind = rng.choice((1, 2, 2))
            return "mmap", [BASE + page * PAGE, length, rng.choice(_PROTS), flags | kind, file, offset * PAGE]
        kind = rng.choice((0x22, 0x22, 0x22, 0x22, 0x21))
        return "mmap", [BASE + page * PAGE, length, rng.choice(_PROTS), flags | kind, -1, 0]

    def _mremap(self, start: int, length: int) -> Call:
        rng = self.rng
        target = BASE + rng.randrange(PAGES) * PAGE
        size = min(length, END - target)
        way = rng.random()
        if way < 0.3:
            return "mremap", [start, length, min(length + PAGE * rng.randint(1, 3), END - start), 0, 0]
        if way < 0.45:
            return "mremap", [start, length, max(PAGE, length - PAGE), 0, 0]
        if way < 0.6:
            return "mremap", [start, size, size, 7, target]
        return "mremap", [start, size, size, 3, target]

    def _touch(self, lines: list[list[Any]]) -> Call | None:
        safe = [v for v in lines if may_touch(v, write=False)]
        if not safe:
            return None
        line = self.rng.choice(safe)
        page = self.rng.randrange((line[1] - line[0]) // PAGE)
        write = may_touch(line, write=True) and self.rng.random() < 0.8
        return "fault", [line[0] + page * PAGE, PAGE, "w" if write else "r", None, "kernel"]


def may_touch(line: list[Any], *, write: bool) -> bool:
    """Whether an access is permitted, and nobody waits for it (a userfaultfd)."""
    return line[2][1 if write else 0] == ("w" if write else "r") and not set(line[7].split()) & {"um", "uw", "ui"}


def touches(lines: list[list[Any]], args: list[Any]) -> bool:
    """Whether the access of a `fault` may be made in the arena that `lines` shows."""
    line = next((v for v in lines if v[0] <= args[0] < v[1]), None)
    return line is not None and may_touch(line, write=args[2] == "w")
