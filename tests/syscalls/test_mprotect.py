"""mprotect: its errors in the kernel's order, what has changed by then, and the flags that come with permissions."""

from __future__ import annotations

import os
from errno import EACCES, EINVAL, ENOMEM, EPERM
from typing import Any, NamedTuple

import pytest

from vmastore.conform.kernel import Kernel
from vmastore.errors import RuleError
from vmastore.mm.flags import (
    VM_ACCOUNT,
    VM_EXEC,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_PKEY_MASK,
    VM_PKEY_SHIFT,
    VM_READ,
    VM_WRITE,
    perms,
)
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import preset, resolve
from vmastore.mm.vma import File
from vmastore.syscalls.fault import fault
from vmastore.syscalls.mlock import sys_mlock
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.mprotect import sys_mprotect
from vmastore.syscalls.mseal import sys_mseal
from vmastore.syscalls.uapi import READ_IMPLIES_EXEC

P = 4096
BASE = 0x300000000000
KERNELS = ["6.1", "6.8", "6.12", "6.18", "7.3"]
DOWN, UP = 0x01000000, 0x02000000
R, RW, RX, RWX = 1, 3, 5, 7
TOP = (1 << 64) - 1
STACK = 0x132  # MAP_GROWSDOWN

ONE = ((0, 4, RW),)
GAP = ((0, 2, RW), (4, 2, RW))
GROWS = ((4, 4, RW, STACK),)
FILE = ((0, 2, R, 0x12), (2, 2, R, 0x11))  # a file open read-only: private, then shared


class Row(NamedTuple):
    """A call, its errno, and the VMAs afterwards (`page perms`); None: as before."""

    name: str
    setup: tuple[Any, ...]  # page, pages, prot, mmap's flags
    call: tuple[int, int, int]  # start behind the base, length, prot
    errno: int
    after: str | None = None


# Each row breaks one rule, and often later ones too: the earliest in the kernel's order decides.
ROWS = [
    Row("both directions, unaligned", ONE, (1, P, R | DOWN | UP), EINVAL),
    Row("both directions, no length", ONE, (0, 0, R | DOWN | UP), EINVAL),
    Row("unaligned, no length", ONE, (1, 0, R), EINVAL),
    Row("unaligned, in a hole", (), (1, P, R), EINVAL),
    Row("no length, in a hole, unknown bits", (), (0, 0, R | 0x100), 0),
    Row("a length that wraps, unknown bits", ONE, (0, TOP, R | 0x100), ENOMEM),
    Row("an end beyond the top", ONE, (P, TOP - P, R), ENOMEM),
    Row("unknown bits, in a hole", (), (0, P, R | 0x100), EINVAL),
    Row("unknown bits, growing", ONE, (0, P, R | 0x10 | UP), EINVAL),
    Row("the bit of semaphores", ONE, (0, 4 * P, R | 8), 0, "0-4 r--p"),
    Row("a hole", (), (0, P, R), ENOMEM),
    Row("a hole that ends where a mapping begins", GAP, (2 * P, 2 * P, R), ENOMEM),
    Row("a hole at the start", GAP, (3 * P, 2 * P, R), ENOMEM),
    Row("a hole in the middle", GAP, (0, 6 * P, R), ENOMEM, "0-2 r--p 4-6 rw-p"),
    Row("a hole at the end", GAP, (P, 2 * P, R), ENOMEM, "0-1 rw-p 1-2 r--p 4-6 rw-p"),
    Row("a byte more than a page", ONE, (0, P + 1, R), 0, "0-2 r--p 2-4 rw-p"),
    Row("up, a mapping", ONE, (0, P, R | UP), EINVAL),
    Row("up, a hole at the start", GAP, (3 * P, 2 * P, R | UP), ENOMEM),
    Row("down, a mapping that does not grow", ONE, (0, P, R | DOWN), EINVAL),
    Row("down, a hole before one that does not grow", GAP, (3 * P, 2 * P, R | DOWN), EINVAL),
    Row("down, a hole", GROWS, (2 * P, 2 * P, R | DOWN), ENOMEM),
    Row("down, from its middle", GROWS, (6 * P, P, R | DOWN), 0, "4-7 r--p 7-8 rw-p"),
    Row("down, from the hole below it", GROWS, (3 * P, 2 * P, R | DOWN), 0, "4-5 r--p 5-8 rw-p"),
    Row("more than the file allows", FILE, (0, 4 * P, RW), EACCES, "0-2 rw-p 2-4 r--s"),
    Row("as the one below it", ((0, 2, RW), (2, 2, R)), (2 * P, 2 * P, RW), 0, "0-4 rw-p"),
    Row("two that become alike", ((0, 2, R), (2, 2, RX)), (0, 4 * P, RW), 0, "0-4 rw-p"),
    Row(
        "the end of one and the start of the next",
        ((0, 3, R), (3, 3, RX)),
        (2 * P, 2 * P, RW),
        0,
        "0-2 r--p 2-4 rw-p 4-6 r-xp",
    ),
    Row("what it has", ONE, (P, P, RW), 0),
    Row("nothing", ONE, (P, P, 0), 0, "0-1 rw-p 1-2 ---p 2-4 rw-p"),
]


