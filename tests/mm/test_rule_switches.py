"""Every switch shows: a few calls whose outcome it decides, with what comes out when it is off and on.

This is what makes the other tables trustworthy: a switch that said nothing, or that was wired to nothing,
would give one outcome twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from errno import EACCES, EBADF, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSYS, EPERM

import pytest
from layout import at, flag_bits, shades
from process import RW, RWX, Process, R

from vmastore.mm.bugs import Bugs
from vmastore.mm.flags import PMD_SIZE, VM_DONTDUMP
from vmastore.mm.merge import Oops, mmap_region
from vmastore.mm.mm import Config
from vmastore.mm.rules import SWITCHES, preset
from vmastore.replay.maps import letters, vma_name
from vmastore.syscalls import uapi
from vmastore.syscalls.madvise import sys_process_madvise
from vmastore.syscalls.mempolicy import sys_mbind
from vmastore.syscalls.mlock import sys_mlock
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.prctl import sys_prctl
from vmastore.syscalls.userfaultfd import uffd_ctx, uffdio_fill

SHARED_ANON = uapi.MAP_SHARED | uapi.MAP_ANONYMOUS
DONTUNMAP = uapi.MREMAP_DONTUNMAP


@dataclass(frozen=True)
class Shown:
    """What `calls` return with the switch off and on, everything else being as in `base`."""

    calls: Callable[[Process], object]
    off: object
    on: object
    base: str = "7.3"


def _letters(p: Process, page: int) -> str:
    vma = p.mm.vma_lookup(at(page))
    assert vma is not None
    return letters(p.mm, vma)


# -- merging ----------------------------------------------------------------------------------------


def written_into_unwritten(p: Process) -> object:
    p.mmap(0, 1), p.mmap(1, 1, RWX), p.write(1), p.mprotect(1, 1, RW)
    return p.lines(0, 2)


def between_written_apart(p: Process) -> object:
    p.mmap(0, 1), p.mmap(2, 1), p.write(0), p.write(2), p.mmap(1, 1)
    return p.lines(0, 3)


def shm_head_back(p: Process) -> object:
    p.shmat(0, 4), p.mprotect(2, 2, R), p.mprotect(2, 1, RW)
    return p.lines(0, 4)


def shm_whole_back(p: Process) -> object:
    p.shmat(0, 4), p.mprotect(2, 2, R), p.mprotect(2, 2, RW)
    return p.lines(0, 4)


def shm_tail_back(p: Process) -> object:
    p.shmat(0, 4), p.mprotect(0, 2, R), p.mprotect(1, 1, RW)
    return p.lines(0, 4)


def written_file_moved(p: Process) -> object:
    file = p.open()
    p.mmap(0, 1, RW, 0, file, 0), p.mmap(10, 1, RW, 0, file, 1), p.write(10), p.move(10, 1, 1)
    return p.lines(0, 2)


def beside_guards(p: Process) -> object:
    p.mmap(0, 1), p.madvise(0, 1, uapi.MADV_GUARD_INSTALL), p.mmap(1, 1)
    return p.lines(0, 2)


def guard_letters(p: Process) -> object:
    p.mmap(0, 1), p.madvise(0, 1, uapi.MADV_GUARD_INSTALL)
    return "gu" in _letters(p, 0)


def driver_adds_flags(p: Process) -> object:
    file = p.open("device")
    for page in (0, 1):
        mmap_region(p.mm.vmi, at(page), at(1) - at(0), flag_bits("r"), file, page, added_flags=VM_DONTDUMP)
    return p.lines(0, 2)


def inherited_moved_beside_unwritten(p: Process) -> object:
    p.mmap(1, 1), p.write(1)
    child = p.fork()
    child.move(1, 1, 8), child.mmap(0, 1), child.move(8, 1, 1)
    alone = child.lines(0, 2)
    p.move(1, 1, 8), p.mmap(0, 1), p.move(8, 1, 1)
    return alone, shades(p.mm)


def uffd_moved_beside_uffd(p: Process) -> object:
    uffd = p.userfaultfd()
    p.mmap(0, 1), p.mmap(10, 1), p.register(uffd, 0, 1), p.register(uffd, 10, 1), p.move(10, 1, 1)
    return p.lines(0, 2)


def split_at_the_limit(p: Process) -> object:
    p.mm.config.max_map_count = 2
    p.mmap(0, 3), p.mmap(4, 1)
    try:
        return p.mprotect(1, 1, R)
    except Oops:
        return "oops"


# -- mmap and prctl ---------------------------------------------------------------------------------


def failing_fixed(p: Process) -> object:
    p.mmap(0, 4)
    p.mm.config.rlimits["AS"] = 8 << 12
    return p.mmap(2, 100), p.lines(0, 4)


def map_stack(p: Process) -> object:
    p.mmap(0, 1, RW, uapi.MAP_STACK), p.mmap(1, 1)
    return p.lines(0, 2)


def _droppable(p: Process) -> int:
    return p.mmap(0, 1, RW, uapi.MAP_DROPPABLE | uapi.MAP_ANONYMOUS)


def droppable(p: Process) -> object:
    return min(_droppable(p), 0)


def _chosen(p: Process, length: int) -> bool:
    """Whether the kernel puts a mapping of that many bytes on a 2 MiB boundary."""
    sys_mmap(p.mm, 0, 1 << 12, RW, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS, None, 0)
    return sys_mmap(p.mm, 0, length, RW, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS, None, 0) % PMD_SIZE == 0


def memory_merge(p: Process) -> object:
    p.mmap(0, 1), p.memory_merge(True), p.mmap(1, 1)
    return p.lines(0, 2)


def mdwe(p: Process) -> object:
    return sys_prctl(p.mm, uapi.PR_SET_MDWE, 1, 0, 0, 0, None), min(p.mmap(0, 1, RWX), 0)


def name_shared(p: Process) -> object:
    p.mmap(0, 1, RW, SHARED_ANON)
    return p.name(0, 1, "cache")


# -- mprotect, madvise, mbind, mseal ----------------------------------------------------------------


def unwritten_made_read_only(p: Process) -> object:
    p.mmap(0, 1, R), p.mmap(1, 1), p.mprotect(1, 1, R)
    return p.lines(0, 2)


def below_a_dax_mapping(p: Process) -> object:
    file = p.open("dax")
    p.mmap(1, 1, RW, uapi.MAP_SHARED, file, 1), p.mmap(0, 1, RW, uapi.MAP_SHARED, file)
    return p.lines(0, 2)


def guard_of_a_file(p: Process) -> object:
    p.mmap(0, 2, RW, 0, p.open())
    return p.madvise(0, 1, uapi.MADV_GUARD_INSTALL)


def guard_install(p: Process) -> object:
    p.mmap(0, 1)
    return p.madvise(0, 1, uapi.MADV_GUARD_INSTALL)


def advise_self(p: Process) -> object:
    p.mmap(0, 2)
    done = sys_process_madvise(p.mm, [(at(0), 4096)], uapi.MADV_DONTDUMP, 0)
    return done, p.lines(0, 2)


def populate_over_a_hole(p: Process) -> object:
    p.mmap(0, 1), p.mmap(2, 1)
    return p.madvise(0, 3, uapi.MADV_POPULATE_WRITE), shades(p.mm)


def weighted(p: Process) -> object:
    p.mmap(0, 1)
    return sys_mbind(p.mm, at(0), 4096, uapi.MPOL_WEIGHTED_INTERLEAVE, 1, 64, 0)


def seal(p: Process) -> object:
    p.mmap(0, 1)
    return p.mseal(0, 1)


def protect_up_to_sealed(p: Process) -> object:
    p.mmap(0, 4), p.mseal(1, 1)
    return p.mprotect(0, 2, R), p.lines(0, 4)


def fork_a_ring(p: Process) -> object:
    p.mmap(0, 1, flags=uapi.MAP_SHARED, file=p.open("io_uring"))  # VM_DONTEXPAND
    return p.madvise(0, 1, uapi.MADV_DOFORK)


def executable_event(p: Process) -> object:
    file = p.open("perf")
    return p.mmap(0, 1, RWX, uapi.MAP_SHARED, file), p.mmap(1, 1, flags=uapi.MAP_SHARED, file=file), _letters(p, 1)


def unmap_part_of_an_event(p: Process) -> object:
    p.mmap(0, 3, flags=uapi.MAP_SHARED, file=p.open("perf"))
    return p.munmap(1, 1), p.lines(0, 3)


def advice_on_sealed_zeros(p: Process) -> object:
    """Of /dev/zero, mapped privately; a file is spared by all."""
    for page, kind in ((0, "zero"), (2, "regular")):
        p.mmap(page, 1, R, file=p.open(kind)), p.mseal(page, 1)
    return p.madvise(0, 1, uapi.MADV_DONTFORK), p.madvise(2, 1, uapi.MADV_DONTFORK)


# -- mremap -----------------------------------------------------------------------------------------


def invalid_move(p: Process) -> object:
    p.mmap(0, 1), p.mmap(8, 2)
    return p.mremap(0, 2, 3, 3, 8), p.lines(8, 10)


def move_two(p: Process) -> object:
    p.mmap(0, 1), p.mmap(1, 1, R)
    return min(p.move(0, 2, 8), 0), p.lines(8, 10)


def copy_beside_itself(p: Process) -> object:
    p.mmap(0, 2), p.move(0, 2, 2, DONTUNMAP)
    return p.lines(0, 4)


def copy_part_of_locked(p: Process) -> object:
    p.mmap(0, 4), p.mlock(0, 4), p.move(1, 1, 8, DONTUNMAP)
    return p.lines(0, 4)


def beside_the_source_of_a_copy(p: Process) -> object:
    p.mmap(0, 1), p.write(0), p.move(0, 1, 10), p.move(10, 1, 20, DONTUNMAP), p.mmap(11, 1)
    return p.lines(10, 12)


def accounted_source(p: Process) -> object:
    p.mmap(0, 1), p.move(0, 1, 8, DONTUNMAP)
    return "ac" in _letters(p, 0)


def shrink_at_the_limit(p: Process) -> object:
    p.mm.config.max_map_count = 3
    p.mmap(0, 2)
    return min(p.mremap(0, 2, 1), 0)


# -- userfaultfd, and what /proc shows --------------------------------------------------------------


def unregister_anothers(p: Process) -> object:
    owner, other = p.userfaultfd(), p.userfaultfd()
    p.mmap(0, 2), p.register(owner, 0, 1)
    return p.unregister(other, 0, 1), p.lines(0, 2)


def register_a_tail(p: Process) -> object:
    uffd = p.userfaultfd()
    p.mmap(0, 4), p.register(uffd, 2, 2), p.register(uffd, 1, 1)
    return p.lines(0, 4)


def register_droppable(p: Process) -> object:
    _droppable(p)
    return p.register(p.userfaultfd(), 0, 1)


def fill_what_is_not_registered(p: Process) -> object:
    p.mmap(0, 1)
    ctx = uffd_ctx(p.mm, p.userfaultfd())
    p.mm.observed, p.mm.expect_errno = True, ENOENT
    uffdio_fill(p.mm, ctx, at(0), 4096)
    p.mm.observed = False
    return shades(p.mm)


def beside_the_heap(p: Process) -> object:
    p.mm.start_brk = p.mm.brk = at(0)
    p.brk(2), p.mmap(2, 1, R)
    return [vma_name(p.mm, vma) for vma in p.mm.vmas()]


def lock_on_fault(p: Process) -> object:
    p.mmap(0, 1), sys_mlock(p.mm, at(0), 4096, uapi.MLOCK_ONFAULT)
    return _letters(p, 0)


APART, ONE = "[0-1 rw-p][1-2 rw-p]", "[0-2 rw-p]"
TABLE = {
    "anon-merge-source-chain": Shown(written_into_unwritten, APART, ONE),
    "mmap-merge-new-range": Shown(between_written_apart, "[0-1 rw-p][1-3 rw-p]", "[0-2 rw-p][2-3 rw-p]"),
    "close-prev-may-merge": Shown(
        shm_head_back, "[0-2 rw-s][2-3 rw-s][3-4 r--s]", "[0-3 rw-s][3-4 r--s]", base="6.8"
    ),
    "close-case7-refused": Shown(shm_whole_back, "[0-4 rw-s]", "[0-2 rw-s][2-4 rw-s]", base="6.8"),
    "close-only-removed": Shown(shm_tail_back, "[0-1 r--s][1-2 rw-s][2-4 rw-s]", "[0-1 r--s][1-4 rw-s]", base="6.8"),
    "anon-pgoff-private-file": Shown(written_file_moved, ONE, APART),
    "sticky-flags": Shown(beside_guards, APART, ONE),
    "maybe-guard-flag": Shown(guard_letters, False, True),
    "second-merge-attempt": Shown(driver_adds_flags, "[0-1 r--p][1-2 r--p]", "[0-2 r--p]"),
    "mremap-copy-anon-vma": Shown(inherited_moved_beside_unwritten, (ONE, "ww"), (APART, "WW"), base="6.18"),
    "uffd-merge-needs-event-remap": Shown(uffd_moved_beside_uffd, ONE, APART),
    "modify-error-as-merge": Shown(split_at_the_limit, -ENOMEM, "oops", base="6.7"),
    "gather-before-limits": Shown(failing_fixed, (-ENOMEM, "[0-4 rw-p]"), (-ENOMEM, "[0-2 rw-p][2-4 rw-p]")),
    "map-stack-nohugepage": Shown(map_stack, ONE, APART),
    "map-droppable": Shown(droppable, -EINVAL, 0),
    "mmap-prepare-flags": Shown(below_a_dax_mapping, "[0-1 rw-s][1-2 rw-s]", "[0-2 rw-s]"),
    "thp-align-anon": Shown(lambda p: _chosen(p, 2 * PMD_SIZE), False, True),
    "thp-align-multiple": Shown(lambda p: _chosen(p, 2 * PMD_SIZE + 4096), True, False),
    "ksm-new-maps-merge": Shown(memory_merge, APART, ONE),
    "prctl-memory-merge": Shown(lambda p: p.memory_merge(True), -EINVAL, 0),
    "mdwe": Shown(mdwe, (-EINVAL, 0), (0, -EACCES)),
    "mprotect-drops-account": Shown(unwritten_made_read_only, "[0-1 r--p][1-2 r--p]", "[0-2 r--p]"),
    "guard-install": Shown(guard_install, -EINVAL, 0),
    "guard-any-mapping": Shown(guard_of_a_file, -EINVAL, 0),
    "process-madvise-self": Shown(advise_self, (-EINVAL, ONE), (4096, APART)),
    "populate-walks-vmas": Shown(populate_over_a_hole, (-ENOMEM, "W w"), (-ENOMEM, "W W")),
    "weighted-interleave": Shown(weighted, -EINVAL, 0),
    "mseal": Shown(seal, -ENOSYS, 0),
    "seal-check-in-loop": Shown(
        protect_up_to_sealed,
        (-EPERM, "[0-1 rw-p][1-2 rw-p][2-4 rw-p]"),
        (-EPERM, "[0-1 r--p][1-2 rw-p][2-4 rw-p]"),
    ),
    "anon-inodes-noexec": Shown(
        executable_event,
        (at(0), at(1), "rd wr sh mr mw me ms pf io dc de dd"),
        (-EPERM, at(1), "rd wr sh mr mw ms pf io dc de dd"),
    ),
    "perf-may-not-split": Shown(unmap_part_of_an_event, (0, "[0-1 rw-s][2-3 rw-s]"), (-EINVAL, "[0-3 rw-s]")),
    "dofork-refuses-special": Shown(fork_a_ring, 0, -EINVAL),
    "seal-spares-files": Shown(advice_on_sealed_zeros, (-EPERM, 0), (0, 0)),
    "mremap-checks-first": Shown(invalid_move, (-EFAULT, ""), (-EFAULT, "[8-10 rw-p]")),
    "mremap-multi-vma": Shown(move_two, (-EFAULT, ""), (0, "[8-9 rw-p][9-10 r--p]")),
    "dontunmap-no-self-merge": Shown(copy_beside_itself, "[0-4 rw-p]", "[0-2 rw-p][2-4 rw-p]"),
    "dontunmap-splits-locked": Shown(copy_part_of_locked, "[0-4 rw-p]", "[0-1 rw-p][1-2 rw-p][2-4 rw-p]"),
    "dontunmap-resets-pgoff": Shown(beside_the_source_of_a_copy, "[10-11 rw-p][11-12 rw-p]", "[10-12 rw-p]"),
    "dontunmap-clears-account": Shown(accounted_source, True, False),
    "mremap-map-count-early": Shown(shrink_at_the_limit, 0, -ENOMEM),
    "uffd-unregister-own-ctx": Shown(unregister_anothers, (0, ONE), (-EINVAL, APART)),
    "uffd-fill-prepares-first": Shown(fill_what_is_not_registered, "w", "W"),
    "uffd-merge-offset": Shown(register_a_tail, "[0-1 rw-p][1-2 rw-p][2-4 rw-p]", "[0-1 rw-p][1-4 rw-p]"),
    "anon-name-shmem": Shown(name_shared, -EBADF, 0),
    "uffd-refuses-droppable": Shown(register_droppable, 0, -EINVAL),
    "heap-label-touching": Shown(beside_the_heap, ["[heap]", ""], ["[heap]", "[heap]"]),
    "smaps-names-lockonfault": Shown(lock_on_fault, "rd wr mr mw me lo ?? ac", "rd wr mr mw me lo lf ac"),
}


def test_every_switch_is_in_the_table() -> None:
    """No switch is without a scenario that shows it, no scenario without a switch; bugs have a table of theirs."""
    assert set(TABLE) == set(SWITCHES) - {f.name.replace("_", "-") for f in fields(Bugs)}


@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("switch", TABLE)
def test_switch(switch: str, on: bool) -> None:
    """The calls come out as the table says under that setting of the switch."""
    row = TABLE[switch]
    process = Process(preset(row.base).with_rule(switch, on), Config(anon_name=True))
    assert row.calls(process) == (row.on if on else row.off)


@pytest.mark.parametrize("switch", TABLE)
def test_outcomes_differ(switch: str) -> None:
    """A switch that changes nothing would not be one."""
    assert TABLE[switch].off != TABLE[switch].on
