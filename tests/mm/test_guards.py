"""Guard pages: the ranges, and what the calls make of them."""

from __future__ import annotations

import random
from errno import EFAULT, EINVAL, ENOMEM
from itertools import pairwise

import pytest
from layout import at
from process import RW, Process, R

from vmastore.mm.flags import PAGE_SIZE
from vmastore.mm.guards import Guards
from vmastore.mm.rules import preset, resolve
from vmastore.syscalls import uapi
from vmastore.syscalls.fault import fault

INSTALL, REMOVE = uapi.MADV_GUARD_INSTALL, uapi.MADV_GUARD_REMOVE


@pytest.mark.parametrize("seed", range(20))
def test_ranges_are_what_a_set_of_pages_would_be(seed: int) -> None:
    """Random add, drop and move agree with a plain set, and the ranges stay disjoint and apart."""
    rng = random.Random(seed)
    guards, pages = Guards(), set[int]()
    for _ in range(300):
        start, length = rng.randrange(60), rng.randint(1, 12)
        inside = set(range(start, start + length))
        kind = rng.choice(("add", "drop", "move"))
        if kind == "add":
            guards.add(start, start + length)
            pages |= inside
        elif kind == "drop":
            guards.drop(start, start + length)
            pages -= inside
        else:
            to = 100 + rng.randrange(60)
            guards.drop(to, to + length)
            pages -= set(range(to, to + length))
            guards.move(start, length, to)
            pages = (pages - inside) | {p - start + to for p in pages & inside}
        ranges = guards.ranges()
        assert {p for low, high in ranges for p in range(low, high)} == pages
        assert all(low < high for low, high in ranges)
        assert all(a[1] < b[0] for a, b in pairwise(ranges))
        assert [p in guards for p in range(170)] == [p in pages for p in range(170)]
        assert guards.first(start, 200) == min((p for p in pages if p >= start), default=200)
    assert guards.copy().ranges() == guards.ranges()


def guarded(p: Process, first: int = 0, end: int = 64) -> list[int]:
    """Which pages refuse an access that their VMA permits."""
    return [n for n in range(first, end) if p.mm.vma_lookup(at(n)) and fault(p.mm, at(n), PAGE_SIZE, False)]


def with_guards(rules: str = "6.18") -> Process:
    """Eight pages, of which 2 and 3 are guarded."""
    p = Process(rules)
    p.mmap(0, 8)
    assert p.madvise(2, 2, INSTALL) == 0
    return p


def test_an_access_is_refused_and_writes_nothing() -> None:
    """SIGSEGV, not a fault: what is refused is told, the pages beside are served."""
    p = with_guards()
    assert p.write(0, 8) == 2
    assert guarded(p) == [2, 3]


def test_they_stay_and_go_as_their_pages_do() -> None:
    """mprotect and discarding keep them, mremap moves them, fork copies them, a new mapping has none."""
    p = with_guards()
    p.madvise(0, 8, uapi.MADV_DONTNEED), p.mprotect(3, 1, R), p.mprotect(3, 1, RW)
    assert guarded(p) == [2, 3]
    child = p.fork()
    p.move(2, 4, 20)
    assert guarded(p) == [20, 21] and guarded(child) == [2, 3]
    p.move(20, 4, 30, uapi.MREMAP_DONTUNMAP)
    assert guarded(p) == [30, 31]
    p.munmap(30, 1), p.mmap(30, 1)
    assert guarded(p) == [31]
    assert p.madvise(30, 4, REMOVE) == 0 and guarded(p) == []


def test_a_child_that_is_wiped_has_none() -> None:
    """MADV_WIPEONFORK: the child's pages are new."""
    p = with_guards()
    p.madvise(0, 8, uapi.MADV_WIPEONFORK)
    assert guarded(p.fork()) == []


def test_populating_stops_at_one() -> None:
    """MADV_POPULATE_WRITE says EFAULT, mlock ENOMEM with the VMA locked; installing into a locked one is EINVAL."""
    p = with_guards()
    assert p.madvise(0, 8, uapi.MADV_POPULATE_WRITE) == -EFAULT
    assert p.madvise(4, 4, uapi.MADV_POPULATE_WRITE) == 0
    assert p.mlock(0, 8) == -ENOMEM
    assert p.madvise(4, 1, INSTALL) == -EINVAL
    assert p.madvise(2, 2, REMOVE) == 0
    assert p.mlock(0, 8) == 0


@pytest.mark.parametrize(
    ("kernel", "read_only", "of_a_file"), [("6.13.0", -EINVAL, -EINVAL), ("6.15.0", 0, 0), ("6.18", 0, 0)]
)
def test_what_can_be_guarded(kernel: str, read_only: int, of_a_file: int) -> None:
    """Before 6.15 anonymous mappings that may be written, since then any but special and huge ones."""
    p = Process(resolve(kernel))
    p.mmap(0, 2, R), p.mmap(4, 2, R, uapi.MAP_SHARED, p.open(write=False)), p.mmap(8, 2, R, 0, p.open())
    assert p.madvise(0, 1, INSTALL) == 0  # read-only, but it may become writable
    assert p.madvise(4, 1, INSTALL) == read_only
    assert p.madvise(8, 1, INSTALL) == of_a_file
    assert p.mm.vma_lookup(at(0)).anon_vma is not None  # type: ignore[union-attr]


def test_without_the_flag_any_vma_gets_an_anon_vma() -> None:
    """6.15 to 6.17 keep page tables across fork by an anon_vma, also of a file's VMA; then by VM_MAYBE_GUARD."""
    for flag in (False, True):
        p = Process(preset("6.18").with_rule("maybe-guard-flag", flag))
        p.mmap(0, 2, RW, uapi.MAP_SHARED, p.open())
        assert p.madvise(0, 1, INSTALL) == 0
        vma = p.mm.vma_lookup(at(0))
        assert vma is not None and (vma.anon_vma is None) == flag