def lines(pieces: list[tuple[int, int, str]]) -> str:
    return " ".join(f"{(a - BASE) // P}-{(b - BASE) // P} {p}" for a, b, p in pieces)


def space(kernel: str = "6.18", setup: tuple[Any, ...] = ONE, config: Config | None = None) -> Mm:
    mm = Mm(Env(preset(kernel), config or Config()))
    file = File(1, "memfd", readable=True, writable=False, size=64 * P)
    for page, pages, prot, *flags in setup:
        kind = flags[0] if flags else 0x32
        mapped = sys_mmap(mm, BASE + page * P, pages * P, prot, kind, None if kind & 0x20 else file, page * P)
        assert mapped == BASE + page * P
    return mm


def shown(mm: Mm) -> str:
    return lines([(v.vm_start, v.vm_end, perms(v.vm_flags)) for v in mm.vmas()])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("row", ROWS, ids=[row.name.replace(" ", "-") for row in ROWS])
def test_the_earliest_broken_rule_decides(row: Row, kernel: str) -> None:
    """The errno, and what has been changed by then, under every preset."""
    mm = space(kernel, row.setup)
    before = shown(mm)
    start, length, prot = row.call
    assert sys_mprotect(mm, BASE + start, length, prot) == -row.errno
    assert shown(mm) == (before if row.after is None else row.after)


@pytest.mark.parametrize("row", ROWS, ids=[row.name.replace(" ", "-") for row in ROWS])
def test_the_running_kernel_agrees(row: Row) -> None:
    """So does the running kernel, whichever: no release has changed any of this."""
    try:
        resolve(os.uname().release, os.uname().version)
    except RuleError:
        pytest.skip(f"no rule set for {os.uname().release}")
    if os.uname().machine != "x86_64":
        pytest.skip("the calls are made by their x86-64 numbers")
    kernel = Kernel()
    try:
        for page, pages, prot, *flags in row.setup:
            kind = flags[0] if flags else 0x32
            fd = -1 if kind & 0x20 else 3
            made = kernel.call("mmap", [BASE + page * P, pages * P, prot, kind, fd, 0 if fd < 0 else page * P])
            assert made == (BASE + page * P, 0)
        before = _live()
        start, length, prot = row.call
        _, errno = kernel.call("mprotect", [BASE + start, length, prot])
        after = _live()
    finally:
        kernel.call("munmap", [BASE - 16 * P, 64 * P])
    assert (errno, after) == (row.errno, before if row.after is None else row.after)


def _live() -> str:
    found = []
    with open("/proc/self/maps") as stream:
        for text in stream:
            bounds, shape, *_ = text.split()
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            if BASE <= start < BASE + 64 * P:
                found.append((start, end, shape))
    return lines(found)


@pytest.mark.parametrize(("kernel", "after"), [("6.12", "0-2 r--p 2-4 rw-p"), ("6.18", "0-2 r--p 2-4 rw-p")])
def test_a_sealed_vma_is_refused_where_it_is_met(kernel: str, after: str) -> None:
    """EPERM at the sealed one, even for what it has already; those before it are changed."""
    mm = space(kernel, ((0, 4, RW),))
    assert sys_mseal(mm, BASE + 2 * P, 2 * P, 0) == 0
    assert sys_mprotect(mm, BASE, 4 * P, R) == -EPERM and shown(mm) == after
    assert sys_mprotect(mm, BASE + 2 * P, P, RW) == -EPERM


def test_early_releases_look_for_seals_first() -> None:
    """6.10 and 6.11: EPERM, and nothing has been changed."""
    mm = Mm(Env(resolve("6.11.0"), Config()))
    assert sys_mmap(mm, BASE, 4 * P, RW, 0x32, None, 0) == BASE
    assert sys_mseal(mm, BASE + 2 * P, P, 0) == 0
    before = shown(mm)
    assert sys_mprotect(mm, BASE, 4 * P, R) == -EPERM and shown(mm) == before
    assert sys_mprotect(mm, BASE, 2 * P, R) == 0 and sys_mprotect(mm, BASE + 3 * P, P, R) == 0


def flags(mm: Mm, page: int = 0) -> int:
    return mm.find_vma(BASE + page * P).vm_flags


