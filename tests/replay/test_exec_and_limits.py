"""What exec takes away, and an mlock that a limit refused: as a 64-bit kernel answers."""

from __future__ import annotations

from errno import ENOMEM

import pytest

from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.flags import VM_EXEC, VM_LOCKED
from vmastore.mm.rules import preset
from vmastore.replay.world import World

P = 4096
A = 0x10000000


def world(privileged: bool | None = None) -> World:
    config = {} if privileged is None else {"privileged": privileged}
    return World(TraceHeader("t", "t", "strace", config=config, faults="none"), [], preset("6.18"))


def mapped(w: World, seq: int, mm: int = 1) -> None:
    w.apply(Event(seq, mm, 1, 1, None, "mmap", (A, 4 * P, 3, 0x32, -1, 0), A, 0))


def test_exec_of_a_64_bit_program_forgets_read_implies_exec() -> None:
    """`setarch -X` does nothing to the program that it executes: what it maps readable is not executable."""
    w = world()
    w.apply(Event(1, 1, 1, 1, None, "personality", (0x0400000,), 0, 0))
    mapped(w, 2)
    assert w.mm(1).find_vma(A).vm_flags & VM_EXEC
    w.apply(Event(3, 1, 1, 1, None, "execve", ("/bin/x", None, 2), 0, 0))
    mapped(w, 4, 2)
    assert not w.mm(2).find_vma(A).vm_flags & VM_EXEC


@pytest.mark.parametrize(
    ("privileged", "pages", "left"), [(None, 2, 1), (False, 2, 1), (True, 2, 2), (None, 5, 2), (False, 5, 2)]
)
def test_mlock_over_an_unknown_limit_changes_nothing(privileged: bool | None, pages: int, left: int) -> None:
    """ENOMEM where all is mapped and nothing can fail is RLIMIT_MEMLOCK, asked first; over a hole it is not."""
    w = world(privileged)
    mapped(w, 1)
    done = w.apply(Event(2, 1, 1, 1, None, "mlock", (A + 2 * P, pages * P), None, ENOMEM))
    assert (done.divergence is None) == (privileged is not True or pages > 2)
    assert w.mm(1).map_count == left


def test_mlock_behind_the_end_of_a_file_locks_it() -> None:
    """ENOMEM may come from the pages that could not be had then, after the VMA was locked."""
    w = World(TraceHeader("t", "t", "strace", faults="none"), [FileInfo(1, "regular", "/f", size=P)], preset("6.18"))
    w.apply(Event(1, 1, 1, 1, None, "mmap", (A, 4 * P, 3, 0x11, 3, 0), A, 0, 1))
    done = w.apply(Event(2, 1, 1, 1, None, "mlock", (A, 4 * P), None, ENOMEM))
    assert done.divergence is None and w.mm(1).find_vma(A).vm_flags & VM_LOCKED
