"""A trace that begins in the middle of a process's life: what its first observation leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vmastore.events import Event, ObservedVma, TraceHeader
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset, resolve
from vmastore.replay.maps import observe
from vmastore.replay.resync import clone_mm
from vmastore.replay.settle import alternatives
from vmastore.replay.state import decode, encode
from vmastore.replay.verify import Verifier
from vmastore.replay.verify_report import Report
from vmastore.replay.world import Outcome, World

P = 4096
A = 0x10000000
HEADER = TraceHeader("t", "t", "record", faults="recorded")
PLAIN = "rd wr mr mw me ac"
READ = "rd mr mw me ac"


def line(page: int, pages: int, perms: str, written: bool | None) -> ObservedVma:
    flags = PLAIN if "w" in perms else READ
    return ObservedVma(A + page * P, A + (page + pages) * P, perms, 0, "00:00", 0, "", flags, written)


def begin(*lines: ObservedVma, kernel: str = "6.12", execed: bool = False) -> World:
    """A world whose first event, or first after an exec, is an observation."""
    world = World(HEADER, [], preset(kernel))
    if execed:
        world.apply(Event(1, 2, 1, 1, None, "execve", ("/x", None, 1), 0, 0))
    rows = [list(row) for row in lines]
    world.apply(Event(2, 1, 1, 1, None, "maps", ("baseline", len(rows), None, rows), None, 0))
    return world


def protect(world: World, page: int, pages: int, prot: int) -> Outcome:
    return world.apply(Event(9, 1, 1, 1, None, "mprotect", (A + page * P, pages * P, prot), 0, 0))


def cases(world: World) -> list[int]:
    return [(v.vm_start - A) // P for v in world.mm(1).vmas()]


@pytest.mark.parametrize("written, certain", [((True, True), False), ((False, True), False), ((False, False), False)])
def test_whether_two_vmas_of_the_baseline_merge_is_open(written: tuple[bool, bool], certain: bool) -> None:
    """A page that is gone may have been written, and two written VMAs may be of one anon_vma or of two."""
    world = begin(line(0, 2, "rw-p", written[0]), line(2, 2, "r--p", written[1]))
    before = clone_mm(world.mm(1))
    done = protect(world, 2, 2, 3)
    assert done.certain == certain
    event = Event(9, 1, 1, 1, None, "mprotect", (A + 2 * P, 2 * P, 3), 0, 0)
    assert {cases for cases, _ in alternatives(world, event, before, done)} == {"", "7"}


def test_a_new_image_leaves_nothing_open() -> None:
    """After an exec that the trace shows, the first observation is of what exec made."""
    for written in ((True, True), (False, False)):
        world = begin(line(0, 2, "rw-p", written[0]), line(2, 2, "r--p", written[1]), execed=True)
        assert protect(world, 2, 2, 3).certain
        assert cases(world) == [0]


def test_touching_alike_vmas_are_thought_to_be_of_one() -> None:
    """The guess: written neighbours that differ in permissions only were split from one VMA."""
    world = begin(line(0, 2, "rw-p", True), line(2, 2, "r--p", True))
    protect(world, 2, 2, 3)
    assert cases(world) == [0]


def test_the_pieces_of_one_vma_are_surely_of_one() -> None:
    """Splitting a VMA of the baseline and merging it again is certain, whatever it was."""
    for written in (True, False):
        world = begin(line(0, 6, "rw-p", written))
        outcomes = [protect(world, 2, 2, 7), protect(world, 2, 2, 3)]
        assert all(o.certain for o in outcomes) and cases(world) == [0]
        assert protect(world, 2, 2, 1).certain == written  # an unwritten one loses VM_ACCOUNT, a written one does not


def test_a_fork_before_the_trace_is_open_too() -> None:
    """A written VMA does not take in new memory if it was inherited while written."""
    world = begin(line(0, 2, "rw-p", True))
    new = Event(9, 1, 1, 1, None, "mmap", (A + 2 * P, P, 3, 0x32, -1, 0), A + 2 * P, 0)
    before = clone_mm(world.mm(1))
    done = world.apply(new)
    assert not done.certain
    assert {cases for cases, _ in alternatives(world, new, before, done)} == {"", "2"}


def test_what_came_after_is_certain() -> None:
    """VMAs that the trace made itself are known, and so is a child's copy of a written VMA."""
    world = begin(line(0, 2, "rw-p", True))
    for page, prot in ((10, 3), (12, 1)):
        world.apply(Event(3, 1, 1, 1, None, "mmap", (A + page * P, 2 * P, prot, 0x32, -1, 0), A + page * P, 0))
    assert protect(world, 12, 2, 3).certain
    world.apply(Event(4, 1, 1, 1, None, "fork", (17, 7), 50, 0))
    child = Event(5, 7, 50, 50, None, "mmap", (A + 2 * P, P, 3, 0x32, -1, 0), A + 2 * P, 0)
    done = world.apply(child)
    assert done.certain and done.merges == 0  # inherited while written: it takes nothing in


