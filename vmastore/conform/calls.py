"""Which calls to make: seeded random ones that build on what is mapped, and scripted batteries."""

from __future__ import annotations

import random
from typing import Any

from vmastore.conform.kernel import BASE, END, FILE_PAGES, PAGE, PAGES

Call = tuple[str, list[Any]]
_ADVICE = (0, 1, 2, 3, 4, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 12, 13)
_PROTS = (3, 3, 3, 1, 1, 0, 5, 7)

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
}


class Chooser:
    """Random calls; `lines` is the arena as it was last read."""

    def __init__(self, seed: int, *, uffd: bool, mseal: bool) -> None:
        self.rng = random.Random(seed)
        self.uffd = uffd
        self.mseal = mseal

    def next(self, lines: list[list[Any]]) -> Call:
        """The next call. Touches go only where they are permitted and nobody waits for them."""
        rng = self.rng
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
        safe = [v for v in lines if v[2][0] == "r" and not set(v[7].split()) & {"um", "uw", "gu", "ui"}]
        if not safe:
            return None
        line = self.rng.choice(safe)
        page = self.rng.randrange((line[1] - line[0]) // PAGE)
        if line[5] and line[3] // PAGE + page >= FILE_PAGES:
            return None  # behind the end of the file
        write = line[2][1] == "w" and self.rng.random() < 0.8
        return "fault", [line[0] + page * PAGE, PAGE, "w" if write else "r", None, "user"]
