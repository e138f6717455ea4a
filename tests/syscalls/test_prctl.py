"""prctl's effects on VMAs."""

from __future__ import annotations

from vmastore.mm.flags import VM_MERGEABLE
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import preset
from vmastore.syscalls.madvise import sys_madvise
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.prctl import sys_prctl
from vmastore.syscalls.uapi import MADV_UNMERGEABLE, PR_SET_MEMORY_MERGE

ADDR, LENGTH = 0x100000000, 0x4000


def test_a_repeated_memory_merge_touches_nothing() -> None:
    """PR_SET_MEMORY_MERGE of what is set already leaves a VMA that madvise took out as it is (seen on 6.18.44)."""
    mm = Mm(Env(preset("6.18"), Config()))
    sys_mmap(mm, ADDR, LENGTH, 3, 0x32, None, 0)
    marks = []
    for step in (1, MADV_UNMERGEABLE, 1):
        if step == MADV_UNMERGEABLE:
            assert sys_madvise(mm, ADDR, LENGTH, step) == 0
        else:
            assert sys_prctl(mm, PR_SET_MEMORY_MERGE, step, 0, 0, 0, None) == 0
        marks.append([bool(vma.vm_flags & VM_MERGEABLE) for vma in mm.vmas()])
    assert marks == [[True], [False], [False]]