@pytest.mark.parametrize(
    ("had", "asked", "errno"),
    [(RW, RWX, EACCES), (RW, RX, EACCES), (R, RW, 0), (RX, RX, 0), (RX, R, 0), (R, RX, EACCES), (RX, RWX, EACCES)],
)
def test_memory_deny_write_execute(had: int, asked: int, errno: int) -> None:
    """PR_SET_MDWE refuses to make memory executable, and to have it writable and executable."""
    mm = space(setup=((0, 2, had),))
    mm.mdwe = True
    assert sys_mprotect(mm, BASE, 2 * P, asked) == -errno
    assert flags(mm) & RWX == (had if errno else asked)


@pytest.mark.parametrize(("asked", "got"), [(R, RX), (RW, RWX), (0, 0), (2, 2)])
def test_reading_may_imply_executing(asked: int, got: int) -> None:
    """The personality READ_IMPLIES_EXEC adds PROT_EXEC to PROT_READ, and to nothing else."""
    mm = space()
    mm.persona = READ_IMPLIES_EXEC
    assert sys_mprotect(mm, BASE, 4 * P, asked) == 0
    assert flags(mm) & (VM_READ | VM_WRITE | VM_EXEC) == got


@pytest.mark.parametrize(
    ("kernel", "touched", "left"),
    [("6.1", False, True), ("6.12", False, False), ("6.12", True, True), ("7.3", False, False)],
)
def test_memory_accounted_for(kernel: str, touched: bool, left: bool) -> None:
    """Writable private memory is accounted; made read-only it stops being so, if it is anonymous and unwritten."""
    mm = space(kernel, ((0, 2, R),))
    assert not flags(mm) & VM_ACCOUNT
    assert sys_mprotect(mm, BASE, 2 * P, RW) == 0 and flags(mm) & VM_ACCOUNT
    if touched:
        fault(mm, BASE, P, True)
    assert sys_mprotect(mm, BASE, 2 * P, R) == 0
    assert bool(flags(mm) & VM_ACCOUNT) == (left if mm.rules.mprotect_drops_account else True)


@pytest.mark.parametrize(("extra", "accounted"), [(0, True), (0x4000, False), (0x4000000, True)])
def test_not_all_memory_is(extra: int, accounted: bool) -> None:
    """MAP_NORESERVE memory is never accounted; a private file mapping is, and stays so."""
    mm = space(setup=((0, 2, R, 0x32 | extra if extra != 0x4000000 else 0x12),))
    assert sys_mprotect(mm, BASE, 2 * P, RW) == 0
    assert bool(flags(mm) & VM_ACCOUNT) == accounted
    assert sys_mprotect(mm, BASE, 2 * P, R) == 0
    assert bool(flags(mm) & VM_ACCOUNT) == (accounted and extra == 0x4000000)


def test_shared_memory_is_not_accounted_here() -> None:
    """The shared mapping was accounted by its file."""
    mm = space(setup=((0, 2, R, 0x31),))
    had = flags(mm) & VM_ACCOUNT
    assert sys_mprotect(mm, BASE, 2 * P, RW) == 0 and flags(mm) & VM_ACCOUNT == had


@pytest.mark.parametrize("room", [1, 2, 3])
def test_the_commit_limit_is_the_kernels_to_tell(room: int) -> None:
    """ENOMEM of a range without holes is the commit limit, unless the map limit explains it."""
    mm = space(setup=((0, 3, R),), config=Config(max_map_count=1 + room))
    mm.observed, mm.expect_errno = True, ENOMEM
    limit = room > 2
    assert sys_mprotect(mm, BASE + P, P, RW) == (-ENOMEM if limit or room == 1 else 0)
    assert shown(mm) == {1: "0-1 r--p 1-3 r--p", 2: "0-1 r--p 1-2 rw-p 2-3 r--p", 3: "0-3 r--p"}[room]


@pytest.mark.parametrize("pkey", [0, 1, 15])
def test_a_protection_key_is_four_bits_of_the_flags(pkey: int) -> None:
    """pkey_mprotect replaces the key that was there; mprotect keeps it; EINVAL where the kernel said so."""
    mm = space()
    assert sys_mprotect(mm, BASE, 4 * P, RW, 10) == 0
    assert sys_mprotect(mm, BASE, 4 * P, RW, pkey) == 0
    assert (flags(mm) & VM_PKEY_MASK) >> VM_PKEY_SHIFT == pkey
    assert sys_mprotect(mm, BASE, 4 * P, R) == 0
    assert (flags(mm) & VM_PKEY_MASK) >> VM_PKEY_SHIFT == pkey
    mm.observed, mm.expect_errno = True, EINVAL
    assert sys_mprotect(mm, BASE, 4 * P, RW, 3) == -EINVAL
    assert sys_mprotect(mm, BASE, 4 * P, RW) == 0


