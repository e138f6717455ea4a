"""Random calls: chosen from what the arena shows, so that they meet VMAs, their edges and their holes.

Each sequence leaves some kinds of calls out (swarm testing): a kind that often undoes what another
does would hide it if it always ran beside it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from vmastore.conform.arena import BASE, PAGE
from vmastore.conform.operations import Op
from vmastore.conform.worker import NO_FD, UFFDS
from vmastore.events import ObservedVma
from vmastore.syscalls import uapi

_ALWAYS = {"mmap": 22, "munmap": 7, "mprotect": 16, "touch": 12}
_SOMETIMES = {
    "madvise": 14,
    "mremap": 14,
    "mlock": 5,
    "mlock2": 3,
    "munlock": 5,
    "munlockall": 1,
    "mbind": 8,
    "set_mempolicy_home_node": 2,
    "anon_name": 8,
    "uffd": 10,
    "mseal": 2,
    "shm": 4,
    "remap_file_pages": 2,
    "pkey_mprotect": 3,
    "msync": 1,
    "fork": 2,
}
# kind of call -> the facts' name for what may forbid it
_NEEDS = {
    "mlock": "mlock",
    "mlock2": "mlock2",
    "munlock": "munlock",
    "mbind": "mbind",
    "set_mempolicy_home_node": "set_mempolicy_home_node",
    "uffd": "userfaultfd",
    "mseal": "mseal",
    "shm": "SysV shared memory",
    "remap_file_pages": "remap_file_pages",
}
_FLAG_ADVICE = (0, 1, 2, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
_OTHER_ADVICE = (3, 4, 8, 9, 20, 21, 22, 23, 24, 102, 103, 5, 60)
_NAMES = ("", "alpha", "beta", "a long name of several words", None, None, "bad[name]")
_MODES = (0, 0, 1, 2, 2, 3, 4, 5, 6, 1 | uapi.MPOL_F_STATIC_NODES)
_HUGE = -PAGE & (1 << 64) - 1
_MAX_DEPTH = 3


class Generator:
    """Calls for one sequence. skipped: what the kernel or a limit does not allow."""

    def __init__(self, seed: str, skipped: dict[str, str]) -> None:
        self.random = random.Random(seed)
        self.pages = self.random.choice((12, 16, 16, 32, 64))
        self.errors = self.random.choice((0.0, 0.02, 0.1))
        self.locks = "mlock" not in skipped and self.random.random() < 0.4
        self.exec_only = "execute-only pages" not in skipped
        self.depth = 0
        weights = dict(_ALWAYS)
        for kind, weight in _SOMETIMES.items():
            if _NEEDS.get(kind, kind) not in skipped and self.random.random() < 0.45:
                weights[kind] = weight
        self._kinds = list(weights)
        self._weights = list(weights.values())
        self._lines: list[ObservedVma] = []

    def next(self, lines: list[ObservedVma], depth: int) -> Op:
        """The next call. lines: what the arena shows; depth: how many children deep."""
        self._lines, self.depth = lines, depth
        kind = self.random.choices(self._kinds, self._weights)[0]
        if depth and self._one_in(12):
            return Op("exit")
        make: Callable[[], Op] = getattr(self, f"_{kind}", None) or (lambda: Op(kind, self._range()))
        return make()

    # -- choosing ----------------------------------------------------------------------------------

    def _one_in(self, n: int) -> bool:
        return self.random.randrange(n) == 0

    def _wrong(self) -> bool:
        return self.random.random() < self.errors

    @property
    def _end(self) -> int:
        return BASE + self.pages * PAGE

    def _anywhere(self) -> tuple[int, int]:
        """A range of the arena, often with an edge where a VMA has one."""
        first = self.random.randrange(self.pages)
        count = self.random.choice((1, 1, 2, 2, 3, 4, 6, 9))
        start, end = BASE + first * PAGE, BASE + (first + count) * PAGE
        if self._lines and not self._one_in(3):
            line = self.random.choice(self._lines)
            start = self.random.choice((line.start, line.end, line.start - count * PAGE))
            end = start + count * PAGE
        start = min(max(start, BASE), self._end - PAGE)
        return start, max(min(end, self._end), start + PAGE) - start

    def _mapped(self) -> tuple[int, int]:
        """A range that meets a VMA: all of it, its head, tail or middle, or on into what follows."""
        lines = [line for line in self._lines if BASE <= line.start < self._end]
        if not lines or self._one_in(8):
            return self._anywhere()
        line = self.random.choice(lines)
        pages = (min(line.end, self._end) - line.start) // PAGE
        first = self.random.choice((0, 0, self.random.randrange(pages)))
        last = self.random.choice((pages, pages, self.random.randint(first + 1, pages)))
        if self._one_in(5):
            last += self.random.randint(1, 4)
        start = line.start + first * PAGE
        return start, max(min(line.start + last * PAGE, self._end) - start, PAGE)

    def _range(self) -> tuple[int, int]:
        """A range for a call that changes what is there; now and then one that no call accepts."""
        start, length = self._mapped()
        if self._wrong():
            return self.random.choice(((start + 1, length), (start, 0), (start, _HUGE), (start + 40, PAGE)))
        return start, length

    def _prot(self) -> int:
        prots = (0, 1, 1, 3, 3, 3, 3, 5, 7) + ((4,) if self.exec_only else ())
        return self.random.choice(prots)

    # -- calls -------------------------------------------------------------------------------------

    def _mmap(self) -> Op:
        addr, length = self._anywhere()
        flags, slot, offset = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS, NO_FD, 0
        chance = self.random.random()
        if chance < 0.3:
            flags = self.random.choice((uapi.MAP_PRIVATE, uapi.MAP_PRIVATE, uapi.MAP_SHARED))
            slot = self.random.choice((0, 0, 1, 2, 3, 4, 4, 5, 6))
            offset = (addr - BASE) % (16 * PAGE) if not self._one_in(3) else self.random.randrange(8) * PAGE
        elif chance < 0.38:
            flags = uapi.MAP_SHARED | uapi.MAP_ANONYMOUS
        flags |= self._placement() | self._options(flags)
        op = (addr, length, self._prot(), flags, slot, offset)
        return Op("mmap", self._spoil(op) if self._wrong() else op)

    def _placement(self) -> int:
        choices = (uapi.MAP_FIXED,) * 14 + (uapi.MAP_FIXED_NOREPLACE,) * 2 + (0,) * 3
        return self.random.choice(choices)

    def _options(self, flags: int) -> int:
        extra = uapi.MAP_NORESERVE if self._one_in(16) else 0
        extra |= uapi.MAP_STACK if self._one_in(30) else 0
        extra |= uapi.MAP_POPULATE if self._one_in(25) else 0
        extra |= uapi.MAP_LOCKED if self.locks and self._one_in(10) else 0
        if flags == uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS:
            extra |= uapi.MAP_GROWSDOWN if self._one_in(40) else 0
            extra ^= (uapi.MAP_DROPPABLE ^ uapi.MAP_PRIVATE) if self._one_in(60) else 0
        return extra

    def _spoil(self, op: tuple[int, ...]) -> tuple[int, ...]:
        """One argument that the kernel refuses."""
        addr, length, prot, flags, slot, offset = op
        return self.random.choice(
            (
                (addr, 0, prot, flags, slot, offset),
                (addr, _HUGE, prot, flags, slot, offset),
                (addr + 8, length, prot, flags | uapi.MAP_FIXED, slot, offset),
                (addr, length, prot, flags & ~uapi.MAP_TYPE, slot, offset),
                (addr, length, prot, flags, slot, offset + 100),
                (addr, length, prot, flags & ~uapi.MAP_ANONYMOUS, NO_FD, offset),
                (addr, length, 3, flags & ~0x2F | uapi.MAP_SHARED, 2, 0),
            )
        )

    def _mprotect(self) -> Op:
        prot = self._prot() | (uapi.PROT_GROWSDOWN if self._wrong() else 0)
        return Op("mprotect", (*self._range(), prot))

    def _pkey_mprotect(self) -> Op:
        return Op("pkey_mprotect", (*self._range(), self._prot(), -1))

    def _madvise(self) -> Op:
        advice = self.random.choice(_FLAG_ADVICE if not self._one_in(3) else _OTHER_ADVICE)
        return Op("madvise", (*self._range(), advice))

    def _mremap(self) -> Op:
        addr, old = self._mapped()
        target, _ = self._anywhere()
        new = self.random.choice((old, old, old, old + PAGE, old + 3 * PAGE, max(PAGE, old - PAGE), PAGE))
        move, fixed, keep = uapi.MREMAP_MAYMOVE, uapi.MREMAP_FIXED, uapi.MREMAP_DONTUNMAP
        flags = self.random.choice((0, 0, move, move | fixed, move | fixed, move | fixed, move | fixed | keep))
        if flags & keep and not self._one_in(6):
            new = old
        if self._one_in(20):
            old = 0
        if flags & fixed:
            new = min(new, self._end - target)
            if flags == move | fixed and not self._one_in(3):
                old = old and new
        args = [addr, old, new, flags, target if flags & fixed else 0]
        if self._wrong():
            args[self.random.randrange(5)] += self.random.choice((1, 8, PAGE - 1))
        return Op("mremap", tuple(args))

    def _munlockall(self) -> Op:
        return Op("munlockall")

    def _mlock2(self) -> Op:
        return Op("mlock2", (*self._range(), self.random.choice((0, 1, 1, 1)) | (2 if self._wrong() else 0)))

    def _mbind(self) -> Op:
        mode = self.random.choice(_MODES)
        mask = 0 if mode in (0, 4) or (mode == 1 and self._one_in(5)) else 1
        flags = self.random.choice((0, 0, 0, 0, uapi.MPOL_MF_MOVE))
        if self._wrong():
            mask, mode = self.random.choice(((1, 0), (0, 2), (2, 2), (1, 9), (1, 4)))
        return Op("mbind", (*self._range(), mode, mask, 8 if mask else 0, flags))

    def _set_mempolicy_home_node(self) -> Op:
        return Op("set_mempolicy_home_node", (*self._range(), 77 if self._wrong() else 0, 0))

    def _anon_name(self) -> Op:
        return Op("anon_name", self._range(), self.random.choice(_NAMES))

    def _uffd(self) -> Op:
        slot = self.random.randrange(UFFDS)
        if self._one_in(6):
            return Op("uffd_open", (slot,))
        if self._one_in(3):
            return Op("uffd_unregister", (slot, *self._range()))
        return Op("uffd_register", (slot, *self._range(), self.random.choice((1, 1, 1, 2, 3, 4, 0))))

    def _mseal(self) -> Op:
        start, length = self._range()
        return Op("mseal", (start, min(length, 2 * PAGE) if length != _HUGE else length, 1 if self._wrong() else 0))

    def _shm(self) -> Op:
        start, _ = self._anywhere()
        if self._one_in(3):
            start = self.random.choice(self._lines).start if self._lines else start
            return Op("shmdt", (start,))
        flags = self.random.choice((0, uapi.SHM_REMAP, uapi.SHM_REMAP, uapi.SHM_RDONLY | uapi.SHM_REMAP))
        return Op("shmat", (min(start, self._end - 4 * PAGE), flags))

    def _remap_file_pages(self) -> Op:
        start, length = self._mapped()
        return Op("remap_file_pages", (start, length, 1 if self._wrong() else 0, self.random.randrange(8), 0))

    def _msync(self) -> Op:
        return Op("msync", (*self._mapped(), self.random.choice((1, 4))))

    def _touch(self) -> Op:
        start, length = self._mapped()
        return Op("touch", (start, min(length, 4 * PAGE), self.random.choice((0, 1, 1, 1))))

    def _fork(self) -> Op:
        return Op("fork") if self.depth < _MAX_DEPTH else Op("exit")