def test_a_source_left_whole_is_unwritten_for_sure() -> None:
    """MREMAP_DONTUNMAP takes the anon_vma away, and with it all that was open."""
    world = begin(line(0, 2, "rw-p", True))
    away = A + 64 * P
    world.apply(Event(3, 1, 1, 1, None, "mremap", (A, 2 * P, 2 * P, 5, away), away, 0))
    source = world.mm(1).find_vma(A)
    assert source.base is None and not source.unsure
    done = world.apply(Event(4, 1, 1, 1, None, "mmap", (A + 2 * P, P, 3, 0x32, -1, 0), A + 2 * P, 0))
    assert done.certain and done.cases == "2"


@pytest.mark.parametrize("apart", [True, False])
def test_an_observation_settles_it(apart: bool) -> None:
    """An observed list that only one state explains settles every piece; later outcomes are certain."""
    world = begin(line(0, 2, "rw-p", True), line(2, 4, "r--p", True))
    verifier = Verifier(world)
    verifier.step(Event(3, 1, 1, 1, None, "mprotect", (A + 2 * P, P, 3), 0, 0))
    seen = [line(0, 2, "rw-p", True), line(2, 1, "rw-p", True), line(3, 3, "r--p", True)]
    if not apart:
        seen[:2] = [line(0, 3, "rw-p", True)]
    verifier.step(Event(4, 1, 1, 1, None, "maps", ("check", len(seen), None, [list(row) for row in seen]), None, 0))
    report = verifier.report
    assert (report.mismatches, report.mismatches_assumed, report.assumed) == (0, 0, 1)
    assert report.settled == apart and report.compared == (not apart)
    if apart:
        assert protect(world, 3, 1, 3).certain and cases(world) == [0, 2, 4]


def attached(path: Path, every: int) -> Iterator[tuple[World, Verifier, list[Event]]]:
    """A recording of which only a part is known: worlds that begin with an observation in its middle.

    What the observation shows of written pages is less than there was: every third VMA shows none.
    """
    reader = open_traces(path)[0]
    rules = resolve(reader.header.release or "", reader.header.version)
    events = list(reader.events())
    verifier = Verifier(World(reader.header, lambda: reader.files, rules))
    number, steps, ends = (
        events[0].mm,
        0,
        [n for n, e in enumerate(events) if e.call == "maps" and e.mm == events[0].mm],
    )
    for n, event in enumerate(events):
        verifier.step(event)
        steps += 1
        if n not in ends or steps < every:
            continue
        steps = 0
        mm = verifier.world.mms[number]
        rows = []
        for k, vma in enumerate(mm.vmas()):
            rows.append(list(observe(mm, vma)._replace(written=vma.anon_vma is not None and k % 3 != 0)))
        late = Verifier(World(reader.header._replace(format="record"), lambda: reader.files, rules))
        late.step(Event(1, number, 1, 1, None, "maps", ("baseline", len(rows), None, rows), None, 0))
        begun = late.world.mms[number]
        begun.start_brk, begun.brk, begun.start_stack = mm.start_brk, mm.brk, mm.start_stack
        yield late.world, late, [e for e in events[n + 1 : n + 1 + 2 * every] if e.mm == number]


def examine(path: Path, every: int) -> tuple[int, int]:
    """Fold every part in; (assumed outcomes, settled). What is certain must be right, what is not, open."""
    assumed = settled = 0
    for world, verifier, events in attached(path, every):
        for event in events:
            before = world.mms.get(event.mm)
            copy = clone_mm(before) if before is not None and event.call != "maps" else None
            outcome = verifier.step(event)
            if outcome is not None and not outcome.certain and copy is not None:
                assumed += 1
                answers = alternatives(world, event, copy, outcome)
                assert len(set(answers)) > 1, f"{path.name}, event {event.seq}: every state decides alike"
        report: Report = verifier.report
        assert report.mismatches == 0, f"{path.name}: {report.first_mismatch}"
        assert report.mismatches_assumed == 0, f"{path.name}: no state explains {report.first_mismatch}"
        settled += report.settled
    return assumed, settled


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
@pytest.mark.parametrize("recording", ["anon-touch-1", "mremap-2", "basic-1"])
def test_attached_in_the_middle(corpus: Path, kernel: str, recording: str) -> None:
    """What is called certain equals the kernel, what is called assumed has another reading that one may observe."""
    assumed, settled = examine(corpus / "fuzz" / kernel / f"{recording}.jsonl.gz", 40)
    assert (assumed > 0 and settled > 0) or recording.startswith("basic")


