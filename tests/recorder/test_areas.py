"""Which faults are kept."""

from __future__ import annotations

from typing import Any

import pytest

from vmastore.events.types import Event, ObservedVma
from vmastore.recorder.areas import Areas, Piece

BASE = 0x7F0000000000
PAGE = 4096
ANON = 0x22  # MAP_PRIVATE | MAP_ANONYMOUS


def call(name: str, *args: Any, result: int | None = 0, errno: int = 0) -> Event:
    return Event(1, 1, 1, 1, None, name, args, None if errno else result, errno)


def mmap(addr: int, pages: int, prot: int = 3, flags: int = ANON) -> Event:
    return call("mmap", addr, pages * PAGE, prot, flags, -1, 0, result=addr)


def areas_of(*events: Event, thp: str = "madvise") -> Areas:
    areas = Areas(thp)
    for event in events:
        areas.apply(event)
    return areas


def test_only_the_first_write_on_a_mapping_counts() -> None:
    """A mapping has its anon_vma from its first write fault on; reads of small pages never matter."""
    areas = areas_of(mmap(BASE, 8))
    assert areas.keep(BASE, "r") is None
    assert areas.keep(BASE + 3 * PAGE, "w") == "w"
    assert [areas.keep(BASE + n * PAGE, "w") for n in range(8)] == [None] * 8


def test_a_piece_cut_off_before_the_write_is_another_one() -> None:
    """A call in the middle splits: each part needs a write of its own; parts cut off later do not."""
    areas = areas_of(mmap(BASE, 8), call("mlock", BASE + 2 * PAGE, PAGE))
    assert areas.keep(BASE, "w") == "w"
    assert areas.keep(BASE + 2 * PAGE, "w") == "w"
    assert areas.keep(BASE + 7 * PAGE, "w") == "w"
    areas.apply(call("mprotect", BASE + 4 * PAGE, PAGE, 3))
    assert areas.keep(BASE + 4 * PAGE, "w") is None


@pytest.mark.parametrize(
    "event",
    [
        mmap(BASE, 2),
        call("mremap", BASE, PAGE, PAGE, 1 | 4, None, result=BASE + 64 * PAGE),
        call("munmap", BASE, 2 * PAGE, errno=12),
    ],
    ids=["mapped-anew", "dontunmap", "failed-munmap"],
)
def test_what_may_be_a_new_vma_is_unwritten_again(event: Event) -> None:
    """After a new mapping, a move that leaves the source, or a call that failed half-way, writes count again."""
    areas = areas_of(mmap(BASE, 2))
    assert areas.keep(BASE, "w") == "w"
    areas.apply(event)
    assert areas.keep(BASE, "w") == "w"


def test_a_write_that_was_refused_does_not_count_as_one() -> None:
    """A fault on a read-only mapping is dropped, and the write after mprotect is still the first."""
    areas = areas_of(mmap(BASE, 2, prot=1))
    assert areas.keep(BASE, "w") is None
    areas.apply(call("mprotect", BASE, 2 * PAGE, 3))
    assert areas.keep(BASE, "w") == "w"


def test_shared_mappings_have_no_anon_vma() -> None:
    """Writes on shared memory are dropped."""
    assert areas_of(mmap(BASE, 2, flags=1)).keep(BASE, "w") is None


def test_the_heap_grows_by_pieces() -> None:
    """Each growth of the heap may be a VMA of its own, and shrinking forgets."""
    areas = areas_of(call("brk", 0, result=0x5000), call("brk", 0x9000, result=0x9000))
    assert areas.keep(0x6000, "w") == "w"
    assert areas.keep(0x8000, "w") is None
    areas.apply(call("brk", 0xB000, result=0xB000))
    assert areas.keep(0xA000, "w") == "w"
    areas.apply(call("brk", 0x7000, result=0x7000))
    areas.apply(call("brk", 0x9000, result=0x9000))
    assert areas.keep(0x6000, "w") is None
    assert areas.keep(0x8000, "w") == "w"


def test_a_stack_grows_by_any_access_below_it() -> None:
    """Reads grow a stack too; afterwards the pages up to there belong to it."""
    stack = ObservedVma(BASE, BASE + 2 * PAGE, "rw-p", 0, "00:00", 0, "[stack]", "rd wr gd", True)
    areas = Areas.observed([stack])
    assert areas.keep(BASE - 3 * PAGE + 8, "r") == "r"
    assert areas.keep(BASE - 2 * PAGE, "w") is None
    assert areas.keep(BASE - 4 * PAGE, "w") == "w"
    assert areas.keep(BASE + 5 * PAGE, "r") is None, "above: nothing known is there"
    assert areas.keep(BASE + 5 * PAGE, "w") == "w"


