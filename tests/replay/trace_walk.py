"""Random traces of several address spaces: every kind of call that leaves something behind in the state."""

from __future__ import annotations

from random import Random

from vmastore.events import Event, FileInfo, TraceHeader

BASE, PAGE, PAGES = 0x7F0000000000, 4096, 24
FILES = {
    1: FileInfo(1, "/lib/a.so", "regular", True, True, "fe:00", 11, 1 << 20),
    2: FileInfo(2, "/memfd:b", "memfd", True, True, "00:01", 12, 1 << 20),
    3: FileInfo(3, None, "uffd"),
    4: FileInfo(4, "/lib/a.so", "regular", True, False, "fe:00", 11, 1 << 20),
}
_UFFD_WP = 2
_BIND = 2


def header(faults: str = "recorded") -> TraceHeader:
    """A header that knows the configuration."""
    config = {"max_map_count": 60, "anon_name": True, "brk0": 0x600000, "start_brk": 0x600000, "nodes": 3}
    return TraceHeader("walk", "random", "jsonl", "6.12.117", None, config, faults)


class Walk:
    """Events of a random process tree; what a call returns is left to the replay."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.spaces = [1]
        self.made = 1
        self.guests = 0
        self.seq = 0

    def events(self, count: int) -> list[Event]:
        """The next `count` events."""
        return [self._next() for _ in range(count)]

    def _next(self) -> Event:
        self.seq += 1
        mm = self.random.choice(self.spaces)
        kind = self.random.choice(_KINDS)
        if kind == "fork" and len(self.spaces) < 4:
            self.made += 1
            self.spaces.append(self.made)
            return self._event(mm, "fork", (0, self.made), result=100 + self.made)
        if kind == "vfork":
            self.guests += 1
            return self._event(mm, "vfork", (0, mm), result=500 + self.guests)
        if kind == "exec" and self.guests and len(self.spaces) < 4:
            self.made += 1
            self.spaces.append(self.made)
            return self._event(mm, "execve", ("/bin/a", [], self.made))._replace(pid=500 + self.guests)
        if kind == "exit" and len(self.spaces) > 1 and mm != 1:
            self.spaces.remove(mm)
            return self._event(mm, "exit", (0, None, 1))
        return self._call(mm, "fault" if kind in ("fork", "exit", "exec") else kind)

    def _event(
        self, mm: int, call: str, args: tuple[object, ...], result: int | None = None, file: int | None = None
    ) -> Event:
        return Event(self.seq, mm, 100 + mm, 100 + mm, None, call, args, result, 0, file)

    def _call(self, mm: int, kind: str) -> Event:
        draw = self.random
        page = draw.randrange(PAGES)
        addr, length = BASE + page * PAGE, draw.choice((1, 1, 2, 3, 6)) * PAGE
        to = BASE + draw.randrange(PAGES) * PAGE
        file = draw.choice((None, None, 1, 2, 4))
        flags = draw.choice((0x12, 0x12, 0x11)) | (0 if file else 0x20)
        calls: dict[str, tuple[str, tuple[object, ...]]] = {
            "mmap": (
                "mmap",
                (addr, length, draw.choice((3, 3, 1, 0)), flags, -1 if file is None else 5, page * PAGE),
            ),
            "fault": ("fault", (addr, length, draw.choice("wwr"), None, "user")),
            "munmap": ("munmap", (addr, length)),
            "mprotect": ("mprotect", (addr, length, draw.choice((0, 1, 3, 3)))),
            "madvise": ("madvise", (addr, length, draw.choice((1, 0, 10, 11, 14, 15, 16, 17, 18, 19)))),
            "mremap": ("mremap", (addr, PAGE, length, 3, to)),
            "grow": ("mremap", (addr, PAGE, length, draw.choice((0, 1)), 0)),
            "mlock": ("mlock2", (addr, length, draw.choice((0, 1)))),
            "munlock": ("munlock", (addr, length)),
            "mlockall": ("mlockall", (draw.choice((2, 1, 6)),)),
            "mbind": ("mbind", (addr, length, draw.choice((0, _BIND)), draw.choice((1, 3)), 64, 0)),
            "name": ("prctl", (0x53564D41, 0, addr, length, 0, draw.choice(("a", "b", None)))),
            "ksm": ("prctl", (67, draw.choice((0, 1)), 0, 0, 0)),
            "brk": ("brk", (0x600000 + draw.randrange(9) * PAGE,)),
            "mseal": ("mseal", (BASE + (PAGES - 1) * PAGE, PAGE, 0)),
            "api": ("ioctl", (9, "UFFDIO_API", None, None, None, draw.choice((0, 2)))),
            "register": ("ioctl", (9, "UFFDIO_REGISTER", addr, length, _UFFD_WP)),
            "unregister": ("ioctl", (9, "UFFDIO_UNREGISTER", addr, length)),
            "release": ("release", ()),
            "shmat": ("shmat", (7, addr, 0o40000, 2 * PAGE)),
            "shmdt": ("shmdt", (addr,)),
            "limit": ("prlimit64", (draw.choice((0, 101, 102, 103)), draw.choice((3, 8, 9)), 64 * PAGE, -1)),
            "personality": ("personality", (draw.choice((0, 0x400000)),)),
        }
        call, args = calls[kind]
        number = file if kind == "mmap" else 3 if kind in ("api", "register", "unregister", "release") else None
        if kind == "mprotect" and draw.random() < 0.1:  # refused, whatever the model thinks
            return self._event(mm, call, args)._replace(errno=12)
        return self._event(mm, call, args, file=number)


_WEIGHTS = {
    "mmap": 8, "fault": 8, "munmap": 3, "mprotect": 6, "madvise": 3, "mremap": 3, "grow": 2, "mlock": 1, "munlock": 1,
    "mlockall": 1, "mbind": 2, "name": 2, "ksm": 1, "brk": 1, "mseal": 1, "api": 1, "register": 3, "unregister": 1,
    "release": 1, "shmat": 1, "shmdt": 1, "personality": 1, "limit": 1, "fork": 2, "exit": 1, "vfork": 1, "exec": 1,
}  # fmt: skip
_KINDS = [kind for kind, weight in _WEIGHTS.items() for _ in range(weight)]
