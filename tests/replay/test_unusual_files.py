"""Mappings of files that are no files, as recordings of Linux 6.18.44 showed them."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENODEV, EPERM
from typing import Any

import pytest

from vmastore.events import Event, FileInfo, ObservedVma, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.maps import observe
from vmastore.replay.verify import Verifier
from vmastore.replay.world import Outcome, World

A = 0x200000000
P = 4096
SHARED_FIXED = 0x11


def file_world(kind: str, path: str) -> World:
    info = FileInfo(1, path, kind, True, True)
    world = World(TraceHeader("t", "t", "record", faults="recorded"), [info], preset("6.18"))
    apply(world, "mmap", (A, 8 * P, 3, 0x32, -1, 0), A)
    return world


def apply(world: World, call: str, args: tuple[Any, ...], result: int | None, file: int | None = None) -> Outcome:
    """result: negative for an errno."""
    failed = result is not None and result < 0
    event = Event(1, 1, 1, 1, None, call, args, None if failed else result, -result if failed and result else 0, file)
    return world.apply(event)


def lines(world: World) -> list[tuple[int, int, str | None]]:
    shown = [observe(world.mm(1), vma) for vma in world.mm(1).vmas()]
    return [((s.start - A) // P, (s.end - A) // P, s.vm_flags) for s in shown]


ANON = "rd wr mr mw me ac"


@pytest.mark.parametrize(
    ("kind", "path", "flags"),
    [
        ("perf", "anon_inode:[perf_event]", "rd wr sh mr mw ms pf io dc de dd"),
        ("socket", "socket:[12]", "rd wr sh mr mw ms mm"),
        ("secretmem", "/secretmem", "rd wr sh mr mw ms lo dd"),
    ],
)
def test_flags_of_the_hook(kind: str, path: str, flags: str) -> None:
    """What a driver adds to vm_flags; none of these may be executed."""
    world = file_world(kind, path)
    apply(world, "mmap", (A + 2 * P, P, 3, SHARED_FIXED, 3, 0), A + 2 * P, 1)
    assert lines(world)[1] == (2, 3, flags)


@pytest.mark.parametrize(
    ("kind", "errno", "kept", "certain"),
    [
        ("perf", EINVAL, False, True),
        ("perf", EPERM, False, True),
        ("socket", ENODEV, False, True),
        ("io_uring", EINVAL, True, True),
        ("device", EINVAL, False, False),
        ("device", ENODEV, True, True),
    ],
)
def test_what_is_refused_late_has_unmapped_its_range(kind: str, errno: int, kept: bool, certain: bool) -> None:
    """io_uring's own get_unmapped_area refuses before; of other drivers it is not known."""
    world = file_world(kind, "/dev/x")
    done = apply(world, "mmap", (A + 2 * P, P, 3, SHARED_FIXED, 3, 0), -errno, 1)
    assert (done.divergence, done.certain) == (None, certain)
    assert [line[:2] for line in lines(world)] == ([(0, 8)] if kept else [(0, 2), (3, 8)])


def test_a_descriptor_that_no_event_opened() -> None:
    """Any answer but EBADF shows that it is open."""
    world = file_world("unknown", "?")
    assert apply(world, "mmap", (A + 20 * P, P, 3, 1, 7, 0), -EINVAL).divergence is None


def test_flags_of_a_driver_are_settled_by_the_first_sight() -> None:
    """And hold for what else is mapped of that file."""
    world = file_world("unknown", "anon_inode:bpf-map")
    for page in (20, 22):
        apply(world, "mmap", (A + page * P, P, 1, SHARED_FIXED, 3, 0), A + page * P, 1)
    rows = [[A, A + 8 * P, "rw-p", 0, "00:00", 0, "", ANON, None]]
    for page, flags in ((20, "rd sh mr me ms de dd mm"), (22, "rd sh mr me ms de dd")):
        start = A + page * P
        rows.append([start, start + P, "r--s", 0, "00:10", 18, "anon_inode:bpf-map", flags, None])
    verifier = Verifier(world)
    verifier.step(Event(2, 1, 1, 1, None, "maps", ("check", 3, None, rows), None, 0))
    report = verifier.report
    assert report.mismatches == 1 and report.first_mismatch is not None  # the second has other flags than the first
    assert [line.start for line in report.first_mismatch.observed] == [A + 22 * P]
    assert ObservedVma(*rows[1]).vm_flags == lines(world)[1][2]


@pytest.mark.parametrize("seals", ["F_SEAL_SHRINK|F_SEAL_WRITE", "F_SEAL_FUTURE_WRITE", 0x10, "F_SEAL_GROW"])
def test_a_sealed_memfd_is_never_writable_again(seals: str | int) -> None:
    """A shared mapping made after F_SEAL_WRITE or F_SEAL_FUTURE_WRITE has no VM_MAYWRITE; others stay as they are."""
    world = file_world("memfd", "/memfd:m")
    apply(world, "mmap", (A + 20 * P, P, 1, SHARED_FIXED, 3, 0), A + 20 * P, 1)
    apply(world, "fcntl", (3, 1033, seals), 0, 1)
    apply(world, "mmap", (A + 22 * P, P, 1, SHARED_FIXED, 3, 0), A + 22 * P, 1)
    apply(world, "mmap", (A + 24 * P, P, 3, 0x12, 3, 0), A + 24 * P, 1)
    kept = "rd sh mr mw me ms"
    sealed = kept if seals == "F_SEAL_GROW" else "rd sh mr me ms"
    assert [line[2] for line in lines(world)] == [ANON, kept, sealed, ANON]