def call(world: World, name: str, *args: int) -> Outcome:
    """One event of the address space, answered with 0 or, for an mmap, with its address."""
    result = args[0] if name == "mmap" else None if name == "fault" else 0
    full = (*args, "w", None, "user") if name == "fault" else args
    return world.apply(Event(9, 1, 1, 1, None, name, full, result, 0))


def test_what_is_written_later_may_borrow_an_open_anon_vma() -> None:
    """A fault takes a neighbour's anon_vma if that one is singular, which is open: so is whether the two are one."""
    world = begin(line(0, 2, "rw-p", True))
    call(world, "mmap", A + 2 * P, 2 * P, 7, 0x32, -1, 0)
    call(world, "fault", A + 2 * P, P)
    before = clone_mm(world.mm(1))
    done = protect(world, 2, 2, 3)
    assert not done.certain
    event = Event(9, 1, 1, 1, None, "mprotect", (A + 2 * P, 2 * P, 3), 0, 0)
    assert {cases for cases, _ in alternatives(world, event, before, done)} == {"", "7"}


def test_what_was_open_and_is_written_now_is_apart_from_what_came_after() -> None:
    """Two VMAs written while their flags differed have two anon_vmas, whatever the older one had before."""
    world = begin(line(0, 2, "rw-p", False), kernel="6.18")
    call(world, "mmap", A + 2 * P, 2 * P, 7, 0x32, -1, 0)
    call(world, "madvise", A + 2 * P, 2 * P, 16)
    call(world, "fault", A + 2 * P, P)
    call(world, "fault", A, P)
    protect(world, 2, 2, 3)
    done = call(world, "madvise", A + 2 * P, 2 * P, 17)
    assert done.certain and done.merges == 0 and cases(world) == [0, 2]


@pytest.mark.parametrize(("inode", "left"), [(7, [0]), (8, [0, 2])])
def test_shared_anonymous_memory_is_one_file_by_its_inode(inode: int, left: list[int]) -> None:
    """Pieces of one mapping merge again; two mappings are two files, which never do."""
    flags = "rd sh mr mw me ms"

    def shared(page: int, perms: str, number: int) -> ObservedVma:
        start, letters = A + page * P, f"{flags[:2]} wr{flags[2:]}" if "w" in perms else flags
        return ObservedVma(
            start, start + 2 * P, perms, page * P, "00:01", number, "/dev/zero (deleted)", letters, None
        )

    world = begin(shared(0, "rw-s", 7), shared(2, "r--s", inode))
    done = protect(world, 2, 2, 3)
    assert done.certain and cases(world) == left


@pytest.mark.parametrize("own", [False, True])
def test_pieces_of_one_vma_merge_surely_if_nothing_was_inherited(own: bool) -> None:
    """A hole in a written VMA that is mapped again: only what was inherited through a fork may keep it apart."""
    world = begin(line(0, 6, "rw-p", True))
    if own:
        world.apply(Event(3, 1, 1, 1, None, "note", ("own-image", True), 0, 0))
    copy = decode(encode(world), World(HEADER, [], preset("6.12")))
    for one in (world, copy):
        one.apply(Event(8, 1, 1, 1, None, "munmap", (A + 2 * P, P), 0, 0))
        done = one.apply(Event(9, 1, 1, 1, None, "mmap", (A + 2 * P, P, 3, 0x32, -1, 0), A + 2 * P, 0))
        assert cases(one) == [0] and done.certain is own


def test_an_unwritten_vma_of_its_own_may_still_have_been_written() -> None:
    """Two neighbours without pages: written apart they do not merge, though nothing was inherited."""
    world = begin(line(0, 2, "rw-p", False), line(2, 2, "r--p", False))
    world.apply(Event(3, 1, 1, 1, None, "note", ("own-image", True), 0, 0))
    assert not protect(world, 2, 2, 3).certain


@pytest.mark.parametrize(
    ("errno", "observed_first", "divergence"),
    [(22, False, None), (13, False, None), (12, False, None), (22, True, "replay: -1 ENOMEM, kernel: -1 EINVAL")],
    ids=["of-a-mapping", "of-a-file", "of-a-hole", "baseline-shows-the-hole"],
)
def test_madvise_may_fail_on_what_no_event_has_shown(
    errno: int, observed_first: bool, divergence: str | None
) -> None:
    """Before the baseline of an attach (stress-ng --madvise), a refusal may be of a mapping that is not known yet."""
    world = begin(line(0, 2, "rw-p", True)) if observed_first else World(HEADER, [], preset("6.18"))
    at = A + (8 if observed_first else 0) * P
    done = world.apply(Event(9, 1, 1, 1, None, "madvise", (at, P, 18), None, errno))
    assert done.divergence == divergence and done.errno == (12 if divergence else errno)
