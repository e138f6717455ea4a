"""What mremap leaves behind: limits, accounting, locks, written state, registrations, page tables."""

from __future__ import annotations

from errno import ENOMEM

import pytest
from layout import at, draw, layout, shades
from process import RW, Process

from vmastore.mm.flags import PMD_SIZE, VM_ACCOUNT, VM_LOCKED, VM_UFFD_MISSING
from vmastore.mm.mm import Config
from vmastore.syscalls import uapi
from vmastore.syscalls.uapi import MREMAP_DONTUNMAP, MREMAP_MAYMOVE, UFFD_FEATURE_EVENT_REMAP


def _flags(p: Process, page: int) -> int:
    vma = p.mm.vma_lookup(at(page))
    assert vma is not None
    return vma.vm_flags


@pytest.mark.parametrize(
    ("kernel", "limit", "moves"),
    [("6.1", 5, False), ("6.1", 6, True), ("6.18", 5, False), ("6.18", 6, True), ("7.3", 5, False), ("7.3", 6, True)],
)
def test_a_growing_move_needs_room(kernel: str, limit: int, moves: bool) -> None:
    """mremap that must move to grow wants room for four more VMAs, or fails with everything in place."""
    p = Process(kernel, Config(max_map_count=limit))
    p.mmap(0, 1), p.mmap(1, 1, 1)
    result = p.mremap(0, 1, 2, MREMAP_MAYMOVE)
    assert (result == -ENOMEM) != moves
    assert (p.lines(0, 2) == "[1-2 r--p]") == moves


@pytest.mark.parametrize(("first", "pages"), [(0, 2), (2, 2), (4, 2), (0, 6)])
def test_accounting_survives(first: int, pages: int) -> None:
    """What stays of the source is accounted as before, head, tail, both or nothing; so is the copy."""
    p = Process("6.18")
    p.mmap(0, 6), p.move(first, pages, 20)
    assert all(vma.vm_flags & VM_ACCOUNT for vma in p.mm.vmas())
    assert sum(vma.vm_end - vma.vm_start for vma in p.mm.vmas()) == 6 << 12


@pytest.mark.parametrize(("first", "pages", "left"), [(0, 6, "wwwwww"), (0, 3, "WWWWWW"), (2, 2, "WWWWWW")])
def test_the_source_of_a_copy(first: int, pages: int, left: str) -> None:
    """MREMAP_DONTUNMAP of a whole VMA leaves it as never written; of a part, written as it was."""
    p = Process("6.18")
    p.mmap(0, 6), p.write(0), p.mlock(0, 6), p.move(first, pages, 20, MREMAP_DONTUNMAP)
    assert shades(p.mm)[:6] == left
    assert not _flags(p, first) & VM_LOCKED
    assert _flags(p, 20) & VM_LOCKED
    assert shades(p.mm, 20) == "W" * pages


@pytest.mark.parametrize("features", [0, UFFD_FEATURE_EVENT_REMAP], ids=["plain", "EVENT_REMAP"])
def test_a_registration_moves_only_if_its_owner_is_told(features: int) -> None:
    """Without EVENT_REMAP the moved VMA is no longer registered."""
    p = Process("7.3")
    p.mmap(0, 2), p.register(p.userfaultfd(features), 0, 2), p.move(0, 2, 8)
    moved = p.mm.vma_lookup(at(8))
    assert moved is not None
    assert bool(moved.vm_flags & VM_UFFD_MISSING) == bool(features)
    assert (moved.attrs.uffd is not None) == bool(features)


def test_an_old_length_of_nothing_copies() -> None:
    """Shared memory is mapped once more, and the source stays as it is."""
    p = Process("6.18")
    p.mmap(0, 2, RW, uapi.MAP_SHARED | uapi.MAP_ANONYMOUS)
    assert p.mremap(0, 0, 2, 3, 8) == at(8)
    source, copy = p.mm.vmas()
    assert (source.attrs.vm_file, source.vm_pgoff) == (copy.attrs.vm_file, copy.vm_pgoff)
    assert p.lines(0, 10) == "[0-2 rw-s][8-10 rw-s]"


def test_page_tables_move_along() -> None:
    """Where the source had a page table the target has one afterwards, elsewhere not."""
    p = Process("6.18")
    far = 4 * PMD_SIZE >> 12
    p.mmap(0, 2), p.mmap(8, 2), p.move(0, 2, far)
    assert p.mm.pmds == set()
    p.write(8), p.move(8, 2, far)
    assert at(far) // PMD_SIZE in p.mm.pmds


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18", "7.3"])
def test_a_written_middle_there_and_back(kernel: str) -> None:
    """Moved away and back, a written middle is one with its neighbours again; moved elsewhere it is not."""
    p = Process(mm=layout("AAA", rules=kernel))
    p.write(0), p.move(1, 1, 9)
    assert draw(p.mm) == "A A      A"
    p.move(9, 1, 3)
    assert draw(p.mm) == "A Aa"
    p.move(3, 1, 1)
    assert draw(p.mm) == "AAA"
