"""Eleven more observed outcomes, on 6.18.44: faults, KSM, fork and the heap, populate, mlockall."""

from __future__ import annotations

import errno

import pytest
from layout import at
from process import RW, Process, R

from vmastore.syscalls import uapi
from vmastore.syscalls.brk import sys_brk
from vmastore.syscalls.fault import fault
from vmastore.syscalls.mlock import sys_mlockall, sys_munlockall


@pytest.fixture
def p() -> Process:
    return Process("6.18")


def _bridge(p: Process) -> str:
    """Whether page 0 counts as written: a mapping between it and a written one joins one or both."""
    p.mmap(2, 1), p.write(2), p.mmap(1, 1)
    return p.lines(0, 3)


UNWRITTEN, WRITTEN = "[0-3 rw-p]", "[0-2 rw-p][2-3 rw-p]"


def test_a_read_fault_leaves_it_unwritten(p: Process) -> None:
    """Reading anonymous memory maps the zero page and makes no anon_vma."""
    p.mmap(0, 1), fault(p.mm, at(0), 1, False)
    assert _bridge(p) == UNWRITTEN


def test_becoming_equal_in_place_merges_nothing(p: Process) -> None:
    """PR_SET_MEMORY_MERGE makes two VMAs equal; they stay two until a real change."""
    p.mmap(0, 1), p.madvise(0, 1, uapi.MADV_MERGEABLE), p.mmap(1, 1)
    p.memory_merge(True)
    assert p.lines(0, 2) == "[0-1 rw-p][1-2 rw-p]"
    p.mprotect(1, 1, RW)
    assert p.lines(0, 2) == "[0-1 rw-p][1-2 rw-p]"
    p.mprotect(1, 1, R), p.mprotect(1, 1, RW)
    assert p.lines(0, 2) == "[0-2 rw-p]"


def test_a_childs_heap_grows_apart(p: Process) -> None:
    """The heap of a child was inherited written, so brk adds a second VMA."""
    p.mm.start_brk = p.mm.brk = at(0)
    p.brk(4), p.write(0, 4)
    child = p.fork()
    assert sys_brk(child.mm, at(8)) == at(8)
    assert child.lines(0, 8) == "[0-4 rw-p][4-8 rw-p]"
    p.brk(8)
    assert p.lines(0, 8) == "[0-8 rw-p]"


def test_dontneed_keeps_the_anon_vma(p: Process) -> None:
    """MADV_DONTNEED drops the pages, not the anon_vma."""
    p.mmap(0, 1), p.write(0), p.madvise(0, 1, uapi.MADV_DONTNEED)
    assert _bridge(p) == WRITTEN


def test_a_system_call_that_writes_a_buffer_faults_it(p: Process) -> None:
    """read(2) into a page writes it: in a trace it is a fault of the kernel's, and counts alike."""
    p.mmap(0, 1), fault(p.mm, at(0), 1, True)
    assert _bridge(p) == WRITTEN


@pytest.mark.parametrize(("prot", "want"), [(RW, WRITTEN), (R, UNWRITTEN)], ids=["writable", "read-only"])
def test_populate_writes_what_is_writable(p: Process, prot: int, want: str) -> None:
    """MAP_POPULATE makes a writable private mapping written at once, a read-only one not."""
    p.mmap(0, 1, prot, uapi.MAP_POPULATE), p.mprotect(0, 1, RW)
    assert _bridge(p) == want


def test_a_read_only_file_shared(p: Process) -> None:
    """A shared mapping of a file not open for writing can never be made writable."""
    p.mmap(0, 1, R, uapi.MAP_SHARED, p.open(write=False))
    assert p.mprotect(0, 1, RW) == -errno.EACCES
    assert p.lines(0, 1) == "[0-1 r--s]"


def test_growing_fills_a_hole(p: Process) -> None:
    """mremap in place over the hole that munmap left joins both parts again."""
    p.mmap(0, 4), p.munmap(1, 1)
    assert p.mremap(0, 1, 2) == at(0)
    assert p.lines(0, 4) == "[0-4 rw-p]"


def test_mlockall_and_back(p: Process) -> None:
    """mlockall changes every VMA whole; what differs otherwise stays two."""
    p.mmap(0, 1), p.mmap(1, 1, R)
    assert sys_mlockall(p.mm, uapi.MCL_CURRENT) == 0
    assert sys_munlockall(p.mm) == 0
    assert p.lines(0, 2) == "[0-1 rw-p][1-2 r--p]"
