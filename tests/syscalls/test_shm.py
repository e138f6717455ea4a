"""SysV shared memory: what its vm_ops let other calls do."""

from __future__ import annotations

from errno import EINVAL

import pytest

from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import preset
from vmastore.mm.vma import File
from vmastore.syscalls.mremap import sys_mremap
from vmastore.syscalls.shm import sys_shmat
from vmastore.syscalls.userfaultfd import uffd_ctx, uffdio_register

ADDR, LENGTH = 0x100000000, 0x4000
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
