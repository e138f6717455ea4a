"""What mmap, brk and mremap's copy make of a range beyond the merge itself."""

from __future__ import annotations

from errno import ENOMEM

import pytest
from layout import at, draw, flag_bits, layout, shades
from process import RW, Process, R

from vmastore.mm.flags import PMD_SIZE, VM_HUGETLB, VM_LOCKED, VM_MERGEABLE, VM_SOFTDIRTY, VM_SPECIAL
from vmastore.mm.merge import do_brk_flags, expand_stack
from vmastore.mm.mm import Config
from vmastore.syscalls import uapi
from vmastore.syscalls.mmap import sys_mmap

HUGE = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_HUGETLB | uapi.MAP_FIXED
DONTUNMAP = uapi.MREMAP_DONTUNMAP


def _flags(p: Process, page: int = 0) -> int:
    vma = p.mm.vma_lookup(at(page))
    assert vma is not None
    return vma.vm_flags


def test_locked_is_dropped_where_locking_is_not_done() -> None:
    """MAP_LOCKED stays on a plain mapping, and is dropped from hugetlb and droppable ones."""
    p = Process("7.3")
    p.mmap(0, 1, RW, uapi.MAP_LOCKED)
    assert _flags(p) & VM_LOCKED
    page = PMD_SIZE >> 12
    assert sys_mmap(p.mm, at(page), PMD_SIZE, RW, HUGE | uapi.MAP_LOCKED, None, 0) == at(page)
    assert not _flags(p, page) & VM_LOCKED
    assert _flags(p, page) & VM_SPECIAL and _flags(p, page) & VM_HUGETLB
    p.mm.def_flags = VM_LOCKED
    p.mmap(4, 1, RW, uapi.MAP_DROPPABLE | uapi.MAP_ANONYMOUS)
    assert not _flags(p, 4) & VM_LOCKED


def test_a_mapping_is_born_soft_dirty() -> None:
    """With CONFIG_MEM_SOFT_DIRTY new mappings, and what they merged into, are soft-dirty."""
    p = Process("6.12", Config(soft_dirty=True))
    p.mmap(0, 1)
    assert _flags(p) & VM_SOFTDIRTY
    p.mm.find_vma(at(0)).attrs = p.mm.env.table.get(flag_bits("w"))
    p.mmap(1, 1)
    assert _flags(p) & VM_SOFTDIRTY
    assert draw(p.mm) == "**"


@pytest.mark.parametrize(("limit", "want"), [(1, -ENOMEM), (2, 0), (3, 0)])
def test_brk_and_the_map_limit(limit: int, want: int) -> None:
    """The heap grows while there are not more VMAs than the limit, merging or not."""
    mm = layout("AA  BB", config=Config(max_map_count=limit))
    mm.start_brk = at(0)
    assert do_brk_flags(mm.vmi, at(2), at(1) - at(0), flag_bits("w")) == want
    assert draw(mm) == ("AA  BB" if want else "AAA BB")


@pytest.mark.parametrize("kernel", ["6.7", "6.12", "6.18"])
def test_new_mappings_of_a_merging_process(kernel: str) -> None:
    """Under PR_SET_MEMORY_MERGE a new mapping and the heap become VM_MERGEABLE, a shared mapping does not."""
    p = Process(kernel)
    p.memory_merge(True)
    p.mmap(0, 1)
    p.mmap(2, 1, RW, uapi.MAP_SHARED | uapi.MAP_ANONYMOUS)
    p.mm.start_brk = p.mm.brk = at(4)
    p.brk(5)
    assert [bool(_flags(p, page) & VM_MERGEABLE) for page in (0, 2, 4)] == [True, False, True]


@pytest.mark.parametrize(
    ("kernel", "want"), [("6.1", "AAAaaaBBB"), ("6.8", "AAAAAAAAA"), ("6.12", "AAABBBBBB"), ("7.3", "AAABBBBBB")]
)
def test_a_copy_between_its_source_and_another(kernel: str, want: str) -> None:
    """MREMAP_DONTUNMAP into the gap: the source is no neighbour, and where merging is the old one, nobody is."""
    p = Process(mm=layout("AAA   BBB", rules=kernel))
    p.move(0, 3, 3, DONTUNMAP)
    assert draw(p.mm) == want


@pytest.mark.parametrize(
    ("kernel", "want"), [("6.1", "BBBAAAaaa"), ("6.8", "BBBBBBBBB"), ("6.12", "BBBBBBAAA"), ("7.3", "BBBBBBAAA")]
)
def test_a_copy_between_another_and_its_source(kernel: str, want: str) -> None:
    """The same from the other side."""
    p = Process(mm=layout("BBB   AAA", rules=kernel))
    p.move(6, 3, 3, DONTUNMAP)
    assert draw(p.mm) == want


@pytest.mark.parametrize(
    ("first", "pages", "want"),
    [(0, 6, "AAAAAA  AAAAAA"), (0, 2, "AAaaaa  AA"), (4, 2, "AAAAaa      AA"), (2, 2, "AAaaAA    AA")],
)
def test_only_the_moved_part_of_a_locked_mapping_is_split_off(first: int, pages: int, want: str) -> None:
    """Whole, head, tail and middle: the copy leaves exactly that part of the source unlocked."""
    p = Process(mm=layout("AAAAAA", flags={"A": VM_LOCKED}, rules="7.3"))
    assert p.move(first, pages, 8 + first, DONTUNMAP) == at(8 + first)
    assert draw(p.mm) == want
    moved = range(first, first + pages)
    assert [bool(_flags(p, page) & VM_LOCKED) for page in range(6)] == [page not in moved for page in range(6)]
    assert _flags(p, 8 + first) & VM_LOCKED


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
def test_growing_a_stack_merges_nothing(kernel: str) -> None:
    """A stack that grows down to an equal VMA stays one of its own."""
    mm = layout("AA  BB", rules=kernel)
    expand_stack(mm.vmi, mm.find_vma(at(4)), at(2) + 5)
    assert draw(mm) == "AABBBB"
    assert shades(mm) == "wwwwww"


def test_copying_onto_something_is_refused() -> None:
    """mremap's target must be free by the time of the copy: munmap of a sealed target stops before it."""
    p = Process("6.18")
    p.mmap(0, 1), p.mmap(8, 1, R), p.mseal(8, 1)
    assert p.move(0, 1, 8) < 0
    assert p.lines(0, 9) == "[0-1 rw-p][8-9 r--p]"


def test_the_heap_grows_from_start_brk_only() -> None:
    """A VMA that ends where the heap begins is never grown by brk, equal or not."""
    mm = layout("AA")
    mm.start_brk = at(2)
    assert do_brk_flags(mm.vmi, at(2), at(1) - at(0), flag_bits("w")) == 0
    assert draw(mm) == "AA*"


@pytest.mark.parametrize("kernel", ["6.1", "6.8", "6.12", "7.3"])
def test_a_fixed_mapping_that_cannot_make_room(kernel: str) -> None:
    """At the map limit MAP_FIXED into the middle of a VMA fails, and leaves it whole."""
    p = Process(kernel, Config(max_map_count=2))
    p.mmap(0, 3), p.mmap(4, 1)
    assert p.mmap(1, 1, R) == -ENOMEM
    assert p.lines(0, 5) == "[0-3 rw-p][4-5 rw-p]"
    assert p.mmap(0, 1, R) == at(0)  # an edge needs no room of its own
    assert p.lines(0, 5) == "[0-1 r--p][1-3 rw-p][4-5 rw-p]"
