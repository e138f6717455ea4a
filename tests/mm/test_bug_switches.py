"""Every bug switch shows: a few calls that come out otherwise with the bug; and each stands where the bug was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from errno import ENOMEM

import pytest
from layout import at
from process import RW, Process, R

from vmastore.mm.bugs import Bugs
from vmastore.mm.flags import PAGE_SHIFT, PMD_SIZE, TASK_SIZE, VM_GROWSDOWN
from vmastore.mm.merge import Oops
from vmastore.mm.mm import Config
from vmastore.mm.rules import PRESETS, preset, resolve
from vmastore.syscalls import uapi
from vmastore.syscalls.mempolicy import sys_mbind
from vmastore.syscalls.mmap import sys_mmap

BUGS = [f.name.replace("_", "-") for f in fields(Bugs)]
ANON = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS
HUGE = PMD_SIZE >> PAGE_SHIFT


def bind(p: Process, page: int, pages: int, nodes: int = 1) -> int:
    return sys_mbind(p.mm, at(page), pages << PAGE_SHIFT, uapi.MPOL_BIND, nodes, 64, 0)


def grow_from_inside(p: Process) -> object:
    p.mmap(0, 2), p.mmap(3, 1)
    return p.mremap(1, 1, 2) == at(1) or p.mremap(1, 1, 2), p.lines(0, 4)


def grow_a_segment(p: Process) -> object:
    p.shmat(0, 4), p.munmap(2, 2)
    return p.mremap(0, 2, 3) == at(0) or p.mremap(0, 2, 3), p.lines(0, 4)


def bind_again(p: Process) -> object:
    p.mmap(0, 3), bind(p, 0, 1), bind(p, 0, 3)
    return p.lines(0, 3)


def bind_after_equal_from_inside(p: Process) -> object:
    """An equal VMA that the range begins inside of is remembered all the same."""
    p.mmap(0, 4), bind(p, 0, 2), bind(p, 1, 3)
    return p.lines(0, 4)


def bind_at_zero(p: Process) -> object:
    p.mmap(0, 1)
    sys_mmap(p.mm, 0, 2 << PAGE_SHIFT, RW, ANON | uapi.MAP_FIXED, None, 0)
    try:
        return sys_mbind(p.mm, 0, 1 << PAGE_SHIFT, uapi.MPOL_BIND, 1, 64, 0)
    except Oops as error:
        return str(error).split(",")[1]


def bind_several(p: Process) -> object:
    p.mmap(0, 3), bind(p, 1, 1, 2), bind(p, 0, 3)
    return p.lines(0, 3)


def bind_a_tail(p: Process) -> object:
    p.mmap(0, 6), bind(p, 4, 2), bind(p, 2, 2)
    return p.lines(0, 6)


def register_and_back(p: Process) -> object:
    p.mmap(0, 6)
    uffd = p.userfaultfd()
    p.register(uffd, 2, 2), p.unregister(uffd, 2, 2)
    return p.lines(0, 6)


def two_halves_of_a_descendant(p: Process) -> object:
    p.mmap(0, 4), p.write(0)
    child = p.fork().fork().fork()  # the processes between are gone: only the first and the last are looked at
    child.mprotect(0, 2, R)
    last = child.fork()
    last.mprotect(0, 2, RW)
    return last.lines(0, 4)


def follow_a_hint(p: Process) -> object:
    p.mmap(0, HUGE), p.mmap(2 * HUGE, 1, R)
    return sys_mmap(p.mm, at(HUGE), PMD_SIZE, RW, ANON, None, 0) == at(HUGE)


def below_a_stack(p: Process) -> object:
    """How many pages are free between a new mapping and the stack above it."""
    flags = ANON | uapi.MAP_FIXED | uapi.MAP_GROWSDOWN
    stack = TASK_SIZE - (64 << PAGE_SHIFT)
    sys_mmap(p.mm, stack, 32 << PAGE_SHIFT, RW, flags, None, 0)
    other = stack + (32 << PAGE_SHIFT) - (128 << 20) - (4 << PAGE_SHIFT)
    sys_mmap(p.mm, other, 4 << PAGE_SHIFT, RW, flags, None, 0)
    placed = sys_mmap(p.mm, 0, 1 << PAGE_SHIFT, RW, ANON, None, 0)
    above = p.mm.find_vma(placed).next
    assert above.vm_flags & VM_GROWSDOWN
    return (above.vm_start - placed >> PAGE_SHIFT) - 1


Row = tuple[Callable[[Process], object], str, object, object]
TABLE: dict[str, Row] = {  # calls, base, without the bug, with it
    "mremap-extend-wrong-offset": (grow_from_inside, "6.1", (True, "[0-4 rw-p]"), (-ENOMEM, "[0-2 rw-p][3-4 rw-p]")),
    "mremap-extend-needs-no-close": (grow_a_segment, "6.1", (True, "[0-3 rw-s]"), (-ENOMEM, "[0-2 rw-s]")),
    "mbind-stale-prev": (bind_again, "6.12", "[0-3 rw-p]", "[0-1 rw-p][1-3 rw-p]"),
    "mbind-underflow": (bind_at_zero, "6.1", 0, " and all between are lost"),
    "mbind-range-offset": (bind_several, "6.12", "[0-3 rw-p]", "[0-1 rw-p][1-2 rw-p][2-3 rw-p]"),
    "mbind-vma-offset": (bind_a_tail, "6.12", "[0-2 rw-p][2-6 rw-p]", "[0-2 rw-p][2-4 rw-p][4-6 rw-p]"),
    "uffd-never-merges": (register_and_back, "6.12", "[0-6 rw-p]", "[0-2 rw-p][2-4 rw-p][4-6 rw-p]"),
    "anon-vma-reused-twice": (two_halves_of_a_descendant, "6.12", "[0-2 rw-p][2-4 rw-p]", "[0-4 rw-p]"),
    "thp-align-ignores-hint": (follow_a_hint, "6.12", True, False),
    "unmapped-area-no-guard-gap": (below_a_stack, "6.1", 256, 0),
}


def test_every_bug_is_in_the_table() -> None:
    """No bug is without a scenario that shows it, no scenario without a bug."""
    assert list(TABLE) == BUGS


@pytest.mark.parametrize("with_bug", [False, True], ids=["mended", "bug"])
@pytest.mark.parametrize("switch", TABLE)
def test_bug(switch: str, with_bug: bool) -> None:
    """The calls come out as the table says with the bug and without it."""
    calls, base, mended, broken = TABLE[switch]
    process = Process(preset(base).with_rule(switch, with_bug), Config(nodes=3, mmap_min_addr=0))
    assert calls(process) == (broken if with_bug else mended)


def test_an_equal_policy_at_the_start_is_remembered() -> None:
    """mbind-stale-prev: where the range begins inside the VMA that has the policy already, nothing is lost."""
    process = Process(preset("6.12").with_rule("mbind-stale-prev", True))
    assert bind_after_equal_from_inside(process) == "[0-4 rw-p]"


def test_observed_kernels_have_none_of_them() -> None:
    """Of the presets only 6.7 and 6.8 have one: the hint that is ignored."""
    found = {name: set(BUGS) & set(preset(name).on()) for name in PRESETS}
    assert {name for name, bugs in found.items() if bugs} == {"6.7", "6.8", "series-v1"}
    assert set().union(*found.values()) == {"thp-align-ignores-hint"}


@pytest.mark.parametrize(
    ("switch", "without", "having"),
    [
        ("mremap-extend-wrong-offset", ["6.0.9", "6.1.3", "6.2.0"], ["6.1.0", "6.1.2"]),
        ("mremap-extend-needs-no-close", ["6.1.11", "6.2.0"], ["6.1.10"]),
        ("mbind-stale-prev", ["6.1.26", "6.1.28", "6.2.15", "6.3.2", "6.4.0"], ["6.1.27", "6.2.14", "6.3.1"]),
        ("mbind-vma-offset", ["3.0.0", "3.3.0"], ["3.1.0", "3.2.0"]),
        ("anon-vma-reused-twice", ["5.19.7", "6.0.0"], ["5.19.6", "4.19.0"]),
        ("thp-align-ignores-hint", ["6.6.9", "6.12.2", "6.13.0"], ["6.7.0", "6.12.1"]),
        ("unmapped-area-no-guard-gap", ["6.0.0", "6.1.26", "6.2.13", "6.3.0"], ["6.1.25", "6.2.12"]),
    ],
)
def test_a_bug_is_where_it_was(switch: str, without: list[str], having: list[str]) -> None:
    """A release has the bug from the change that brought it to the one that mended it, stable branches apart."""
    assert [switch in resolve(release).on() for release in without] == [False] * len(without)
    assert [switch in resolve(release).on() for release in having] == [True] * len(having)
