"""The scenarios of the kernel's own merge selftests, step by step, drawn after each.

The names are those of tools/testing/selftests/mm/merge.c; areas and distances are smaller here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from layout import draw, layout, shades
from process import RW, RWX, Process, R

from vmastore.mm.rules import PRESETS
from vmastore.syscalls import uapi

NAMES = tuple(name for name in PRESETS if name != "series-v1")
STRICT = ("6.1", "6.7", "6.8", "6.12")  # before a written range could join an unwritten neighbour (6.16)
Do = Callable[[Process], Process]


# -- steps ------------------------------------------------------------------------------------------


def _step(call: Callable[[Process], int]) -> Do:
    def run(p: Process) -> Process:
        assert call(p) >= 0
        return p

    return run


def mmap(letter: str, page: int, pages: int, prot: int = RW, flags: int = 0) -> Do:
    """Map a new area, called `letter` if it is a VMA of its own."""

    def run(p: Process) -> Process:
        assert p.mmap(page, pages, prot, flags) >= 0
        p.label(page, letter)
        return p

    return run


def noreserve(letter: str, page: int, pages: int, prot: int = RW) -> Do:
    """Without VM_ACCOUNT, so that only the anon_vma can keep VMAs apart."""
    return mmap(letter, page, pages, prot, uapi.MAP_NORESERVE)


def munmap(page: int, pages: int) -> Do:
    return _step(lambda p: p.munmap(page, pages))


def mprotect(page: int, pages: int, prot: int) -> Do:
    return _step(lambda p: p.mprotect(page, pages, prot))


def write(page: int) -> Do:
    return _step(lambda p: -p.write(page))


def move(page: int, pages: int, to: int) -> Do:
    return _step(lambda p: p.move(page, pages, to))


def copy(page: int, pages: int, to: int) -> Do:
    """MREMAP_DONTUNMAP: the source stays mapped."""
    return _step(lambda p: p.move(page, pages, to, uapi.MREMAP_DONTUNMAP))


def fork() -> Do:
    """Go on in the child."""
    return lambda p: p.fork()


@dataclass(frozen=True)
class Step:
    """A step, and the two rows of the drawing after it; `other` rows under the rule sets `where`."""

    do: Do
    drawing: str
    shading: str
    where: tuple[str, ...] = ()
    other: tuple[str, str] = ("", "")

    def expected(self, kernel: str) -> tuple[str, str]:
        return self.other if kernel in self.where else (self.drawing, self.shading)


MPROTECT = {
    "mprotect_unfaulted_left": (
        Step(noreserve("A", 0, 6), "AAAAAA", "wwwwww"),
        Step(mprotect(0, 3, R), "AAAaaa", "rrrwww"),
        Step(write(3), "AAAaaa", "rrrWWW"),
        Step(mprotect(3, 3, R), "AAAAAA", "RRRRRR", STRICT, ("AAAaaa", "rrrRRR")),
    ),
    "mprotect_unfaulted_right": (
        Step(noreserve("A", 0, 6), "AAAAAA", "wwwwww"),
        Step(mprotect(3, 3, R), "AAAaaa", "wwwrrr"),
        Step(write(0), "AAAaaa", "WWWrrr"),
        Step(mprotect(0, 3, R), "AAAAAA", "RRRRRR", STRICT, ("AAAaaa", "RRRrrr")),
    ),
    "mprotect_unfaulted_both": (
        Step(noreserve("A", 0, 9), "AAAAAAAAA", "wwwwwwwww"),
        Step(mprotect(0, 3, R), "AAAaaaaaa", "rrrwwwwww"),
        Step(mprotect(6, 3, R), "AAAaaaAAA", "rrrwwwrrr"),
        Step(write(3), "AAAaaaAAA", "rrrWWWrrr"),
        Step(mprotect(3, 3, R), "AAAAAAAAA", "RRRRRRRRR", STRICT, ("AAAaaaAAA", "rrrRRRrrr")),
    ),
    "mprotect_faulted_left_unfaulted_right": (
        Step(noreserve("A", 0, 9), "AAAAAAAAA", "wwwwwwwww"),
        Step(mprotect(6, 3, R), "AAAAAAaaa", "wwwwwwrrr"),
        Step(write(0), "AAAAAAaaa", "WWWWWWrrr"),
        Step(mprotect(0, 3, R), "AAAaaaAAA", "RRRWWWrrr"),
        Step(mprotect(3, 3, R), "AAAAAAAAA", "RRRRRRRRR", STRICT, ("AAAAAAaaa", "RRRRRRrrr")),
    ),
    "mprotect_unfaulted_left_faulted_right": (
        Step(noreserve("A", 0, 9), "AAAAAAAAA", "wwwwwwwww"),
        Step(mprotect(0, 3, R), "AAAaaaaaa", "rrrwwwwww"),
        Step(write(3), "AAAaaaaaa", "rrrWWWWWW"),
        Step(mprotect(6, 3, R), "AAAaaaAAA", "rrrWWWRRR"),
        Step(mprotect(3, 3, R), "AAAAAAAAA", "RRRRRRRRR", STRICT, ("AAAaaaaaa", "rrrRRRRRR")),
    ),
}

FORKED = {
    "forked_target_vma": (
        Step(mmap("A", 0, 3), "AAA", "www"),
        Step(write(0), "AAA", "WWW"),
        Step(fork(), "AAA", "WWW"),
        Step(write(0), "AAA", "WWW"),
        Step(mmap("B", 3, 3), "AAABBB", "WWWwww"),
    ),
    "forked_source_vma": (
        Step(noreserve("A", 0, 3), "AAA", "www"),
        Step(write(0), "AAA", "WWW"),
        Step(fork(), "AAA", "WWW"),
        Step(write(0), "AAA", "WWW"),
        Step(noreserve("B", 3, 3, RWX), "AAABBB", "WWWxxx"),
        Step(mprotect(0, 3, RWX), "AAABBB", "XXXxxx"),
    ),
}

MREMAP = {
    "mremap_unfaulted_to_faulted": (
        Step(mmap("A", 0, 3), "AAA", "www"),
        Step(mmap("B", 4, 3), "AAA BBB", "www www"),
        Step(move(4, 3, 20), "AAA                 BBB", "www                 www"),
        Step(write(0), "AAA                 BBB", "WWW                 www"),
        Step(move(20, 3, 3), "AAAAAA", "WWWWWW"),
    ),
    "mremap_unfaulted_behind_faulted": (
        Step(mmap("A", 3, 3), "   AAA", "   www"),
        Step(mmap("B", 8, 3), "   AAA  BBB", "   www  www"),
        Step(move(8, 3, 20), "   AAA              BBB", "   www              www"),
        Step(write(3), "   AAA              BBB", "   WWW              www"),
        Step(move(20, 3, 0), "AAAAAA", "WWWWWW"),
    ),
    "mremap_unfaulted_between_faulted": (
        Step(mmap("A", 0, 3), "AAA", "www"),
        Step(mmap("B", 4, 3), "AAA BBB", "www www"),
        Step(mmap("C", 8, 3), "AAA BBB CCC", "www www www"),
        Step(move(8, 3, 16), "AAA BBB         CCC", "www www         www"),
        Step(move(4, 3, 12), "AAA         BBB CCC", "www         www www"),
        Step(write(0), "AAA         BBB CCC", "WWW         www www"),
        Step(write(16), "AAA         BBB CCC", "WWW         www WWW"),
        Step(move(16, 3, 6), "AAA   CCC   BBB", "WWW   WWW   www"),
        Step(move(12, 3, 3), "AAAAAACCC", "WWWWWWWWW"),
    ),
    "mremap_unfaulted_between_faulted_unfaulted": (
        Step(mmap("A", 0, 3), "AAA", "www"),
        Step(mmap("B", 4, 3), "AAA BBB", "www www"),
        Step(mmap("C", 8, 3), "AAA BBB CCC", "www www www"),
        Step(move(8, 3, 16), "AAA BBB         CCC", "www www         www"),
        Step(move(4, 3, 12), "AAA         BBB CCC", "www         www www"),
        Step(write(0), "AAA         BBB CCC", "WWW         www www"),
        Step(move(16, 3, 6), "AAA   CCC   BBB", "WWW   www   www"),
        Step(move(12, 3, 3), "AAAAAAAAA", "WWWWWWWWW"),
    ),
    "mremap_unfaulted_between_correctly_placed_faulted": (
        Step(mmap("A", 0, 9), "AAAAAAAAA", "wwwwwwwww"),
        Step(write(0), "AAAAAAAAA", "WWWWWWWWW"),
        Step(munmap(3, 3), "AAA   AAA", "WWW   WWW"),
        Step(mmap("B", 12, 3), "AAA   AAA   BBB", "WWW   WWW   www"),
        Step(move(12, 3, 3), "AAAAAAAAA", "WWWWWWWWW"),
    ),
    "mremap_correct_placed_faulted": (
        Step(mmap("A", 0, 9), "AAAAAAAAA", "wwwwwwwww"),
        Step(write(0), "AAAAAAAAA", "WWWWWWWWW"),
        Step(move(6, 3, 16), "AAAAAA          AAA", "WWWWWW          WWW"),
        Step(move(3, 3, 12), "AAA         AAA AAA", "WWW         WWW WWW"),
        Step(move(12, 3, 3), "AAAAAA          AAA", "WWWWWW          WWW"),
        Step(move(0, 3, 12), "   AAA      AAA AAA", "   WWW      WWW WWW"),
        Step(move(12, 3, 0), "AAAAAA          AAA", "WWWWWW          WWW"),
        Step(move(0, 3, 12), "   AAA      AAA AAA", "   WWW      WWW WWW"),
        Step(move(16, 3, 6), "   AAAAAA   AAA", "   WWWWWW   WWW"),
        Step(move(12, 3, 0), "AAAAAAAAA", "WWWWWWWWW"),
        Step(move(3, 3, 12), "AAA   AAA   AAA", "WWW   WWW   WWW"),
        Step(move(12, 3, 3), "AAAAAAAAA", "WWWWWWWWW"),
        Step(move(6, 3, 16), "AAAAAA          AAA", "WWWWWW          WWW"),
        Step(move(16, 3, 6), "AAAAAAAAA", "WWWWWWWWW"),
    ),
}


def _dontunmap(*, forked: bool) -> dict[str, tuple[Step, ...]]:
    """A written area moved away, and copied back beside unwritten ones; in a child it never joins them."""
    lone = NAMES if forked else STRICT
    again = Step(fork(), "   AAA", "   WWW") if forked else Step(write(3), "   AAA", "   WWW")
    start = (Step(mmap("A", 3, 3), "   AAA", "   www"), Step(write(3), "   AAA", "   WWW"), again)
    away = Step(move(3, 3, 12), "            AAA", "            WWW")
    return {
        "mremap_faulted_to_unfaulted_prev": (
            *start,
            away,
            Step(mmap("B", 0, 3), "BBB         AAA", "www         WWW"),
            Step(copy(12, 3, 3), "BBBBBB      AAA", "WWWWWW      www", lone, ("BBBAAA      AAA", "wwwWWW      www")),
        ),
        "mremap_faulted_to_unfaulted_next": (
            *start,
            away,
            Step(mmap("B", 6, 3), "      BBB   AAA", "      www   WWW"),
            Step(copy(12, 3, 3), "   BBBBBB   AAA", "   WWWWWW   www", lone, ("   AAABBB   AAA", "   WWWwww   www")),
        ),
        "mremap_faulted_to_unfaulted_prev_unfaulted_next": (
            *start,
            away,
            Step(mmap("B", 0, 3), "BBB         AAA", "www         WWW"),
            Step(mmap("C", 6, 3), "BBB   CCC   AAA", "www   www   WWW"),
            Step(copy(12, 3, 3), "BBBBBBBBB   AAA", "WWWWWWWWW   www", lone, ("BBBAAACCC   AAA", "wwwWWWwww   www")),
        ),
        "mremap_faulted_to_unfaulted_prev_faulted_next": (
            Step(mmap("A", 3, 6), "   AAAAAA", "   wwwwww"),
            Step(write(3), "   AAAAAA", "   WWWWWW"),
            Step(fork() if forked else write(3), "   AAAAAA", "   WWWWWW"),
            Step(move(3, 3, 12), "      AAA   AAA", "      WWW   WWW"),
            Step(mmap("B", 0, 3), "BBB   AAA   AAA", "www   WWW   WWW"),
            Step(copy(12, 3, 3), "BBBBBBBBB   AAA", "WWWWWWWWW   www", lone, ("BBBAAAAAA   AAA", "wwwWWWWWW   www")),
        ),
    }


SCENARIOS = MPROTECT | FORKED | MREMAP | _dontunmap(forked=False)
SCENARIOS |= {f"{name}-forked": steps for name, steps in _dontunmap(forked=True).items()}


@pytest.mark.parametrize("kernel", NAMES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, kernel: str) -> None:
    """After every step of the scenario the address space is the one drawn."""
    p = Process(mm=layout("", rules=kernel))
    for number, step in enumerate(SCENARIOS[name], 1):
        p = step.do(p)
        assert (draw(p.mm), shades(p.mm)) == step.expected(kernel), f"step {number}"


@pytest.mark.parametrize("kernel", NAMES)
def test_ksm_merge(kernel: str) -> None:
    """Under PR_SET_MEMORY_MERGE new mappings merge since 6.17; 6.1 has no such prctl."""
    p = Process(kernel)
    p.mmap(0, 1), p.mmap(1, 1)
    assert draw(p.mm) == "**"
    p.munmap(1, 1)
    if kernel == "6.1":
        assert p.memory_merge(True) == -errno.EINVAL
        return
    assert p.memory_merge(True) == 0
    merged = "**" if kernel in ("6.18", "7.3") else "*+"
    p.mmap(1, 1)
    assert draw(p.mm) == merged
    p.munmap(0, 2), p.mmap(0, 1), p.mmap(1, 1)
    assert draw(p.mm) == merged


@pytest.mark.parametrize("kernel", NAMES)
def test_merge_vmas_with_mseal(kernel: str) -> None:
    """Sealing all of a range merges what becomes equal by it, sealed with sealed."""
    p = Process(mm=layout("ABC", "wxr", rules=kernel))
    if kernel in ("6.1", "6.7", "6.8"):
        assert p.mseal(1, 1) == -errno.ENOSYS
        return
    assert p.mseal(1, 1) == 0
    assert p.mprotect(0, 1, RWX) == 0
    assert draw(p.mm) == "ABC"
    assert p.mseal(0, 3) == 0
    assert (draw(p.mm), shades(p.mm)) == ("BBC", "xxr")


@pytest.mark.skip(reason="handle_uprobe_upon_merged_vma: a uprobe is set through perf, no call of a trace reaches it")
def test_handle_uprobe_upon_merged_vma() -> None:
    """The kernel survives a uprobe on a VMA that mremap merged."""
