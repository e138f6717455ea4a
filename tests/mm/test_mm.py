"""The address space: what it finds, what it links, what it reports as changed."""

from __future__ import annotations

import pytest
from layout import at, draw, layout

from vmastore.mm.flags import PAGE_SIZE, TASK_SIZE
from vmastore.mm.mm import Mm, in_task
from vmastore.mm.validate import validate_mm
from vmastore.mm.vma import Vma

DRAWING = " AAbb  CC "


def _named(mm: Mm, vma: Vma | None) -> str:
    if vma is None:
        return "nothing"
    return "tail" if vma is mm.tail else vma.label or "?"


@pytest.mark.parametrize("byte", [0, 1, PAGE_SIZE - 1])
def test_find_vma(byte: int) -> None:
    """find_vma() gives the first VMA that ends above an address, vma_lookup() only one that holds it."""
    mm = layout(DRAWING.upper())
    found = [_named(mm, mm.find_vma(at(page) + byte)) for page in range(10)]
    assert found == ["A", "A", "A", "B", "B", "C", "C", "C", "C", "tail"]
    held = [_named(mm, mm.vma_lookup(at(page) + byte)) for page in range(10)]
    assert held == ["nothing", "A", "A", "B", "B", "nothing", "nothing", "C", "C", "nothing"]


def test_find_vma_below_everything_and_at_the_end() -> None:
    """Below the first VMA is the first; an empty address space has only its tail."""
    mm = layout(DRAWING.upper())
    assert _named(mm, mm.find_vma(0)) == "A"
    assert _named(mm, mm.find_vma(TASK_SIZE)) == "tail"
    empty = layout("")
    assert _named(empty, empty.find_vma(at(0))) == "tail"


@pytest.mark.parametrize(
    ("first", "end", "found"),
    [(0, 1, "nothing"), (0, 2, "A"), (5, 7, "nothing"), (5, 8, "C"), (2, 4, "A"), (9, 99, "nothing")],
)
def test_intersection(first: int, end: int, found: str) -> None:
    """An intersection shares a page with the range; touching is none."""
    mm = layout(DRAWING.upper())
    assert _named(mm, mm.find_vma_intersection(at(first), at(end))) == found


def test_a_removed_vma_is_not_found_again() -> None:
    """What find_vma() remembers is forgotten with the VMA."""
    mm = layout("AABBCC")
    middle = mm.find_vma(at(2))
    mm.remove(middle)
    assert _named(mm, mm.find_vma(at(2))) == "C"
    assert draw(mm) == "AA  CC"
    mm.insert(Vma(at(2), at(4), middle.attrs, label="N"))
    assert _named(mm, mm.find_vma(at(3))) == "N"
    validate_mm(mm)


def test_moving_an_edge_keeps_index_and_links() -> None:
    """set_start() and set_end() change the VMA in place."""
    mm = layout("AAA   CCC")
    low, high = mm.vmas()
    mm.set_end(low, at(4))
    mm.set_start(high, at(5))
    assert draw(mm) == "AAAA CCCC"
    assert mm.find_vma(at(5)) is high
    validate_mm(mm)


def test_changes_are_reported_where_asked_for() -> None:
    """`dirty` collects every start that came, went or changed; without it nothing is collected."""
    mm = layout("AA CC")
    assert mm.dirty is None
    mm.dirty = []
    low, high = mm.vmas()
    mm.set_start(high, at(2))
    assert sorted(v.vm_start for v in mm.dirty) == [at(2), at(3)]
    mm.dirty.clear()
    mm.set_end(low, at(1))
    mm.touch(high)
    mm.remove(low)
    mm.insert(Vma(at(7), at(8), high.attrs))
    assert [v.vm_start for v in mm.dirty] == [at(0), at(2), at(0), at(7)]


def test_clear_leaves_nothing() -> None:
    """exit_mmap(): no VMA, no page table."""
    mm = layout("AABBCC")
    mm.pmds.add(1)
    mm.clear()
    validate_mm(mm)
    assert (mm.map_count, list(mm.vmas()), mm.pmds) == (0, [], set())


def test_in_task() -> None:
    """A range ends at TASK_SIZE at most."""
    assert in_task(TASK_SIZE - PAGE_SIZE, PAGE_SIZE)
    assert not in_task(TASK_SIZE - PAGE_SIZE, 2 * PAGE_SIZE)
    assert not in_task(0, TASK_SIZE + 1)
