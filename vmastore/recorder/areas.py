"""Which page faults can matter: a rough picture of an address space, never too coarse.

A VMA that has its anon_vma keeps it through splits and merges, so after the first write fault on a
mapping no other write fault there changes anything. Here an address space is cut into pieces at every
address that a call named; a piece lies within one VMA (a VMA can hold several pieces, since merging is not
followed). A fault is dropped when its piece is known to be written, shared or not writable.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from sortedcontainers import SortedDict

from vmastore.events.types import Event, ObservedVma
from vmastore.mm.flags import PAGE_MASK, PAGE_SIZE, PMD_SIZE

_PROT_WRITE = 2
_MAP_SHARED, _MAP_ANONYMOUS, _MAP_GROWSDOWN, _MAP_FIXED = 1, 0x20, 0x100, 0x10
_MAP_TYPE = 0x0F
_MREMAP_DONTUNMAP = 4
_MADV_HUGEPAGE, _MADV_NOHUGEPAGE = 14, 15
_NOT_COPIED_AS_IS = frozenset({10, 18})  # MADV_DONTFORK, MADV_WIPEONFORK
_BY_RANGE = frozenset(
    [
        "mlock",
        "mlock2",
        "munlock",
        "mbind",
        "set_mempolicy_home_node",
        "remap_file_pages",
        "mseal",
        "msync",
        "mprotect",
        "pkey_mprotect",
    ]
)


class Piece:
    """[start, end): part of one VMA. None: not known."""

    __slots__ = ("anon", "blocks", "end", "growsdown", "huge", "shared", "start", "writable", "written")

    def __init__(
        self,
        start: int,
        end: int,
        *,
        writable: bool | None,
        shared: bool | None = False,
        anon: bool = False,
        growsdown: bool = False,
        huge: bool = False,
        written: bool = False,
    ) -> None:
        self.start = start
        self.end = end
        self.writable = writable
        self.shared = shared
        self.anon = anon
        self.growsdown = growsdown
        self.huge = huge  # MADV_HUGEPAGE
        self.written = written
        self.blocks: set[int] = set()  # of huge page size, whose first read fault was kept

    def part(self, start: int, end: int) -> Piece:
        """A piece of this piece."""
        return Piece(
            start,
            end,
            writable=self.writable,
            shared=self.shared,
            anon=self.anon,
            growsdown=self.growsdown,
            huge=self.huge,
            written=self.written,
        )


class Areas:
    """The pieces of one address space. thp: the mode of transparent huge pages."""

    def __init__(self, thp: str = "madvise") -> None:
        self._thp = thp
        self._starts: list[int] = []
        self._pieces: list[Piece] = []
        self._brk = 0
        self._faulted: SortedDict[int, int] = SortedDict()  # pages with one fault of unknown access: by which thread
        self._fork_exact = True

    # -- pieces

    def split(self, addr: int) -> None:
        """Make `addr` the border of pieces."""
        at = bisect_right(self._starts, addr) - 1
        if at < 0 or not self._pieces[at].start < addr < self._pieces[at].end:
            return
        low = self._pieces[at]
        high = low.part(addr, low.end)
        low.end = addr
        self._starts.insert(at + 1, addr)
        self._pieces.insert(at + 1, high)

    def within(self, start: int, end: int) -> list[Piece]:
        """The pieces of [start, end), after splitting at both ends."""
        self.split(start)
        self.split(end)
        return self._pieces[bisect_right(self._starts, start - 1) : bisect_right(self._starts, end - 1)]

    def cut(self, start: int, end: int) -> None:
        """Forget [start, end)."""
        if self.within(start, end):
            low, high = bisect_right(self._starts, start - 1), bisect_right(self._starts, end - 1)
            del self._starts[low:high], self._pieces[low:high]
        self._refault(start, end)

    def put(self, piece: Piece) -> None:
        """A new mapping."""
        if piece.end > piece.start:
            self.cut(piece.start, piece.end)
            at = bisect_right(self._starts, piece.start)
            self._starts.insert(at, piece.start)
            self._pieces.insert(at, piece)

    def find(self, addr: int) -> Piece | None:
        """The piece that holds `addr`."""
        at = bisect_right(self._starts, addr) - 1
        return self._pieces[at] if at >= 0 and addr < self._pieces[at].end else None

    def _above(self, addr: int) -> Piece | None:
        at = bisect_right(self._starts, addr)
        return self._pieces[at] if at < len(self._pieces) else None

    def copy(self) -> Areas:
        """The address space of a forked child."""
        child = Areas(self._thp)
        child._starts = list(self._starts)
        child._pieces = [piece.part(piece.start, piece.end) for piece in self._pieces]
        child._brk = self._brk
        child._fork_exact = self._fork_exact
        if not self._fork_exact:  # some of it was not copied, or copied as never written
            for piece in child._pieces:
                piece.written, piece.writable = False, None
        return child

    def _refault(self, start: int, end: int) -> None:
        """The pages of [start, end) may be gone: the next fault there is a first one."""
        if self._faulted:
            for page in list(self._faulted.irange(start, end, inclusive=(True, False))):
                del self._faulted[page]

    # -- what changes them

    @classmethod
    def observed(cls, lines: Iterable[ObservedVma], thp: str = "madvise") -> Areas:
        """An address space as a baseline shows it."""
        areas = cls(thp)
        for line in lines:
            flags = (line.vm_flags or "").split()
            piece = Piece(
                line.start,
                line.end,
                writable="w" in line.perms,
                shared=line.perms.endswith("s"),
                anon=line.inode == 0,
                growsdown="gd" in flags or line.name == "[stack]",
                huge="hg" in flags,
                written=bool(line.written),
            )
            areas._starts.append(line.start)
            areas._pieces.append(piece)
            if line.name == "[heap]":
                areas._brk = line.end
        return areas

    def apply(self, event: Event) -> None:
        """Follow a call of this address space, whether it succeeded or not."""
        if event.injected:
            return
        handler = _HANDLERS.get(event.call)
        if handler is not None:
            handler(self, event, event.errno == 0)

    def _mmap(self, event: Event, done: bool) -> None:
        addr, length, prot, flags, *_ = event.args
        if not done:
            if flags & _MAP_FIXED:
                self._doubt(addr, length)
            return
        if isinstance(event.result, int):
            kind = flags & _MAP_TYPE
            self.put(
                Piece(
                    event.result,
                    event.result + _round(length),
                    writable=bool(prot & _PROT_WRITE),
                    shared=kind in (_MAP_SHARED, 3),
                    anon=bool(flags & _MAP_ANONYMOUS),
                    growsdown=bool(flags & _MAP_GROWSDOWN),
                )
            )

    def _munmap(self, event: Event, done: bool) -> None:
        addr, length = event.args
        if done:
            self.cut(addr, addr + _round(length))
        else:
            self._doubt(addr, length)

    def _doubt(self, addr: int, length: int) -> None:
        """Something may have happened to a range."""
        for piece in self.within(addr & PAGE_MASK, (addr & PAGE_MASK) + _round(length)):
            piece.written, piece.writable = False, None

    def _mprotect(self, event: Event, done: bool) -> None:
        addr, length, prot, *_ = event.args
        for piece in self.within(addr, addr + _round(length)):
            piece.writable = bool(prot & _PROT_WRITE) if done else None

    def _mremap(self, event: Event, done: bool) -> None:
        addr, old, new, flags, *rest = event.args
        if not done or not isinstance(event.result, int):
            self._doubt(addr, old)
            if rest and isinstance(rest[0], int):
                self._doubt(rest[0], new)
            return
        source = self.find(addr)
        moved = source.part(event.result, event.result + _round(new)) if source else None
        if event.result == addr:
            self.cut(addr + min(_round(old), _round(new)), addr + max(_round(old), _round(new)))
        elif flags & _MREMAP_DONTUNMAP:
            for piece in self.within(addr, addr + _round(old)):
                piece.written = False
        else:
            self.cut(addr, addr + _round(old))
        if moved is None:
            self.cut(event.result, event.result + _round(new))
            return
        if event.result == addr:
            moved.start = addr + min(_round(old), _round(new))
        moved.written = False
        self.put(moved)

    def _set_brk(self, event: Event, done: bool) -> None:
        now = event.result
        if not isinstance(now, int):
            return
        before, self._brk = self._brk, now
        if not before:
            return
        low, high = sorted((_round(before), _round(now)))
        self.cut(low, high)
        if now > before:
            self.put(Piece(low, high, writable=True, anon=True))

    def _madvise(self, event: Event, done: bool) -> None:
        addr, length, advice = event.args
        if advice in _NOT_COPIED_AS_IS:
            self._fork_exact = False
        self._refault(addr, addr + length)
        for piece in self.within(addr, addr + _round(length)):
            if advice in (_MADV_HUGEPAGE, _MADV_NOHUGEPAGE):
                piece.huge = advice == _MADV_HUGEPAGE

    def _range(self, event: Event, done: bool) -> None:
        addr, length, *_ = event.args
        if isinstance(addr, int) and isinstance(length, int):
            self.within(addr & PAGE_MASK, _round(addr + length))

    def _prctl(self, event: Event, done: bool) -> None:
        _, _, addr, length, *_ = (*event.args, None, None, None, None)
        if isinstance(addr, int) and isinstance(length, int) and length:
            self.within(addr, addr + _round(length))

    def _ioctl(self, event: Event, done: bool) -> None:
        _, _, addr, length, *_ = (*event.args, None, None)
        if isinstance(addr, int) and isinstance(length, int):
            self.within(addr, addr + length)

    def _shmat(self, event: Event, done: bool) -> None:
        size = event.args[3]
        if done and isinstance(event.result, int) and isinstance(size, int):
            self.put(Piece(event.result, event.result + _round(size), writable=None, shared=True))

    def _shadow_stack(self, event: Event, done: bool) -> None:
        if done and isinstance(event.result, int):
            self.put(Piece(event.result, event.result + _round(event.args[1]), writable=None))

    # -- faults

    def keep(self, addr: int, access: str | None, tid: int = 0) -> str | None:
        """The access ("w", "r") as which a fault is to be kept; None: it cannot matter.

        access: None where the record does not tell; then only what settles a VMA's state is kept: a
        thread's second fault on a page of private memory, which is a write (it read before), and growth.
        """
        piece = self.find(addr)
        if piece is None:
            return self._outside(addr, access)
        if piece.written or piece.shared or piece.writable is False:
            return None
        if access is None:
            access = self._second(addr & PAGE_MASK, tid)
        if access == "w":
            piece.written = piece.writable is True
            return "w"
        return "r" if access == "r" and self._first_of_block(piece, addr) else None

    def wrote(self, addr: int, length: int) -> list[int]:
        """The addresses, one a piece, at which a call's write of [addr, addr+length) can matter."""
        found: list[int] = []
        end = addr + length
        while addr < end:
            if self.keep(addr, "w") is not None:
                found.append(addr)
            piece = self.find(addr)
            if piece is None:
                above = self._above(addr)
                addr = end if above is None else above.start
            else:
                addr = piece.end
        return found

    def _gup(self, event: Event, done: bool) -> None:
        addr, length, access, *_ = event.args
        if access == "w":
            self.wrote(addr, length)

    def _outside(self, addr: int, access: str | None) -> str | None:
        above = self._above(addr)
        if above is None or not above.growsdown:
            return "w" if access == "w" else None
        at = bisect_right(self._starts, addr)
        above.start = self._starts[at] = addr & PAGE_MASK
        above.written = above.writable is True
        return access or "r"

    def _second(self, page: int, tid: int) -> str | None:
        """Two threads may both fault on a page that both read, one thread does not."""
        if self._faulted.get(page) == tid:
            del self._faulted[page]
            return "w"
        self._faulted.setdefault(page, tid)
        return None

    def _first_of_block(self, piece: Piece, addr: int) -> bool:
        """Whether a read fault may be served by a huge zero page, which prepares the VMA as a write does."""
        if not piece.anon or self._thp == "never" or (self._thp == "madvise" and not piece.huge):
            return False
        block = addr // PMD_SIZE
        if block in piece.blocks:
            return False
        piece.blocks.add(block)
        return True


def _round(length: int) -> int:
    """Up to whole pages."""
    return (length + PAGE_SIZE - 1) & PAGE_MASK


_HANDLERS = {
    "mmap": Areas._mmap,
    "munmap": Areas._munmap,
    "mprotect": Areas._mprotect,
    "pkey_mprotect": Areas._mprotect,
    "mremap": Areas._mremap,
    "brk": Areas._set_brk,
    "madvise": Areas._madvise,
    "prctl": Areas._prctl,
    "ioctl": Areas._ioctl,
    "shmat": Areas._shmat,
    "map_shadow_stack": Areas._shadow_stack,
    "fault": Areas._gup,
} | dict.fromkeys(_BY_RANGE - {"mprotect", "pkey_mprotect"}, Areas._range)