def test_process_madvise_that_fails_in_its_own_process() -> None:
    """EINVAL of a locked mapping: those before it have their guard pages."""
    world = file_world("unknown", "?")
    apply(world, "mlock", (A + 4 * P, 4 * P), 0)
    vector = [[A, 8 * P], [A + 100 * P, P]]
    assert apply(world, "process_madvise", (5, vector, 2, 102, 0), -EINVAL).divergence is None
    assert [line[2] for line in lines(world)] == ["rd wr mr mw me gu ac", "rd wr mr mw me lo ac"]


def test_process_madvise_of_another_process() -> None:
    """Advice that changes VMAs is EINVAL there; here it would have worked."""
    world = file_world("unknown", "?")
    assert apply(world, "process_madvise", (5, [[A, P]], 1, 14, 0), -EINVAL).divergence is None
    assert lines(world) == [(0, 8, ANON)]


def test_a_file_system_that_knows_no_holes() -> None:
    """MADV_REMOVE: what fallocate answers, whatever that is."""
    world = file_world("regular", "/f")
    apply(world, "mmap", (A + 20 * P, P, 3, SHARED_FIXED, 3, 0), A + 20 * P, 1)
    assert apply(world, "madvise", (A + 20 * P, P, 9), -ENODEV).divergence is None


def test_a_file_of_a_noexec_mount() -> None:
    """EACCES that no VMA explains is of the first that was to become executable; an observation settles the flag."""
    world = file_world("regular", "/run/f")
    apply(world, "mmap", (A + 20 * P, 2 * P, 3, SHARED_FIXED, 3, 0), A + 20 * P, 1)
    assert apply(world, "mprotect", (A + 20 * P, P, 5), -EACCES).divergence is None
    assert [line[:2] for line in lines(world)] == [(0, 8), (20, 22)]
    start = A + 20 * P
    flags = "rd wr sh mr mw ms"
    rows = [[A, A + 8 * P, "rw-p", 0, "00:00", 0, "", ANON, None]]
    rows.append([start, start + 2 * P, "rw-s", 0, "00:10", 18, "/run/f", flags, None])
    verifier = Verifier(world)
    verifier.step(Event(2, 1, 1, 1, None, "maps", ("check", 2, None, rows), None, 0))
    assert (verifier.report.mismatches, lines(world)[1][2]) == (0, flags)
    assert apply(world, "mprotect", (A, 8 * P, 5), 0).divergence is None


def test_an_eaccess_that_a_later_vma_explains() -> None:
    """Those below the one that may not be written are changed."""
    world = file_world("regular", "/f")
    world.file(1).writable = False  # type: ignore[union-attr]
    apply(world, "mmap", (A + 8 * P, P, 1, SHARED_FIXED, 3, 0), A + 8 * P, 1)
    assert apply(world, "mprotect", (A, 9 * P, 7), -EACCES).divergence is None
    assert [line[2] for line in lines(world)] == ["rd wr ex mr mw me ac", "rd mr me ms"]


def test_files_of_huge_pages() -> None:
    """Their mappings are whole huge pages, at one."""
    world = file_world("hugetlb", "/memfd:h")
    at = A + 512 * P
    assert apply(world, "mmap", (at, 100, 3, SHARED_FIXED, 3, 0), at, 1).divergence is None
    assert apply(world, "mmap", (at + P, P, 3, SHARED_FIXED, 3, 0), -EINVAL, 1).divergence is None
    assert [line[:2] for line in lines(world)] == [(0, 8), (512, 1024)]


@pytest.mark.parametrize("huge", [False, True])
def test_a_segment_of_unknown_size_is_as_long_as_what_shows_it(huge: bool) -> None:
    """No shmget in the trace: a page at first, and assumed; a call, then an observation, tell how long it is."""
    world = file_world("shm", "/SYSV00000000 (deleted)")
    verifier = Verifier(world)
    at, flags = A + 512 * P, "rd wr sh mr mw me ms" + " de ht" * huge
    baseline = [ObservedVma(A, A + 8 * P, "rw-p", 0, "00:00", 0, "", ANON)]
    world.load(1, baseline)
    assert not apply(world, "shmat", (7, 0, 0, None), at, 1).certain
    assert [line[:2] for line in lines(world)] == [(0, 8), (512, 513)]
    if not huge:
        assert apply(world, "mprotect", (at, 3 * P, 3), 0).divergence is None
        assert [line[:2] for line in lines(world)] == [(0, 8), (512, 515)]
    seen = [*baseline, ObservedVma(at, at + 512 * P, "rw-s", 0, "00:01", 7, "/SYSV00000000 (deleted)", flags)]
    verifier.step(Event(1, 1, 1, 1, None, "maps", ("check", 2, None, [list(line) for line in seen]), None, 0))
    assert (verifier.report.mismatches, verifier.report.mismatches_assumed) == (0, 0), verifier.report
    assert lines(world)[1] == (512, 1024, flags)
