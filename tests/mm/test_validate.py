"""validate_mm() finds every kind of damage, and shows the layout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from layout import at, layout

from vmastore.mm.mm import Mm
from vmastore.mm.validate import InvalidMm, validate_mm
from vmastore.mm.vma import AnonVma


def _overlap(mm: Mm) -> None:
    next(mm.vmas()).vm_end += 8192


def _empty(mm: Mm) -> None:
    next(mm.vmas()).vm_end = at(0)


def _unaligned_start(mm: Mm) -> None:
    next(mm.vmas()).vm_start += 1


def _unaligned_end(mm: Mm) -> None:
    next(mm.vmas()).vm_end -= 1


def _miscounted(mm: Mm) -> None:
    mm.map_count += 1


def _misindexed(mm: Mm) -> None:
    vma = next(mm.vmas())
    mm.index.remove(vma)


def _one_way_link(mm: Mm) -> None:
    list(mm.vmas())[1].prev = mm.head


def _chainless(mm: Mm) -> None:
    next(mm.vmas()).anon_vma = AnonVma()


DAMAGE: dict[str, Callable[[Mm], None]] = {
    "overlaps the VMA before it": _overlap,
    "is empty": _empty,
    "start is not page-aligned": _unaligned_start,
    "is not page-aligned": _unaligned_end,
    "map_count is 4, VMAs are 3": _miscounted,
    "the index disagrees with the links": _misindexed,
    "is not linked back": _one_way_link,
    "anon_vma and chain disagree": _chainless,
}


@pytest.mark.parametrize("says", DAMAGE)
def test_damage_is_found(says: str) -> None:
    """Each damage is named, with the address space as it stands below it."""
    mm = layout("AAABBB  CCC")
    validate_mm(mm)
    DAMAGE[says](mm)
    with pytest.raises(InvalidMm, match=says.removeprefix("start ")) as caught:
        validate_mm(mm)
    assert len(str(caught.value).splitlines()) == 4


def test_mergeable_neighbours_are_no_damage() -> None:
    """Two equal VMAs side by side are what the kernel may leave."""
    validate_mm(layout("AAAaaa"))