def test_a_child_knows_what_its_parent_had_written() -> None:
    """Written VMAs are so in the child; after MADV_WIPEONFORK nothing about it is sure."""
    parent = areas_of(mmap(BASE, 4), mmap(BASE + 16 * PAGE, 4))
    parent.keep(BASE, "w")
    child = parent.copy()
    assert child.keep(BASE, "w") is None
    assert child.keep(BASE + 16 * PAGE, "w") == "w"
    assert parent.keep(BASE + 16 * PAGE, "w") == "w", "the child's write is not the parent's"
    parent.apply(call("madvise", BASE, PAGE, 18))
    assert parent.copy().keep(BASE, "w") == "w"


@pytest.mark.parametrize(
    ("thp", "kept"), [("always", ["r", None, "r"]), ("never", [None] * 3), ("madvise", [None] * 3)]
)
def test_a_read_of_a_huge_page_counts_once(thp: str, kept: list[str | None]) -> None:
    """Where a huge zero page may serve a read, the first read fault of each huge page is kept."""
    areas = areas_of(mmap(BASE, 2048), thp=thp)
    assert [areas.keep(BASE + at, "r") for at in (0, PAGE, 2 << 20)] == kept
    advised = areas_of(mmap(BASE, 2048), call("madvise", BASE, 4 << 20, 14), thp=thp)
    assert (advised.keep(BASE, "r") == "r") == (thp != "never")


def test_without_knowing_the_access_only_what_is_sure_is_kept() -> None:
    """One thread's second fault on a page is a write; two threads', or one after MADV_DONTNEED, may be reads."""
    areas = areas_of(mmap(BASE, 8))
    assert areas.keep(BASE, None, 1) is None
    assert areas.keep(BASE, None, 2) is None
    assert areas.keep(BASE, None, 1) == "w"
    areas = areas_of(mmap(BASE, 8))
    assert areas.keep(BASE, None, 1) is None
    areas.apply(call("madvise", BASE, PAGE, 4))
    assert areas.keep(BASE, None, 1) is None
    stack = ObservedVma(BASE, BASE + PAGE, "rw-p", 0, "00:00", 0, "[stack]", None, None)
    assert Areas.observed([stack]).keep(BASE - PAGE, None, 1) == "r"


def test_a_page_that_may_be_gone_faults_first_again() -> None:
    """After madvise of a range the second fault on a page in it is a first one; outside of it it is a write."""
    areas = areas_of(mmap(BASE, 8))
    assert [areas.keep(BASE + n * PAGE, None, 7) for n in range(4)] == [None] * 4
    areas.apply(call("madvise", BASE + PAGE, 2 * PAGE, 4))
    assert [areas.keep(BASE + n * PAGE, None, 7) for n in (1, 2, 3)] == [None, None, "w"]


def test_what_a_call_wrote_counts_once_a_piece() -> None:
    """Of a range one address in each piece that was not known to be written; none where it cannot matter."""
    areas = Areas()
    areas.put(Piece(0x1000, 0x3000, writable=True, anon=True))
    areas.put(Piece(0x3000, 0x5000, writable=True, anon=True, written=True))
    areas.put(Piece(0x5000, 0x6000, writable=True, shared=True))
    areas.put(Piece(0x8000, 0x9000, writable=True, anon=True))
    assert areas.wrote(0x2FF0, 0x6000) == [0x2FF0, 0x6000, 0x8000], "0x6000: of what is not known"
    assert areas.wrote(0x2FF0, 0x20) == [] and areas.wrote(0x1000, 0x10) == []
    assert areas.keep(0x8000, "w") is None


def test_what_another_process_wrote_needs_no_fault_any_more() -> None:
    """A range written through process_vm_writev is written in each of its pieces."""
    areas = areas_of(mmap(BASE, 4), call("mprotect", BASE + PAGE, PAGE, 3))
    areas.apply(call("fault", BASE, 2 * PAGE, "w", None, "gup", result=None))
    assert [areas.keep(BASE + n * PAGE, "w") for n in range(3)] == [None, None, "w"]
