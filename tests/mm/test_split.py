"""Splitting: both halves keep everything, what may not be split is refused, the limit is looked at first."""

from __future__ import annotations

from errno import EINVAL, ENOMEM, EPERM

import pytest
from layout import BASE, at, draw, layout, shades
from operations import modify, unmap
from process import RW, Process, R

from vmastore.mm.flags import PMD_SIZE, VM_LOCKED
from vmastore.mm.merge import do_vmi_munmap, vma_modify_flags
from vmastore.mm.mm import Config
from vmastore.mm.rules import resolve
from vmastore.mm.unknown import UNSURE_PIECE
from vmastore.mm.vma import File, Mempolicy, UffdCtx
from vmastore.syscalls import uapi
from vmastore.syscalls.mmap import sys_mmap

HUGE = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_HUGETLB | uapi.MAP_FIXED
HUGE_PAGES = PMD_SIZE >> 12


def test_pieces_keep_everything() -> None:
    """Every field of a split VMA is in all its pieces, the anon_vma and its chain too; offsets go on."""
    mm = layout("AAAAAAAAA", "WWWWWWWWW", forked="A", files={"A": File(1, "regular")})
    whole = mm.find_vma(at(0))
    whole.attrs = whole.attrs.with_policy(Mempolicy(2, 0, 1, 1)).with_uffd(whole.vm_flags, UffdCtx(1)).with_name("n")
    whole.unsure = 2
    before = (whole.attrs, whole.anon_vma, whole.chain, whole.label, whole.unsure)
    modify(3, 6, "r")(mm)
    low, middle, high = mm.vmas()
    for piece in (low, high):
        assert (piece.attrs, piece.anon_vma, piece.chain, piece.label, piece.unsure & ~UNSURE_PIECE) == before
        assert piece.unsure & UNSURE_PIECE  # written while it was whole, it shares its anon_vma with the others
    assert (middle.attrs.vm_policy, middle.attrs.uffd, middle.anon_name) == (low.vm_policy, low.attrs.uffd, "n")
    assert (middle.anon_vma, middle.chain) == (low.anon_vma, low.chain)
    assert [v.vm_pgoff - low.vm_pgoff for v in (low, middle, high)] == [0, 3, 6]


@pytest.mark.parametrize(("first", "pages"), [(1, 1), (0, HUGE_PAGES + 1), (HUGE_PAGES - 1, HUGE_PAGES + 1)])
def test_huge_pages_are_not_cut(first: int, pages: int) -> None:
    """A hugetlb mapping splits at 2 MiB boundaries only; mprotect and munmap say EINVAL elsewhere."""
    assert BASE % PMD_SIZE == 0
    p = Process("6.18")
    assert sys_mmap(p.mm, at(0), 2 * PMD_SIZE, RW, HUGE, None, 0) == at(0)
    assert p.mprotect(first, pages, R) == -EINVAL
    assert p.munmap(first, pages) == -EINVAL
    assert p.munmap(HUGE_PAGES, HUGE_PAGES) == 0
    assert p.mm.map_count == 1


def test_special_mappings_are_not_cut() -> None:
    """[vdso] and its like can be unmapped whole, never in part."""
    mm = layout("VVVV", "rrrr", files={"V": File(0, "special", "[vdso]")})
    vma = mm.find_vma(at(0))
    assert vma_modify_flags(mm.vmi, vma, vma, at(1), at(2), vma.vm_flags | VM_LOCKED) == -EINVAL
    assert do_vmi_munmap(mm.vmi, at(1), at(2)) == -EINVAL
    assert do_vmi_munmap(mm.vmi, at(0), at(4)) == 0


