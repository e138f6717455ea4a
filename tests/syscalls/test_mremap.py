"""mremap's argument checks: errno in the kernel's order of precedence, and what a failing call has done by then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from errno import EFAULT, EINVAL, ENOMEM, EPERM
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vmastore.errors import RuleError
from vmastore.mm.flags import TASK_SIZE, VM_DONTEXPAND, VM_EXEC, VM_MAYREAD, VM_READ
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import preset, resolve
from vmastore.mm.vma import File, Vma
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.mremap import sys_mremap
from vmastore.syscalls.mseal import sys_mseal

P = 4096
BASE = 0x200000000000
OLD, NEW = ("6.1", "6.7", "6.8", "6.12"), ("6.18", "7.3")
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
MOVE = MAYMOVE | FIXED
HUGE = TASK_SIZE + P

ONE = (("map", 0, 4),)
TWO = (("map", 0, 4), ("map", 32, 4))  # what is to be moved, and what lies at the target
WALL = (("map", 0, 4), ("map", 4, 4, 1))
APART = (("map", 0, 2), ("map", 3, 1), ("map", 32, 4))
SEAL = (("map", 0, 4), ("seal", 0, 4))
TARGET = 32 * P
SAME = "as before"
GONE = "target gone"


class Row(NamedTuple):
    """A call, its answers before and since 6.17, and what is mapped afterwards."""

    name: str
    setup: tuple[Any, ...]
    call: tuple[int, int, int, int, int]  # addr, old_len, new_len, flags, target: bytes, addresses behind the base
    old: int
    new: int
    left_old: Any = SAME  # pages, or one of the words
    left_new: Any = SAME


# Each row breaks one rule, and often later ones too: the earliest in the kernel's order decides.
ROWS = [
    Row("unknown flag, unaligned, in a hole", (), (1, P, P, 8, 0), EINVAL, EINVAL),
    Row("FIXED without MAYMOVE, in a hole", (), (0, P, P, FIXED, TARGET), EINVAL, EINVAL),
    Row("DONTUNMAP without MAYMOVE, in a hole", (), (0, P, P, DONTUNMAP, 0), EINVAL, EINVAL),
    Row("DONTUNMAP of two lengths, in a hole", (), (0, P, 2 * P, MAYMOVE | DONTUNMAP, 0), EINVAL, EINVAL),
    Row("DONTUNMAP of lengths that round alike", ONE, (0, P - 1, P, MOVE | DONTUNMAP, TARGET), EINVAL, 0, SAME,
        [[0, 4], [32, 33]]),
    Row("unaligned, in a hole", (), (1, P, P, 0, 0), EINVAL, EINVAL),
    Row("no new length, in a hole", (), (0, P, 0, 0, 0), EINVAL, EINVAL),
    Row("a new length that wraps to none", ONE, (0, P, (1 << 64) - 1, MAYMOVE, 0), EINVAL, EINVAL),
    Row("a hole", (), (0, P, P, 0, 0), EFAULT, EFAULT),
    Row("a hole, no old length", (), (0, 0, P, MAYMOVE, 0), EFAULT, EFAULT),
    Row("a hole, new length beyond the address space", (), (0, P, HUGE, MAYMOVE, 0), EFAULT, EINVAL),
    Row("a hole, target unaligned", TWO, (8 * P, P, P, MOVE, TARGET + 1), EFAULT, EINVAL),
    Row("a hole, target over the source", TWO, (8 * P, 4 * P, 4 * P, MOVE, 10 * P), EFAULT, EINVAL),
    Row("a hole, target beyond the address space", TWO, (8 * P, P, P, MOVE, TASK_SIZE - BASE), EFAULT, EINVAL),
    Row("a hole, target good", TWO, (8 * P, P, 2 * P, MOVE, TARGET), EFAULT, EFAULT),
    Row("a hole at the start of several", TWO, (-P, 5 * P, 5 * P, MOVE, TARGET), EFAULT, EFAULT),
    Row("sealed, target unaligned", SEAL, (0, P, P, MOVE, TARGET + 1), EPERM, EINVAL),
    Row("sealed, new length beyond the address space", SEAL, (0, P, HUGE, MAYMOVE, 0), EPERM, EINVAL),
    Row("sealed, old length too long", SEAL, (0, 5 * P, 6 * P, MAYMOVE, 0), EPERM, EPERM),
    Row("sealed, no change", SEAL, (0, 4 * P, 4 * P, 0, 0), EPERM, EPERM),
    Row("sealed, shrink", SEAL, (0, 4 * P, 2 * P, 0, 0), EPERM, EPERM),
    Row("sealed, target good", (*SEAL, ("map", 32, 4)), (0, 4 * P, 4 * P, MOVE, TARGET), EPERM, EPERM),
    Row("target sealed", (*TWO, ("seal", 33, 1)), (0, 4 * P, 4 * P, MOVE, TARGET), EPERM, EPERM,
        [[0, 4], [32, 33], [33, 34], [34, 36]], [[0, 4], [32, 33], [33, 34], [34, 36]]),
    Row("target unaligned", TWO, (0, P, P, MOVE, TARGET + 1), EINVAL, EINVAL),
    Row("target over the source", TWO, (0, 4 * P, 4 * P, MOVE, 2 * P), EINVAL, EINVAL),
    Row("source over the target", TWO, (2 * P, 2 * P, 4 * P, MOVE, 0), EINVAL, EINVAL),
    Row("target that the source grows over", TWO, (0, 40 * P, 4 * P, MOVE, TARGET), EINVAL, EINVAL),
    Row("target beyond the address space", TWO, (0, P, P, MOVE, TASK_SIZE - BASE), EINVAL, EINVAL),
    Row("new length beyond the address space, may not move", ONE, (0, 4 * P, HUGE, 0, 0), ENOMEM, EINVAL),
    Row("new length beyond the address space, may move", ONE, (0, 4 * P, HUGE, MAYMOVE, 0), ENOMEM, EINVAL),
    Row("no old length, private", ONE, (0, 0, P, MAYMOVE, 0), EINVAL, EINVAL),
    Row("no old length, private, fixed", TWO, (0, 0, P, MOVE, TARGET), EINVAL, EINVAL, [[0, 4], [33, 36]]),
    Row("no old length, shared, may not move", (("shared", 0, 4),), (0, 0, P, 0, 0), ENOMEM, ENOMEM),
    Row("old length too long, growing", ONE, (0, 5 * P, 6 * P, MAYMOVE, 0), EFAULT, EFAULT),
    Row("old length too long, growing, may not move", ONE, (0, 5 * P, 6 * P, 0, 0), EFAULT, EFAULT),
    Row("old length too long, left behind", ONE, (0, 5 * P, 5 * P, MAYMOVE | DONTUNMAP, 0), EFAULT, EFAULT),
    Row("old length too long, growing, fixed", TWO, (0, 5 * P, 6 * P, MOVE, TARGET), EFAULT, EFAULT, GONE),
    Row("old length too long, kept, fixed", TWO, (0, 6 * P, 6 * P, MOVE, TARGET), EFAULT, 0, GONE, [[32, 36]]),
    Row("several, kept, fixed", APART, (0, 4 * P, 4 * P, MOVE, TARGET), EFAULT, 0, [[0, 2], [3, 4]],
        [[32, 36]]),  # what lay in the gap of the target stays, and merges with both
    Row("old length too long, shrunk, fixed", TWO, (0, 6 * P, 2 * P, MOVE, TARGET), 0, 0, [[32, 36]], [[32, 36]]),
    Row("no room, may not move", WALL, (0, 4 * P, 5 * P, 0, 0), ENOMEM, ENOMEM),
    Row("grow inside, may not move", ONE, (0, 2 * P, 3 * P, 0, 0), ENOMEM, ENOMEM),
    Row("kept over a hole", ONE, (0, 8 * P, 8 * P, 0, 0), 0, 0),
    Row("shrink over a hole", APART, (0, 8 * P, P, 0, 0), 0, 0, [[0, 1], [32, 36]], [[0, 1], [32, 36]]),
]  # fmt: skip


def expected(row: Row, kernel: str) -> tuple[int, list[list[int]]]:
    """0 or -errno, and the ranges that are mapped afterwards, in pages."""
    errno, left = (row.old, row.left_old) if kernel in OLD else (row.new, row.left_new)
    before = [[page, page + pages] for what, page, pages, *_ in row.setup if what != "seal"]
    if left == GONE:
        left = [piece for piece in before if piece[0] != 32]
    return -errno, before if left == SAME else left


def replayed(row: Row, kernel: str) -> tuple[int, list[list[int]]]:
    """The same as the engine predicts it."""
    mm = Mm(Env(preset(kernel), Config()))
    for what, page, pages, *prot in row.setup:
        start, length = BASE + page * P, pages * P
        if what == "seal":
            assert sys_mseal(mm, start, length, 0) == 0
        else:
            kind = 0x31 if what == "shared" else 0x32
            assert sys_mmap(mm, start, length, prot[0] if prot else 3, kind, None, 0) == start
    addr, old, new, flags, target = row.call
    got = sys_mremap(mm, BASE + addr, old, new, flags, BASE + target if flags & FIXED else 0)
    pieces = [[(v.vm_start - BASE) // P, (v.vm_end - BASE) // P] for v in mm.vmas()]
    return min(got, 0), [piece for piece in pieces if 0 <= piece[0] < 256]


def seals(row: Row) -> bool:
    return any(what == "seal" for what, *_ in row.setup)


@pytest.mark.parametrize("kernel", [*OLD, *NEW])
@pytest.mark.parametrize("row", ROWS, ids=[row.name.replace(" ", "-") for row in ROWS])
def test_the_earliest_broken_rule_decides(row: Row, kernel: str) -> None:
    """The errno, and what has been unmapped or split by then, under every preset."""
    if seals(row) and not preset(kernel).mseal:
        assert kernel in ("6.1", "6.7", "6.8")  # these have no mseal to test with
        return
    assert replayed(row, kernel) == expected(row, kernel)


@pytest.fixture(scope="module")
def live() -> list[tuple[int, list[list[int]]]]:
    """What the running kernel did, row by row."""
    uname = os.uname()
    try:
        rules = resolve(uname.release, uname.version)
    except RuleError:
        pytest.skip(f"no rule set for {uname.release}")
    if uname.machine != "x86_64" or rules.name != "6.18":
        pytest.skip(f"the rows of 6.18 are held against 6.18.44 only, this is {uname.release} ({uname.machine})")
    child = Path(__file__).with_name("live_mremap.py")
    rows = json.dumps([[row.setup, row.call] for row in ROWS])
    done = subprocess.run([sys.executable, child], input=rows, capture_output=True, text=True, check=True)
    return [(result, pieces) for result, pieces in map(json.loads, done.stdout.splitlines())]


@pytest.mark.parametrize("n", range(len(ROWS)), ids=[row.name.replace(" ", "-") for row in ROWS])
def test_the_running_kernel_agrees(n: int, live: list[tuple[int, list[list[int]]]]) -> None:
    """Each row of 6.18 is what the running kernel does."""
    assert len(live) == len(ROWS)
    assert live[n] == expected(ROWS[n], "6.18")


@pytest.mark.parametrize("kernel", [*OLD, *NEW])
def test_what_may_not_grow(kernel: str) -> None:
    """[vdso] and its like: EINVAL for DONTUNMAP, EFAULT for another length, and before it for too long an old one."""
    mm = Mm(Env(preset(kernel), Config()))
    attrs = mm.env.table.get(VM_READ | VM_EXEC | VM_MAYREAD | VM_DONTEXPAND, File(0, "special", "[vdso]"))
    mm.insert(Vma(BASE, BASE + 2 * P, attrs))
    assert sys_mremap(mm, BASE, 2 * P, 2 * P, MAYMOVE | DONTUNMAP, 0) == -EINVAL
    assert sys_mremap(mm, BASE, 3 * P, 3 * P, MAYMOVE | DONTUNMAP, 0) == -EINVAL
    assert sys_mremap(mm, BASE, 2 * P, 3 * P, MAYMOVE, 0) == -EFAULT
    assert sys_mremap(mm, BASE, 0, 3 * P, MAYMOVE, 0) == -EINVAL
    assert mm.map_count == 1
