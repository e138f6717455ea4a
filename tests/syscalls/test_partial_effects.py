"""What a failing call has done by the time it fails. Each row was seen on Linux 6.18.44."""

from __future__ import annotations

from errno import EFAULT, EINVAL, EIO, ENOMEM, EOPNOTSUPP, EOVERFLOW, EPERM

import pytest

from vmastore.mm.flags import PAGE_SIZE, VM_LOCKED
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import preset
from vmastore.mm.vma import File
from vmastore.syscalls.mempolicy import sys_mbind
from vmastore.syscalls.mlock import sys_mlock
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.mprotect import sys_mprotect
from vmastore.syscalls.mremap import sys_mremap
from vmastore.syscalls.mseal import sys_mseal
from vmastore.syscalls.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_SYNC,
    MPOL_MF_MOVE,
    MPOL_MF_STRICT,
    MPOL_PREFERRED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from vmastore.syscalls.userfaultfd import uffd_ctx, uffdio_register

ADDR = 0x100000000
KERNELS = ["6.1", "6.8", "6.12", "6.18", "7.3"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


def pages(mm: Mm) -> list[tuple[int, int]]:
    """[start, end) of every VMA, in pages from ADDR."""
    return [((v.vm_start - ADDR) // PAGE_SIZE, (v.vm_end - ADDR) // PAGE_SIZE) for v in mm.vmas()]


def make(kernel: str, length: int = 8) -> Mm:
    mm = Mm(Env(preset(kernel), Config()))
    assert sys_mmap(mm, ADDR, length * PAGE_SIZE, 1, ANON, None, 0) == ADDR
    return mm


def answers(mm: Mm, errno: int) -> None:
    """The trace says that the kernel answered errno."""
    mm.observed, mm.expect_errno = True, errno


UNMAPPED, KEPT = [(0, 2), (3, 8)], [(0, 8)]


@pytest.mark.parametrize(
    ("kind", "dev", "flags", "left", "certain"),
    [
        ("regular", "fe:00", MAP_SHARED_VALIDATE, UNMAPPED, True),
        ("regular", "fe:00", MAP_SHARED, UNMAPPED, True),
        ("regular", "fe:00", MAP_PRIVATE, UNMAPPED, True),
        ("regular", "00:1b", MAP_SHARED_VALIDATE, KEPT, True),
        ("regular", None, MAP_SHARED_VALIDATE, KEPT, False),
        ("memfd", "00:01", MAP_SHARED_VALIDATE, KEPT, True),
    ],
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_map_sync_fails_in_the_file_system(
    kernel: str, kind: str, dev: str | None, flags: int, left: list[tuple[int, int]], certain: bool
) -> None:
    """ext4 and xfs without DAX refuse MAP_SYNC when the range is unmapped already; others do not know the flag."""
    mm = make(kernel)
    file = File(1, kind, "/data/f", dev=dev, readable=True, writable=True, size=1 << 20)
    answers(mm, EOPNOTSUPP)
    mm.decisions.clear()
    at = ADDR + 2 * PAGE_SIZE
    assert sys_mmap(mm, at, PAGE_SIZE, 1, flags | MAP_FIXED | MAP_SYNC, file, 0) == -EOPNOTSUPP
    assert pages(mm) == left
    assert all(decision.certain for decision in mm.decisions) == certain


@pytest.mark.parametrize(("dev", "left"), [("fe:00", UNMAPPED), ("00:1b", KEPT)])
def test_the_doubt_about_map_sync_is_real(dev: str, left: list[tuple[int, int]]) -> None:
    """Each answer to the unknown (which file system the file is on) gives another address space."""
    mm = make("6.18")
    answers(mm, EOPNOTSUPP)
    file = File(1, "regular", "/data/f", dev=dev, readable=True, writable=True)
    flags = MAP_SHARED_VALIDATE | MAP_FIXED | MAP_SYNC
    assert sys_mmap(mm, ADDR + 2 * PAGE_SIZE, PAGE_SIZE, 1, flags, file, 0) == -EOPNOTSUPP
    assert pages(mm) == left


def test_another_answer_tells_that_the_file_system_knows_map_sync() -> None:
    """A sealed VMA is met behind that check, when the edge of the range has been split."""
    mm = make("6.18")
    assert sys_mseal(mm, ADDR + 4 * PAGE_SIZE, PAGE_SIZE, 0) == 0
    answers(mm, EPERM)
    mm.decisions.clear()
    file = File(1, "regular", "/data/f", readable=True, writable=True)
    flags = MAP_SHARED_VALIDATE | MAP_FIXED | MAP_SYNC
    assert sys_mmap(mm, ADDR + 2 * PAGE_SIZE, 3 * PAGE_SIZE, 1, flags, file, 0) == -EPERM
    assert pages(mm) == [(0, 2), (2, 4), (4, 5), (5, 8)]
    assert all(decision.certain for decision in mm.decisions)


@pytest.mark.parametrize(
    ("flags", "left"), [(MPOL_MF_STRICT, KEPT), (MPOL_MF_STRICT | MPOL_MF_MOVE, [(0, 2), (2, 4), (4, 8)])]
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_mbind_of_misplaced_pages(kernel: str, flags: int, left: list[tuple[int, int]]) -> None:
    """Pages that may not be moved fail the call before anything is bound; pages that could not be, after it."""
    mm = make(kernel)
    answers(mm, EIO)
    assert sys_mbind(mm, ADDR + 2 * PAGE_SIZE, 2 * PAGE_SIZE, MPOL_PREFERRED, None, 0, flags) == -EIO
    assert pages(mm) == left


@pytest.mark.parametrize(("page", "errno"), [(6, EIO), (-2, EFAULT), (8, EFAULT)])
def test_mbind_of_misplaced_pages_and_a_hole(page: int, errno: int) -> None:
    """The range is walked upwards: what comes first, the page or the hole, is the answer."""
    mm = make("6.18")
    answers(mm, EIO)
    start = ADDR + page * PAGE_SIZE
    assert sys_mbind(mm, start, 4 * PAGE_SIZE, MPOL_PREFERRED, None, 0, MPOL_MF_STRICT) == -errno
    assert pages(mm) == KEPT


def test_mlock_stops_where_a_userfaultfd_answers() -> None:
    """ENOMEM with all of it locked: pages were faulted in up to a VMA whose faults somebody else was to serve."""
    mm = make("6.18")
    assert sys_mprotect(mm, ADDR, 8 * PAGE_SIZE, 3) == 0
    assert uffdio_register(mm, uffd_ctx(mm, 1), ADDR + 2 * PAGE_SIZE, 2 * PAGE_SIZE, 1) == 0
    answers(mm, ENOMEM)
    assert sys_mlock(mm, ADDR, 8 * PAGE_SIZE) == -ENOMEM
    assert pages(mm) == [(0, 2), (2, 4), (4, 8)]
    assert all(vma.vm_flags & VM_LOCKED for vma in mm.vmas())
    assert [vma.anon_vma is not None for vma in mm.vmas()] == [True, True, False]


@pytest.mark.parametrize("kernel", KERNELS)
def test_mlock_of_write_only_memory_behind_the_end_of_its_file(kernel: str) -> None:
    """Shared memory of /dev/zero is as long as its first mapping, whatever page of it that mapping begins with."""
    mm = make(kernel)
    zero = File(1, "zero", "/dev/zero", readable=True, writable=True)
    assert sys_mmap(mm, ADDR, 4 * PAGE_SIZE, 2, MAP_SHARED | MAP_FIXED, zero, 0x33000) == ADDR
    assert sys_mlock(mm, ADDR, PAGE_SIZE) == -ENOMEM
    assert pages(mm) == [(0, 1), (1, 4), (4, 8)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("behind", "length", "fits"), [(1, 1, False), (2, 1, True), (2, 2, False), (3, 2, True)])
def test_a_device_may_be_mapped_to_the_last_page_but_one(kernel: str, behind: int, length: int, fits: bool) -> None:
    """file_mmap_ok(): offset and length of /dev/zero stay below ULONG_MAX; a regular file's end at half of that."""
    mm = make(kernel)
    offset = (1 << 64) - behind * PAGE_SIZE
    for kind, answer in (("zero", ADDR if fits else -EOVERFLOW), ("regular", -EOVERFLOW)):
        file = File(1, kind, readable=True, writable=True)
        assert sys_mmap(mm, ADDR, length * PAGE_SIZE, 1, MAP_PRIVATE | MAP_FIXED, file, offset) == answer


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_special_mapping_moves_whole_or_not_at_all(kernel: str) -> None:
    """mremap of a part of [vvar] is EINVAL, the target unmapped; what it moved before that stays moved."""
    mm = make(kernel)
    special = File(0, "special", "[vvar]")
    source = ADDR + 16 * PAGE_SIZE
    assert sys_mmap(mm, source, 4 * PAGE_SIZE, 1, MAP_SHARED | MAP_FIXED, special, 0) == source
    part = 2 * PAGE_SIZE
    assert sys_mremap(mm, source, part, part, MREMAP_MAYMOVE | MREMAP_FIXED, ADDR + part) == -EINVAL
    assert pages(mm) == [(0, 2), (4, 8), (16, 20)]
    whole = 4 * PAGE_SIZE
    assert sys_mremap(mm, source, whole, whole, MREMAP_MAYMOVE | MREMAP_FIXED, ADDR + part) == ADDR + part
    assert pages(mm) == [(0, 2), (2, 6), (6, 8)]
