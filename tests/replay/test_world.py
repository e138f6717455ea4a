"""One event folded in: what its outcome holds, and what the kernel's answer decides where the trace is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.importers.strace import StraceReader
from vmastore.mm.rules import preset
from vmastore.replay.world import World, config_of

P = 4096
A = 0x10000000
DONTUNMAP, MAYMOVE, FIXED = 4, 1, 2


def event(seq: int, call: str, args: tuple[Any, ...], result: int | None = 0, errno: int = 0, **more: Any) -> Event:
    return Event(seq, 1, 1, 1, None, call, args, result, errno, **more)


def world(kernel: str = "6.12", files: list[FileInfo] | None = None, *, form: str = "strace") -> World:
    return World(TraceHeader("t", "t", form, config={"anon_name": True}), files or [], preset(kernel))


def test_outcomes_without_decisions_share_nothing() -> None:
    """Each outcome has a list of its own, whether the event decides, fails, is no call or is injected."""
    w = world()
    events = [
        event(1, "mmap", (A, P, 3, 0x32, -1, 0), A),
        event(2, "munmap", (A + 1, P), None, 22),
        event(3, "msync", (A, P, 4)),
        event(4, "mlock", (A, P), injected=True),
        event(5, "munmap", (A + 8 * P, P)),
        event(6, "getpid", ()),
        event(7, "exit", (0, None, 1), None),
        event(8, "munmap", (A, P)),
    ]
    outcomes = [w.apply(e) for e in events]
    assert len({id(o.decisions) for o in outcomes}) == len(outcomes)
    assert [len(o.decisions) for o in outcomes] == [1, 0, 0, 0, 0, 0, 0, 0]
    outcomes[1].decisions.append(outcomes[0].decisions[0])
    assert [len(o.decisions) for o in outcomes[2:]] == [0] * 6
    assert not any(mm.decisions for mm in w.mms.values())


@pytest.mark.parametrize("given, taken", [(True, True), (False, False), (None, None)])
def test_privileges_are_taken_from_the_header(given: bool | None, taken: bool | None) -> None:
    """config["privileged"] decides whether RLIMIT_MEMLOCK counts; not given, it stays unknown."""
    config = {} if given is None else {"privileged": given}
    assert config_of(TraceHeader("t", "t", "record", config=config)).privileged is taken


@pytest.mark.parametrize("privileged, answer", [(False, 12), (True, 0)])
def test_the_limit_of_locked_memory_counts_for_the_unprivileged(privileged: bool, answer: int) -> None:
    """A hand-written mlock beyond RLIMIT_MEMLOCK is predicted to fail, and not for root."""
    header = TraceHeader("t", "t", "jsonl", config={"privileged": privileged, "rlimits": {"MEMLOCK": 2 * P}})
    w = World(header, [], preset("6.12"))
    w.apply(event(1, "mmap", (A, 4 * P, 3, 0x32, -1, 0), A))
    assert [w.apply(event(n, "mlock", (A, n * P), None)).errno for n in (1, 2, 3)] == [0, 0, answer]


def test_the_hint_of_a_dontunmap_may_be_what_was_refused() -> None:
    """strace prints no new_addr without MREMAP_FIXED: an EINVAL may be its, and only where it is not shown."""
    for shown, divergence in ((None, False), (0, True)):
        w = world()
        w.apply(event(1, "mmap", (A, 2 * P, 3, 0x32, -1, 0), A))
        done = w.apply(event(2, "mremap", (A, P, P, MAYMOVE | DONTUNMAP, shown), None, 22))
        assert (done.divergence is not None) == divergence
        assert w.mm(1).map_count == 1 + divergence


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
def test_a_range_may_end_in_what_cannot_be_split(kernel: str) -> None:
    """EINVAL of unmapping over an unseen [vdso]: the edge below it is split by then, nothing is gone."""
    w = world(kernel)
    w.apply(event(1, "mmap", (A, 4 * P, 3, 0x32, -1, 0), A))
    w.apply(event(2, "mmap", (A + 100 * P, P, 3, 0x32, -1, 0), A + 100 * P))
    done = w.apply(event(3, "munmap", (A + 2 * P, 8 * P), None, 22))
    assert done.divergence is None
    assert [(v.vm_start - A) // P for v in w.mm(1).vmas()] == [0, 2, 100]
    moved = w.apply(event(4, "mremap", (A + 100 * P, P, 2 * P, MAYMOVE | FIXED, A + 20 * P), None, 22))
    assert moved.divergence is None and w.mm(1).map_count == 3
    # what the replay knows to be mapped whole is no excuse
    known = w.apply(event(5, "munmap", (A, 2 * P), None, 22))
    assert known.divergence == "replay: 0, kernel: -1 EINVAL"


def test_a_source_that_is_refused_itself_had_its_target_unmapped() -> None:
    """Before 6.17 an EINVAL of the source comes after the target is gone; since, before."""
    for kernel, left in (("6.12", [0]), ("6.18", [0, 16])):
        w = world(kernel)
        w.apply(event(1, "mmap", (A, 2 * P, 3, 0x32, -1, 0), A))
        w.apply(event(2, "mmap", (A + 16 * P, P, 3, 0x32, -1, 0), A + 16 * P))
        done = w.apply(event(3, "mremap", (A, 0, 2 * P, MAYMOVE | FIXED, A + 16 * P), None, 22))
        assert done.divergence is None
        assert [(v.vm_start - A) // P for v in w.mm(1).vmas()] == left, kernel


_FILE = [FileInfo(1, "/tmp/x", "regular", True, True, size=8 * P), FileInfo(2, None, "uffd", True, True)]


@pytest.mark.parametrize("answer", [0, 22])
@pytest.mark.parametrize("mode", [1, 4])
def test_the_file_system_is_the_kernels_to_tell(mode: int, answer: int) -> None:
    """A path does not show whether its file is on tmpfs: registering with a userfaultfd does."""
    w = world(files=_FILE)
    w.apply(event(1, "mmap", (A, P, 3, 0x11, 3, 0), A, file=1))
    args = (9, "UFFDIO_REGISTER", A, P, mode, None)
    done = w.apply(event(2, "ioctl", args, None if answer else 0, answer, file=2))
    assert done.divergence is None
    assert (w.mm(1).find_vma(A).attrs.uffd is not None) == (answer == 0)


@pytest.mark.parametrize("form, divergence", [("strace", None), ("vmafuzz", "replay: -1 EINVAL, kernel: 0")])
def test_a_known_file_system_is_no_excuse(form: str, divergence: str | None) -> None:
    """A recording that says `regular` of a file on disk is held to it."""
    w = world(files=_FILE, form=form)
    w.apply(event(1, "mmap", (A, P, 3, 0x11, 3, 0), A, file=1))
    done = w.apply(event(2, "ioctl", (9, "UFFDIO_REGISTER", A, P, 1, None), file=2))
    assert done.divergence == divergence


@pytest.mark.parametrize("answer, name", [(0, "x"), (9, None)])
def test_so_does_a_name(answer: int, name: str | None) -> None:
    """An unlinked file of tmpfs takes a name, a file on disk answers EBADF."""
    w = world(files=_FILE)
    w.apply(event(1, "mmap", (A, P, 3, 0x12, 3, 0), A, file=1))
    args = (0x53564D41, 0, A, P, None, "x")
    done = w.apply(event(2, "prctl", args, None if answer else 0, answer))
    assert done.divergence is None and w.mm(1).find_vma(A).anon_name == name


@pytest.mark.parametrize("kernel", ["6.1", "6.12-anonname", "6.18"])
@pytest.mark.parametrize("profile", ["mremap-4", "all-4", "fork-4", "errors-4", "name-4"])
def test_strace_of_a_recording_has_no_divergence(corpus: Path, kernel: str, profile: str) -> None:
    """Random calls, read from strace alone: every answer is predicted and nothing needs inferring."""
    reader = StraceReader([corpus / "fuzz" / kernel / "strace" / f"{profile}.strace.gz"])
    events = reader.events()
    first = next(events)
    w = World(reader.header, lambda: reader.files, preset(kernel.partition("-")[0]))
    outcomes = [w.apply(first), *(w.apply(e) for e in events)]
    assert [(o.seq, o.divergence) for o in outcomes if o.divergence] == []
    assert w.env.inferred == 0 and len(outcomes) > 1000


@pytest.mark.parametrize("addr", [-1, -2, -P, -2 * P, -(1 << 63), -(1 << 70), (1 << 64) + P, 1 << 70])
@pytest.mark.parametrize("call", ["fault", "munmap", "mprotect", "madvise", "mlock", "mremap", "mmap"])
def test_an_address_that_there_cannot_be_harms_nothing(call: str, addr: int) -> None:
    """A damaged trace may name one below or above all addresses: links and index still show the same VMAs."""
    more: dict[str, tuple[Any, ...]] = {
        "fault": ("w", None, "user"),
        "mprotect": (1,),
        "madvise": (4,),
        "mremap": (2 * P, 1, 0),
        "mmap": (3, 0x32, -1, 0),
    }
    w = world()
    w.apply(event(1, "mmap", (A, 4 * P, 3, 0x32, -1, 0), A))
    w.apply(event(2, "munmap", (A + P, P)))
    w.apply(event(3, call, (addr, P, *more.get(call, ())), None, 22))
    w.apply(event(4, "mmap", (A + 3 * P, P, 1, 0x32, -1, 0), A + 3 * P))
    w.apply(event(5, "mprotect", (A, P, 1)))
    mm = w.mm(1)
    shown = [(v.vm_start, v) for v in mm.vmas()]
    assert list(mm.index.items()) == shown and len(shown) == mm.map_count
    assert [v.vm_start for v in mm.vmas() if A <= v.vm_start < A + 4 * P] == [A, A + 2 * P, A + 3 * P]
    assert mm.head.vm_start == mm.head.vm_end < 0


@pytest.mark.parametrize("prot", [1, 3])
@pytest.mark.parametrize(("call", "more"), [("mlock", ()), ("madvise", (22,))])
def test_a_damaged_length_takes_no_memory(prot: int, call: str, more: tuple[Any, ...]) -> None:
    """32 TiB that are said to have been faulted in: the regions of 2 MiB are not noted one by one."""
    w = world()
    length = 1 << 45
    w.apply(event(1, "mmap", (A, length, prot, 0x32, -1, 0), A))
    w.apply(event(2, call, (A, length, *more), 0))
    assert len(w.mm(1).pmds) < 10
