"""At the map limit: which calls still work, and from how many free places on, as observed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from layout import at
from process import NONE, Process, R

from vmastore.mm.flags import VM_MAYEXEC, VM_MAYREAD, VM_MAYWRITE, VM_READ
from vmastore.mm.mm import Config, Mm
from vmastore.mm.vma import Vma
from vmastore.syscalls import uapi

DATA = Path(__file__).parent.parent / "data" / "live-checks"
LIMIT = 200  # the kernels had 65530: only the distance to it matters


def _observed(kernel: str) -> list[str]:
    text = (DATA / f"{kernel}.txt").read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.startswith("     ")]
    start = next(n for n, line in enumerate(lines) if line.startswith("map_count limit"))
    return lines[start + 1 :]


def _islands(mm: Mm, first: int, last: int) -> None:
    """Single pages, every other one, until there are LIMIT + 1 VMAs: mmap itself goes one past the limit."""
    attrs = mm.env.table.get(VM_READ | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC)
    for page in range(first, last, 2):
        mm.insert(Vma(at(page), at(page + 1), attrs))


def _said(result: int, *, word: bool = False) -> str:
    code = -result if result < 0 else 0
    if word:
        return f"{'fail' if code else 'ok'} errno={code}"
    return f"r={-1 if code else 0} errno={code}"


def _played(kernel: str) -> Iterator[str]:
    p = Process(kernel, Config(max_map_count=LIMIT))
    p.mmap(0, 3, R)
    _islands(p.mm, 8, 8 + 2 * LIMIT)
    assert p.mm.map_count == LIMIT + 1
    assert p.mmap(6, 1, R) == -errno.ENOMEM
    yield f"munmap middle {_said(p.munmap(1, 1))}"
    yield f"mprotect split {_said(p.mprotect(0, 1, NONE))}"
    yield f"munmap edge {_said(p.munmap(0, 1))}"
    yield f"mremap shrink {_said(p.mremap(1, 2, 1), word=True)}"
    yield f"mremap move {_said(p.move(1, 1, 4), word=True)}"
    for freed in range(1, 7):
        p.munmap(6 + 2 * freed, 1)
        result = p.move(1, 1, 4)
        start = "after freeing 1" if freed == 1 else f"freed {freed}"
        yield f"{start}: mremap move {_said(result, word=True)}"
        if result >= 0:
            return


@pytest.mark.parametrize("kernel", ["6.1", "6.8", "6.12", "6.18", "7.3"])
def test_at_the_limit(kernel: str) -> None:
    """Unmapping a middle, splitting and moving fail as the kernel's did; an edge can always be unmapped."""
    assert list(_played(kernel)) == _observed(kernel)


@pytest.mark.parametrize("free", [0, 1, 2, 3])
def test_a_split_needs_room_for_itself(free: int) -> None:
    """mprotect of a middle splits twice: with room for one, the first split stays and the call fails."""
    p = Process("6.18", Config(max_map_count=10))
    p.mmap(0, 3, R)
    _islands(p.mm, 8, 8 + 2 * (9 - free))
    result = p.mprotect(1, 1, NONE)
    assert result == (0 if free >= 2 else -errno.ENOMEM)
    assert p.mm.map_count == 10 - free + min(free, 2)


def test_a_merge_is_free_at_the_limit() -> None:
    """The merge is tried before the split, so what merges works at the limit."""
    p = Process("6.18", Config(max_map_count=4))
    p.mmap(0, 2, R), p.mmap(2, 2, NONE), p.mmap(6, 1, R), p.mmap(8, 1, R)
    assert p.mm.map_count == 4
    assert p.mprotect(2, 1, R) == 0
    assert p.lines(0, 4) == "[0-3 r--p][3-4 ---p]"
    assert p.madvise(0, 1, uapi.MADV_DONTDUMP) == -errno.EAGAIN  # madvise's word for it
