"""SysV shared memory: what its vm_ops let other calls do."""

from __future__ import annotations

from errno import EFAULT, EINVAL, EPERM

import pytest

from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import preset
from vmastore.mm.vma import File
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.mprotect import sys_mprotect
from vmastore.syscalls.mremap import sys_mremap
from vmastore.syscalls.mseal import sys_mseal
from vmastore.syscalls.munmap import sys_munmap
from vmastore.syscalls.shm import sys_shmat, sys_shmdt
from vmastore.syscalls.userfaultfd import uffd_ctx, uffdio_register

ADDR, LENGTH, PAGE = 0x100000000, 0x4000, 0x1000
KERNELS = ["6.1", "6.8", "6.12", "6.18", "7.3"]


def attached(kernel: str) -> Mm:
    mm = Mm(Env(preset(kernel), Config()))
    assert sys_shmat(mm, ADDR, 0, LENGTH, File(0, "shm", "/SYSV00000000")) == ADDR
    return mm


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_segment_takes_no_userfaultfd(kernel: str) -> None:
    """UFFDIO_REGISTER of an attached segment is EINVAL: its vm_ops are not those of shmem (seen on 6.18.44)."""
    mm = attached(kernel)
    assert uffdio_register(mm, uffd_ctx(mm, 1), ADDR, LENGTH, 1) == -EINVAL


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_segment_grows_in_place(kernel: str) -> None:
    """mremap extends an attached segment everywhere; 6.1 does it without a merge, for the close hook's sake."""
    mm = attached(kernel)
    assert sys_mremap(mm, ADDR, LENGTH, 2 * LENGTH, 0, 0) == ADDR
    assert [(vma.vm_start, vma.vm_end) for vma in mm.vmas()] == [(ADDR, ADDR + 2 * LENGTH)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("first", [True, False])
def test_a_segment_moves_alone(kernel: str, first: bool) -> None:
    """Its file has its own get_unmapped_area: beside another VMA, before it or behind, mremap moves no segment."""
    mm = attached(kernel)
    other = ADDR + LENGTH if first else ADDR - PAGE
    assert sys_mmap(mm, other, PAGE, 3, 0x32, None, 0) == other
    start, away = min(ADDR, other), ADDR << 1
    assert sys_mremap(mm, start, LENGTH + PAGE, LENGTH + PAGE, 3, away) == -EFAULT
    moved = not first and mm.rules.mremap_multi_vma
    assert [vma.vm_start for vma in mm.vmas()] == sorted([ADDR, away if moved else other])
    assert sys_mremap(mm, ADDR, LENGTH, LENGTH, 3, away + LENGTH) == away + LENGTH


@pytest.mark.parametrize("kernel", ["6.12", "6.18", "7.3"])
def test_a_sealed_vma_in_the_way_is_met_after_the_edge_was_split(kernel: str) -> None:
    """SHM_REMAP over a sealed VMA is EPERM, and leaves a split at the range's start (seen on 6.18.44)."""
    mm = Mm(Env(preset(kernel), Config()))
    assert sys_mmap(mm, ADDR, 8 * PAGE, 3, 0x32, None, 0) == ADDR
    assert sys_mseal(mm, ADDR + 4 * PAGE, PAGE, 0) == 0
    mm.observed, mm.expect_errno = True, EPERM
    assert sys_shmat(mm, ADDR + 2 * PAGE, 0o40000, LENGTH, File(0, "shm", "/SYSV00000000")) == -EPERM
    assert [(vma.vm_start - ADDR) // PAGE for vma in mm.vmas()] == [0, 2, 4, 5]


HUGE = 0x200000


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_segment_of_huge_pages_is_mapped_split_and_moved_in_whole_ones(kernel: str) -> None:
    """SHM_HUGETLB: its size is rounded up, what is not aligned is EINVAL, and it never merges (seen on 6.18.44)."""
    mm = Mm(Env(preset(kernel), Config()))
    size = 3 * HUGE - 3 * PAGE
    file = File(0, "hugeshm", "/SYSV00001234")
    assert sys_shmat(mm, ADDR + PAGE, 0, size, file) == -EINVAL
    assert sys_shmat(mm, ADDR, 0, size, file) == ADDR
    assert sys_mprotect(mm, ADDR, PAGE, 1) == -EINVAL
    assert sys_mprotect(mm, ADDR, HUGE, 1) == sys_mprotect(mm, ADDR, HUGE, 3) == 0
    assert [(vma.vm_start, vma.vm_end) for vma in mm.vmas()] == [(ADDR, ADDR + HUGE), (ADDR + HUGE, ADDR + 3 * HUGE)]
    assert {vma.attrs.vm_flags for vma in mm.vmas()} == {0x4400FB}
    assert sys_munmap(mm, ADDR + HUGE, PAGE) == -EINVAL
    assert sys_mremap(mm, ADDR, HUGE, 2 * HUGE, 1, 0) == -EINVAL
    away = ADDR << 1
    assert sys_mremap(mm, ADDR, HUGE, HUGE, 3, away) == away
    assert sys_shmdt(mm, away) == 0  # only what still stands as it was attached
    assert [(vma.vm_start, vma.vm_end) for vma in mm.vmas()] == [(ADDR + HUGE, ADDR + 3 * HUGE)]
    assert sys_shmdt(mm, ADDR) == 0 and not list(mm.vmas())