@pytest.mark.parametrize(("had", "written"), [(R, True), (RW, True)])
def test_locked_memory_that_becomes_writable_is_written(had: int, written: bool) -> None:
    """Its pages are faulted in for writing at once, in the range alone; memory that is not locked is left."""
    mm = space(setup=((0, 4, had),))
    assert sys_mlock(mm, BASE, 4 * P) == 0
    assert (mm.find_vma(BASE).anon_vma is not None) == (had == RW)
    assert sys_mprotect(mm, BASE + P, P, RW) == 0
    assert (mm.find_vma(BASE + P).anon_vma is not None) == written and flags(mm, 1) & VM_LOCKED
    loose = space(setup=((0, 4, R),))
    assert sys_mprotect(loose, BASE, 4 * P, RW) == 0 and loose.find_vma(BASE).anon_vma is None


@pytest.mark.parametrize(("faults", "unsure"), [("recorded", 0), ("none", 1), ("untouched", 1)])
def test_what_becomes_writable_may_have_been_written(faults: str, unsure: int) -> None:
    """Where the trace shows no faults, memory is unsure from the moment it is writable."""
    mm = Mm(Env(preset("6.12"), Config()))
    mm.env.faults = faults
    assert sys_mmap(mm, BASE, 2 * P, R, 0x32, None, 0) == BASE
    assert sys_mprotect(mm, BASE, 2 * P, R | 4) == 0 and mm.find_vma(BASE).unsure == 0
    assert sys_mprotect(mm, BASE, 2 * P, RW) == 0 and mm.find_vma(BASE).unsure == unsure
    done = mm.decisions[-1]
    assert done.certain
    assert sys_mprotect(mm, BASE, 2 * P, R) == 0
    assert mm.decisions[-1].certain == (not unsure)  # whether VM_ACCOUNT goes hangs on it

    for kind, prot in ((0x31, R), (0x11, R), (0x4032, RW), (0x12, RW)):
        other = space(setup=())
        other.env.faults = faults
        file = File(1, "memfd", readable=True, writable=True, size=64 * P)
        assert sys_mmap(other, BASE, 2 * P, prot, kind, None if kind & 0x20 else file, 0) == BASE
        assert sys_mprotect(other, BASE, 2 * P, R | (0 if prot == RW else 2)) == 0
        assert all(decision.certain for decision in other.decisions)  # no VM_ACCOUNT to lose, or not for that
        assert other.find_vma(BASE).unsure == (unsure if prot == RW else 0)


def test_what_has_been_written_stays_so() -> None:
    """Without recorded faults, memory that is known to be written is not unsure for becoming writable again."""
    mm = Mm(Env(preset("6.12"), Config()))
    mm.env.faults = "none"
    assert sys_mmap(mm, BASE, 2 * P, RW, 0x32, None, 0) == BASE
    fault(mm, BASE, P, True)
    for prot in (R, RW):
        assert sys_mprotect(mm, BASE, 2 * P, prot) == 0 and mm.find_vma(BASE).unsure == 0


def test_enomem_behind_a_hole_is_the_holes() -> None:
    """An observed ENOMEM that a hole explains is no commit limit: what lies before the hole is changed."""
    mm = space(setup=((0, 2, R),))
    mm.observed, mm.expect_errno = True, ENOMEM
    assert sys_mprotect(mm, BASE, 4 * P, RW) == -ENOMEM and shown(mm) == "0-2 rw-p"


def test_reading_does_not_imply_what_may_never_be() -> None:
    """READ_IMPLIES_EXEC passes over a mapping of a file system mounted noexec (no VM_MAYEXEC)."""
    mm = space()
    vma = mm.find_vma(BASE)
    vma.attrs = vma.attrs.with_flags(vma.vm_flags & ~VM_MAYEXEC)
    mm.persona = READ_IMPLIES_EXEC
    assert sys_mprotect(mm, BASE, 4 * P, R) == 0 and not flags(mm) & VM_EXEC
    assert sys_mprotect(mm, BASE, 4 * P, RX) == -EACCES


def test_huge_pages_are_accounted_elsewhere() -> None:
    """A hugetlb mapping that becomes writable gets no VM_ACCOUNT."""
    mm = space(setup=((0, 512, R),))
    vma = mm.find_vma(BASE)
    vma.attrs = vma.attrs.with_flags(vma.vm_flags | VM_HUGETLB)
    assert sys_mprotect(mm, BASE, 512 * P, RW) == 0 and not flags(mm) & VM_ACCOUNT
