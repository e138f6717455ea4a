"""The live checks as calls on the engine: what the program behind tests/data/live-checks did.

Each scenario is a generator: it makes its calls and yields (check, got, lines) wherever the program
printed a check. `got` is a number of VMAs, an errno or a yes/no; `lines` is what the program had last
read of maps, in pages (None: it depends on where the heap was).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from layout import at
from process import NONE, RW, RWX, Process, R

from vmastore.syscalls import uapi

Check = tuple[str, int, str | None]
Scenario = Callable[["Live"], Iterator[Check]]
SHARED_ANON = uapi.MAP_SHARED | uapi.MAP_ANONYMOUS
DONTUNMAP = uapi.MREMAP_DONTUNMAP


class Live(Process):
    """A process that remembers the last maps it read."""

    shown = ""

    def count(self, check: str, first: int, end: int) -> Check:
        """A check of how many VMAs meet pages [first, end)."""
        self.shown = self.lines(first, end)
        return check, self.shown.count("["), self.shown

    def says(self, check: str, got: int) -> Check:
        return check, got, self.shown

    def errno(self, check: str, result: int) -> Check:
        return self.says(check, max(0, -result))

    def clear(self) -> None:
        self.munmap(0, 256)


def new_mappings(p: Live) -> Iterator[Check]:
    p.mmap(0, 1), p.mmap(1, 1)
    yield p.count("01", 0, 2)
    p.clear(), p.mmap(0, 1), p.write(0), p.mmap(1, 1)
    yield p.count("02", 0, 2)
    p.clear(), p.mmap(0, 1), p.mmap(2, 1), p.write(0), p.write(2), p.mmap(1, 1)
    yield p.count("03", 0, 3)
    p.clear(), p.mmap(0, 1), p.mmap(2, 1), p.write(2), p.mmap(1, 1)
    yield p.count("03b", 0, 3)


def protections(p: Live) -> Iterator[Check]:
    p.mmap(0, 3), p.mprotect(1, 1, R)
    yield p.count("04", 0, 3)
    p.mprotect(1, 1, RW)
    yield p.count("04b", 0, 3)
    p.clear(), p.mmap(0, 1, R), p.mmap(1, 1), p.write(1), p.mprotect(1, 1, R)
    yield p.count("05", 0, 2)
    p.clear(), p.mmap(0, 1, R), p.mmap(1, 1), p.mprotect(1, 1, R)
    yield p.count("05b", 0, 2)
    p.clear(), p.mmap(0, 1, NONE), p.mmap(1, 1), p.mprotect(0, 1, RW)
    yield p.count("06", 0, 2)


def mapping_flags(p: Live) -> Iterator[Check]:
    p.mmap(0, 1, RW, uapi.MAP_NORESERVE), p.mmap(1, 1)
    yield p.count("07", 0, 2)
    p.clear(), p.mmap(0, 1, RW, uapi.MAP_STACK), p.mmap(1, 1)
    yield p.count("08", 0, 2)
    p.clear(), p.mmap(0, 1, R, uapi.MAP_STACK), p.madvise(0, 1, uapi.MADV_NOHUGEPAGE)
    p.mmap(1, 1, R), p.madvise(1, 1, uapi.MADV_NOHUGEPAGE)
    yield p.count("08b", 0, 2)
    p.clear(), p.mmap(0, 1, RW, SHARED_ANON), p.mmap(1, 1, RW, SHARED_ANON)
    yield p.count("09", 0, 2)


def files(p: Live) -> Iterator[Check]:
    file, other = p.open(), p.open()
    for check, second, offset, first_kind, second_kind in (
        ("10", file, 1, uapi.MAP_PRIVATE, uapi.MAP_PRIVATE),
        ("10b", file, 1, uapi.MAP_PRIVATE, uapi.MAP_PRIVATE),  # a duplicate of the descriptor
        ("10c", other, 1, uapi.MAP_PRIVATE, uapi.MAP_PRIVATE),
        ("10d", file, 2, uapi.MAP_PRIVATE, uapi.MAP_PRIVATE),
        ("10e", file, 1, uapi.MAP_SHARED, uapi.MAP_SHARED),
        ("10f", file, 1, uapi.MAP_PRIVATE, uapi.MAP_SHARED),
    ):
        p.clear(), p.mmap(0, 1, R, first_kind, file, 0), p.mmap(1, 1, R, second_kind, second, offset)
        yield p.count(check, 0, 2)


def moves(p: Live) -> Iterator[Check]:
    p.mmap(0, 1), p.mmap(10, 1), p.move(10, 1, 1)
    yield p.count("11", 0, 2)
    p.clear(), p.mmap(0, 1), p.mmap(10, 1), p.write(10), p.move(10, 1, 1)
    yield p.count("11b", 0, 2)
    p.clear(), p.mmap(0, 3), p.write(0, 3), p.move(1, 1, 20)
    yield p.count("12", 0, 3)
    p.move(20, 1, 1)
    yield p.count("12b", 0, 3)


def written_neighbours(p: Live) -> Iterator[Check]:
    p.mmap(0, 1), p.mmap(1, 1, R), p.write(0), p.mprotect(1, 1, RW)
    yield p.count("15", 0, 2)
    p.clear(), p.mmap(0, 1), p.mmap(1, 1, RWX), p.write(1), p.mprotect(1, 1, RW)
    yield p.count("15b", 0, 2)
    p.clear(), p.mmap(0, 1), p.mmap(1, 1, RWX), p.write(0), p.write(1), p.mprotect(1, 1, RW)
    yield p.count("15c", 0, 2)
    p.clear(), p.mmap(0, 1), p.write(0), p.mmap(1, 1, RW, uapi.MAP_NORESERVE), p.write(1)
    p.munmap(1, 1), p.mmap(1, 1)
    yield p.count("15d", 0, 2)


def there_and_back(p: Live) -> Iterator[Check]:
    p.mmap(0, 4), p.mlock(1, 1)
    yield p.count("16", 0, 4)
    p.munlock(1, 1)
    yield p.count("16b", 0, 4)
    p.clear(), p.mmap(0, 4), p.madvise(1, 1, uapi.MADV_DONTFORK)
    yield p.count("17", 0, 4)
    p.madvise(1, 1, uapi.MADV_DOFORK)
    yield p.count("17b", 0, 4)


def holes(p: Live) -> Iterator[Check]:
    p.mmap(0, 2), p.mmap(3, 2)
    result = p.madvise(1, 3, uapi.MADV_DONTDUMP)
    yield p.count("18", 0, 5)
    yield p.errno("18b", result)
    p.clear(), p.mmap(0, 2), p.mmap(3, 2)
    result = p.mprotect(1, 3, R)
    yield p.count("19", 0, 5)
    yield p.errno("19b", result)
    p.clear(), p.mmap(0, 2), p.mmap(3, 2)
    result = p.mlock(1, 3)
    yield p.count("20", 0, 5)
    yield p.errno("20b", result)
    p.clear(), p.mmap(0, 4), p.write(0), p.write(3), p.mmap(1, 2)
    yield p.count("22", 0, 4)


def seals(p: Live) -> Iterator[Check]:
    p.mmap(0, 4), p.mseal(1, 1)
    yield p.count("23", 0, 4)
    result = p.mprotect(0, 2, R)
    yield p.count("23b", 0, 4)
    yield p.says("23c", int(result == -errno.EPERM))
    result = p.munmap(0, 2)
    yield p.count("23d", 0, 4)
    yield p.says("23e", int(result == -errno.EPERM))


def guards(p: Live) -> Iterator[Check]:
    p.mmap(0, 4), p.madvise(1, 1, uapi.MADV_GUARD_INSTALL)
    yield p.count("24", 0, 4)
    p.clear(), p.mmap(0, 2), p.mmap(3, 1), p.madvise(0, 1, uapi.MADV_GUARD_INSTALL)
    p.write(3), p.mmap(2, 1)
    yield p.count("24b", 0, 4)


def remaps(p: Live) -> Iterator[Check]:
    p.mmap(0, 2), p.mmap(4, 2), p.mremap(0, 2, 4)
    yield p.count("30", 0, 6)
    p.clear(), p.mmap(0, 2, RW, SHARED_ANON), p.mremap(0, 0, 2, 3, 2)
    yield p.count("31", 0, 4)
    p.clear(), p.mmap(0, 2)
    yield p.errno("31b", p.mremap(0, 0, 2, 3, 4))
    p.clear(), p.mmap(0, 2), p.write(0), p.move(0, 2, 8, DONTUNMAP), p.mmap(2, 1), p.write(2)
    yield p.count("32", 0, 3)


def dev_zero(p: Live) -> Iterator[Check]:
    zero = p.open("zero")
    p.mmap(0, 1, RW, 0, zero, 0), p.mmap(1, 1, RW, 0, zero, 1)
    yield p.count("33", 0, 2)
    p.clear(), p.mmap(0, 1, RW, 0, zero, 0), p.mmap(1, 1, RW, 0, zero, 0)
    yield p.count("33b", 0, 2)
    p.clear(), p.mmap(0, 1, RW, 0, zero, 0), p.mmap(1, 1)
    yield p.count("33c", 0, 2)


def shared_memory(p: Live) -> Iterator[Check]:
    p.shmat(0, 4), p.mprotect(2, 2, R)
    yield p.count("26", 0, 4)
    p.mprotect(2, 1, RW)
    yield p.count("26b", 0, 4)
    p.mprotect(3, 1, RW)
    yield p.count("26c", 0, 4)
    p.shmdt(0)
    yield p.count("26d", 0, 4)
    p.shmat(0, 4), p.mprotect(0, 2, R), p.mprotect(1, 1, RW)
    yield p.count("26e", 0, 4)


def userfaultfds(p: Live) -> Iterator[Check]:
    uffd = p.userfaultfd()
    p.mmap(0, 4), p.register(uffd, 1, 1)
    yield p.count("27", 0, 4)
    p.mmap(4, 1)
    yield p.count("27b", 3, 5)
    p.unregister(uffd, 1, 1)
    yield p.count("27c", 0, 5)
    p.register(uffd, 1, 1), p.close_uffd(uffd)
    yield p.count("27d", 0, 5)


def ksm(p: Live) -> Iterator[Check]:
    p.mmap(0, 4), p.madvise(1, 1, uapi.MADV_MERGEABLE)
    yield p.count("28", 0, 4)
    p.madvise(1, 1, uapi.MADV_UNMERGEABLE)
    yield p.count("28b", 0, 4)
    p.clear(), p.mmap(0, 1)
    if p.memory_merge(True) == 0:
        p.mmap(1, 1)
        yield p.count("29", 0, 2)
        p.memory_merge(False)


def geometry(p: Live) -> Iterator[Check]:
    p.mmap(0, 2), p.mmap(2, 2, R), p.mprotect(2, 1, RW)
    yield p.count("c5", 0, 4)
    p.clear(), p.mmap(0, 2, R), p.mmap(2, 2), p.mprotect(1, 1, RW)
    yield p.count("c4", 0, 4)
    p.clear(), p.mmap(0, 1), p.mmap(1, 1, R), p.mmap(2, 1, NONE), p.mprotect(1, 1, RW)
    yield p.count("c7", 0, 3)
    p.mprotect(2, 1, RW)
    yield p.count("c7b", 0, 3)
    p.clear(), p.mmap(0, 1, NONE), p.mmap(1, 1, R), p.mmap(2, 1), p.mprotect(1, 1, RW)
    yield p.count("c8", 0, 3)


def address_space_limit(p: Live) -> Iterator[Check]:
    p.mmap(0, 4)
    p.mm.config.rlimits["AS"] = 12 << 12
    result = p.mmap(2, 100)
    del p.mm.config.rlimits["AS"]
    yield p.count("34", 0, 4)
    yield p.errno("34b", result)


def many_at_once(p: Live) -> Iterator[Check]:
    p.mmap(0, 1), p.mmap(1, 1, R), p.mmap(3, 1)
    result = p.move(0, 4, 16)
    yield p.count("35", 16, 20)
    yield p.says("35b", int(result == at(16)))
    p.clear(), p.mmap(0, 1), p.mmap(1, 1, R)
    yield p.errno("35c", p.mremap(0, 2, 3, uapi.MREMAP_MAYMOVE))
    p.clear(), p.mmap(4, 1), p.mmap(8, 2)
    result = p.move(0, 1, 8)
    yield p.count("36", 8, 10)
    yield p.errno("36b", result)
    p.clear(), p.mmap(0, 2, RW, uapi.MAP_GROWSDOWN), p.mmap(2, 1)
    yield p.count("37", 0, 3)


def heap(p: Live) -> Iterator[Check]:
    p.mm.start_brk = p.mm.brk = at(0)
    p.brk(4), p.mmap(4, 1, RW, uapi.MAP_FIXED_NOREPLACE)
    yield "25", p.lines(3, 5).count("["), None


def private_files(p: Live) -> Iterator[Check]:
    file = p.open()
    p.mmap(0, 1, RW, 0, file, 0), p.mmap(10, 1, RW, 0, file, 1), p.write(10), p.move(10, 1, 1)
    yield p.count("39", 0, 2)
    p.clear(), p.mmap(0, 1, RW, 0, file, 0), p.write(0), p.mmap(10, 1, RW, 0, file, 1), p.move(10, 1, 1)
    yield p.count("39b", 0, 2)
    p.clear(), p.mmap(0, 1, RW, 0, file, 0), p.mmap(10, 1, RW, 0, file, 1), p.move(10, 1, 1)
    yield p.count("39c", 0, 2)


def copies_that_stay(p: Live) -> Iterator[Check]:
    p.mmap(0, 2), p.move(0, 2, 2, DONTUNMAP)
    yield p.count("41", 0, 4)
    p.clear(), p.mmap(0, 4), p.mlock(0, 4), p.move(1, 1, 8, DONTUNMAP)
    yield p.count("42", 0, 4)
    p.clear(), p.mmap(0, 1), p.mmap(10, 1)
    uffd = p.userfaultfd()
    p.register(uffd, 0, 1), p.register(uffd, 10, 1), p.move(10, 1, 1)
    yield p.count("43", 0, 2)
    p.close_uffd(uffd)
    p.clear(), p.mmap(0, 2), p.mmap(8, 2)
    yield p.errno("44", p.mremap(8, 2, 4, 3, 0, skew=1))
    p.clear(), p.mmap(0, 2), p.mmap(4, 2)
    yield p.errno("45", p.mremap(0, 4, 6, 3, 3))
    p.clear(), p.mmap(0, 1), p.mmap(4, 2)
    yield p.errno("46", p.mremap(0, 3, 2, 3, 8))


def targets_of_failing_moves(p: Live) -> Iterator[Check]:
    p.mmap(0, 1), p.mmap(8, 2)
    result = p.move(0, 2, 8)
    yield p.count("47", 8, 10)
    yield p.errno("47 ret", result)
    p.clear(), p.mmap(0, 1), p.mmap(8, 2)
    result = p.mremap(0, 2, 3, 3, 8)
    yield p.count("48", 8, 10)
    yield p.errno("48 ret", result)
    p.clear(), p.mmap(0, 2), p.mmap(3, 1)
    yield p.errno("49", p.munmap(1, 4))
    yield p.count("49b", 0, 5)


def arguments(p: Live) -> Iterator[Check]:
    p.shown = "[0-1 rw-p]"  # of check 49b, which the program had read last
    p.mmap(0, 2)
    yield p.errno("50", p.mprotect(4, 1, R))
    yield p.errno("50b", p.mprotect(0, 0, R))
    yield p.errno("50c", p.munmap(0, 0))
    yield p.errno("50d", p.mmap(0, 0))
    yield p.errno("50e", p.mmap(1, 1, RW, uapi.MAP_FIXED_NOREPLACE))
    p.clear(), p.mmap(0, 3)
    for advice in (uapi.MADV_DONTNEED, uapi.MADV_FREE, uapi.MADV_WILLNEED, uapi.MADV_COLD):
        p.madvise(1, 1, advice)
    yield p.count("51", 0, 3)
    p.clear(), p.mmap(0, 3), p.write(0), p.write(2), p.mprotect(1, 1, NONE), p.mmap(1, 1, NONE)
    p.mprotect(1, 1, RW)
    yield p.count("52", 0, 3)


def names(p: Live) -> Iterator[Check]:
    p.mmap(0, 3)
    result = p.name(1, 1, "foo")
    yield "name", max(0, -result), None
    if result == 0:
        p.mmap(3, 1), p.name(0, 4, "foo")
        yield p.count("38", 0, 4)
        p.mmap(4, 1)
        yield p.count("38b", 0, 5)
        p.name(0, 4, None)
        yield p.count("38c", 0, 5)


def _family(p: Live) -> Live:
    """What the parent maps before it forks; returns the child."""
    p.mmap(0, 3), p.write(0, 3), p.mmap(10, 1), p.mmap(20, 1), p.mmap(21, 1, R), p.write(20)
    p.mprotect(21, 1, RWX), p.write(21), p.mmap(30, 2), p.write(30), p.madvise(30, 2, uapi.MADV_WIPEONFORK)
    p.mmap(40, 2), p.mlock(40, 1)
    return Live(mm=p.fork().mm)


def children(p: Live) -> Iterator[Check]:
    child = _family(p)
    child.mprotect(1, 1, R), child.mprotect(1, 1, RW)
    yield child.count("13", 0, 3)
    child.mmap(3, 1)
    yield child.count("13b", 0, 4)
    child.mmap(11, 1)
    yield child.count("13c", 10, 12)
    child.mprotect(21, 1, RW)
    yield child.count("14", 20, 22)
    child.mmap(32, 1), child.madvise(32, 1, uapi.MADV_WIPEONFORK)
    yield child.count("14c", 30, 33)
    yield child.count("14d", 40, 42)
    child.mprotect(40, 1, R), child.mprotect(40, 1, RW)
    yield child.count("14e", 40, 42)
    child.move(0, 3, 50), child.mmap(53, 1)
    yield child.count("13d", 50, 54)
    p.mprotect(21, 1, RW)
    yield p.count("14b", 20, 22)
    p.mmap(3, 1)
    yield p.count("13e", 0, 4)


SCENARIOS: tuple[Scenario, ...] = (
    new_mappings,
    protections,
    mapping_flags,
    files,
    moves,
    written_neighbours,
    there_and_back,
    holes,
    seals,
    guards,
    remaps,
    dev_zero,
    shared_memory,
    userfaultfds,
    ksm,
    geometry,
    address_space_limit,
    many_at_once,
    heap,
    private_files,
    copies_that_stay,
    targets_of_failing_moves,
    arguments,
    names,
    children,
)