@pytest.mark.parametrize(
    ("first", "end", "want", "splits"),
    [
        (0, 9, "", 0),
        (3, 6, "AAA   AAA", 2),
        (0, 3, "   AAAAAA", 1),
        (6, 9, "AAAAAA", 1),
        (9, 12, "AAAAAAAAA", 0),
        (6, 20, "AAAAAA", 1),
    ],
)
def test_munmap(first: int, end: int, want: str, splits: int) -> None:
    """munmap cuts the edges of its range and takes what is inside; what is not mapped does not matter."""
    mm = layout("AAAAAAAAA", "WWWWWWWWW")
    unmap(first, end)(mm)
    assert (draw(mm), shades(mm)) == (want, want.replace("A", "W"))
    assert [d.action for d in mm.decisions] == ["split"] * splits


def test_munmap_across_vmas_and_holes() -> None:
    """The first and the last VMA are cut, those between go."""
    mm = layout("AAA BBB  CCC DD")
    unmap(1, 11)(mm)
    assert draw(mm) == "A          C DD"


@pytest.mark.parametrize("kernel", ["6.12", "6.18", "7.3"])
def test_a_sealed_vma_stops_munmap(kernel: str) -> None:
    """Nothing is unmapped, though the edge below may have been cut by then."""
    p = Process(kernel)
    p.mmap(0, 4), p.mmap(6, 1), p.mseal(2, 2)
    assert p.munmap(1, 9) == -EPERM
    assert p.lines(0, 7) == "[0-1 rw-p][1-2 rw-p][2-4 rw-p][6-7 rw-p]"
    assert p.munmap(3, 1) == -EPERM
    assert p.lines(2, 4) == "[2-4 rw-p]"


def test_seals_were_checked_first_once() -> None:
    """6.10 and 6.11 look for a sealed VMA in the whole range before anything is cut."""
    p = Process(resolve("6.10.5"))
    p.mmap(0, 4), p.mmap(6, 1), p.mseal(2, 2)
    assert p.munmap(1, 9) == -EPERM
    assert p.lines(0, 7) == "[0-2 rw-p][2-4 rw-p][6-7 rw-p]"
    assert p.munmap(0, 2) == 0
    assert p.lines(0, 7) == "[2-4 rw-p][6-7 rw-p]"


@pytest.mark.parametrize("regions", [3, 300], ids=["few", "many"])
def test_page_tables_go_with_the_last_mapping(regions: int) -> None:
    """A 2 MiB region keeps its page table while any VMA is left in it, however many there are."""
    p = Process("6.18")
    first = BASE // PMD_SIZE
    p.mmap(0, HUGE_PAGES * 3), p.write(0), p.write(HUGE_PAGES), p.write(2 * HUGE_PAGES)
    p.mm.pmds.update(range(first + 3, first + regions))
    before = set(p.mm.pmds)
    p.munmap(1, HUGE_PAGES * 2 - 1)
    assert before - p.mm.pmds == {first + 1}
    p.munmap(0, 1)
    assert before - p.mm.pmds == {first, first + 1}
    p.munmap(2 * HUGE_PAGES, HUGE_PAGES)
    assert before - p.mm.pmds == {first, first + 1, first + 2}


def test_munmap_at_the_limit() -> None:
    """At the map limit only a hole in the middle of one VMA is refused, and before anything is done."""
    mm = layout("AAA BBB", config=Config(max_map_count=2))
    assert do_vmi_munmap(mm.vmi, at(1), at(2)) == -ENOMEM
    assert draw(mm) == "AAA BBB"
    assert do_vmi_munmap(mm.vmi, at(1), at(6)) == 0
    assert draw(mm) == "A     B"


def test_a_failing_second_split_leaves_the_first() -> None:
    """With room for one more VMA, changing a middle cuts below and then fails."""
    mm = layout("CCCCCCCCC", config=Config(max_map_count=2))
    vma = mm.find_vma(at(0))
    assert vma_modify_flags(mm.vmi, vma, vma, at(3), at(6), vma.vm_flags | VM_LOCKED) == -ENOMEM
    assert draw(mm) == "CCCcccccc"
    assert not any(v.vm_flags & VM_LOCKED for v in mm.vmas())
