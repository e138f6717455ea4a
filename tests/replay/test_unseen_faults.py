"""Recordings of real kernels with their page faults taken away: what hangs on them is assumed, never certain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from vmastore.events import Event, ObservedVma, TraceHeader
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset, resolve
from vmastore.mm.unknown import UNSURE_PIECE, write_open
from vmastore.replay.maps import observe
from vmastore.replay.resync import ELSEWHERE
from vmastore.replay.verify import Verifier
from vmastore.replay.verify_report import Report
from vmastore.replay.world import World

DATA = Path(__file__).parent.parent / "data"
P = 4096
A = 0x10000000
PLAIN = "rd wr mr mw me ac"


def without_faults(events: Iterable[Event], every: int) -> Iterator[Event]:
    """A recording that shows no faults, and of its observations, which follow each call, one in `every`, whole."""
    seen: dict[int, dict[int, list[object]]] = {}
    parent: dict[int, int] = {}
    count: dict[int, int] = {}
    seq = 0
    for event in events:
        if event.call == "fault":
            continue
        if event.call == "maps":
            kind, _, removed, added = event.args
            rows = seen.setdefault(event.mm, {} if removed is None else dict(seen.get(parent.get(event.mm, 0), {})))
            for start in list(rows) if removed is None else removed:
                rows.pop(start, None)
            rows.update((row[0], row) for row in added)
            count[event.mm] = count.get(event.mm, 0) + 1
            if kind != "baseline" and count[event.mm] % every:
                continue
            whole = [rows[start] for start in sorted(rows)]
            event = event._replace(args=(kind, len(whole), None, whole))
        elif event.call in ("fork", "clone", "clone3", "vfork") and len(event.args) > 1 and event.args[1]:
            parent[event.args[1]] = event.mm
        seq += 1
        yield event._replace(seq=seq)


def verify(path: Path, every: int) -> Report:
    """The sums of one recording without its faults."""
    total = Report()
    for reader in open_traces(path):
        header = reader.header._replace(faults="none")
        rules = resolve(header.release or "", header.version)
        world = World(header, lambda reader=reader: reader.files, rules)  # type: ignore[misc]
        total.add(Verifier(world).run(without_faults(reader.events(), every)))
    return total


@pytest.mark.parametrize("every", [1, 4])
def test_samples_without_faults(every: int) -> None:
    """The sample that comes with the tests: nothing certain is wrong, much is assumed."""
    report = verify(DATA / "vmafuzz" / "all-6.1.jsonl.gz", every)
    assert (report.mismatches, report.errno_mismatches) == (0, 0), report.first_mismatch
    assert report.compared > 0 and report.assumed > 0


@pytest.mark.parametrize("profile", ["all", "growsdown", "mremap", "policy", "seal", "brk", "fork", "uffd"])
@pytest.mark.parametrize("every", [1, 3, 7])
def test_recordings_without_faults(corpus: Path, profile: str, every: int) -> None:
    """On every recording of a profile no outcome that a fault decides is called certain, at any distance."""
    paths = sorted((corpus / "fuzz" / "6.18").glob(f"{profile}-[4-9].jsonl.gz"))
    if not paths:
        pytest.skip(f"no recording {profile} of 6.18")
    for path in paths:
        report = verify(path, every)
        assert (report.mismatches, report.errno_mismatches) == (0, 0), f"{path.name}: {report.first_mismatch}"


def blind(faults: str = "recorded") -> World:
    """A world whose trace shows no faults."""
    return World(TraceHeader("t", "t", "strace", faults="none"), [], preset("6.18"), faults=faults)


def mapped(world: World, seq: int, page: int, pages: int, flags: int = 0x32) -> None:
    at = A + page * P
    world.apply(Event(seq, 1, 1, 1, None, "mmap", (at, pages * P, 3, flags, -1, 0), at, 0))


def check(lines: list[ObservedVma], seq: int) -> Event:
    return Event(seq, 1, 1, 1, None, "maps", ("check", len(lines), None, [list(line) for line in lines]), None, 0)


def test_growth_that_no_fault_shows() -> None:
    """An observed MAP_GROWSDOWN mapping that begins lower has grown: settled, and so it is from then on."""
    world = blind()
    mapped(world, 1, 400, 4, 0x132)
    verifier = Verifier(world)
    flags = "rd wr mr mw me gd ac"
    grown = ObservedVma(A + 390 * P, A + 404 * P, "rw-p", 0, "00:00", 0, "", flags)
    verifier.step(check([grown], 2))
    report = verifier.report
    assert (report.mismatches, report.mismatches_assumed, report.settled) == (0, 0, 1)
    assert world.mm(1).find_vma(A).vm_start == A + 390 * P


def test_a_call_below_shows_growth() -> None:
    """mprotect succeeded just below a mapping that grows downwards: it had grown."""
    world = blind()
    mapped(world, 1, 400, 4, 0x132)
    done = world.apply(Event(2, 1, 1, 1, None, "mprotect", (A + 396 * P, 2 * P, 1), 0, 0))
    assert done.divergence is None
    assert [v.vm_start for v in world.mm(1).vmas()] == [A + 396 * P, A + 398 * P]


def test_where_a_moved_mapping_was_from_is_open() -> None:
    """mremap of memory that may have been written: a later merge of the copy hangs on it."""
    world = blind()
    mapped(world, 1, 200, 2)
    new = A + 300 * P
    moved = world.apply(Event(2, 1, 1, 1, None, "mremap", (A + 200 * P, 2 * P, 2 * P, 3, new), new, 0))
    assert moved.certain  # no neighbour
    assert world.mm(1).find_vma(new).attrs.open_offset == -100
    beside = world.apply(Event(3, 1, 1, 1, None, "mmap", (new + 2 * P, P, 3, 0x32, -1, 0), new + 2 * P, 0))
    assert not beside.certain


def test_pieces_of_a_moved_mapping_go_together() -> None:
    """What is open of a moved mapping is open of all its pieces alike: they merge again for certain."""
    world = blind()
    mapped(world, 1, 200, 4)
    world.apply(Event(2, 1, 1, 1, None, "madvise", (A + 200 * P, 4 * P, 23), 0, 0))  # MADV_POPULATE_WRITE
    world.apply(Event(3, 1, 1, 1, None, "mremap", (A + 200 * P, 4 * P, 4 * P, 3, A + 300 * P), A + 300 * P, 0))
    assert world.apply(Event(4, 1, 1, 1, None, "mprotect", (A + 301 * P, P, 1), 0, 0)).certain
    back = world.apply(Event(5, 1, 1, 1, None, "mprotect", (A + 301 * P, P, 3), 0, 0))
    assert back.certain and back.merges == 1


def test_an_observation_settles_no_more_than_it_shows() -> None:
    """That two VMAs stay apart shows that both are written; their neighbour, which any state fits, stays open."""
    world = blind()
    mapped(world, 1, 0, 4)
    mapped(world, 2, 4, 2, 0x4032)
    verifier = Verifier(world)
    verifier.step(Event(3, 1, 1, 1, None, "mprotect", (A + 2 * P, 2 * P, 1), 0, 0))
    lines = [observe(world.mm(1), vma) for vma in world.mm(1).vmas()]
    verifier.step(Event(4, 1, 1, 1, None, "mprotect", (A + 2 * P, 2 * P, 3), 0, 0))
    verifier.step(check([lines[0], lines[1]._replace(perms="rw-p", vm_flags=PLAIN), lines[2]], 5))
    assert verifier.report.mismatches == verifier.report.mismatches_assumed == 0
    assert [write_open(v) for v in world.mm(1).vmas()] == [False, False, True]


def heap(world: World) -> int:
    """A written mapping that ends where the heap begins, which is four pages long; its start."""
    world.apply(Event(1, 1, 1, 1, None, "brk", (0,), A, 0))
    below = A - 4 * P
    world.apply(Event(2, 1, 1, 1, None, "mmap", (below, 4 * P, 3, 0x8032, -1, 0), below, 0))  # MAP_POPULATE
    return below


def test_when_a_mapping_was_written_first_is_open() -> None:
    """mlock() writes a heap; whether it was written before, with the flags of its neighbour, no event shows."""
    world = blind()
    below = heap(world)
    world.apply(Event(3, 1, 1, 1, None, "brk", (A + 4 * P,), A + 4 * P, 0))
    assert world.apply(Event(4, 1, 1, 1, None, "mlock", (A, 4 * P), 0, 0)).certain
    beside = world.apply(Event(5, 1, 1, 1, None, "mlock", (below, 4 * P), 0, 0))
    assert not beside.certain and not beside.merges


def test_what_is_written_as_it_is_mapped_is_certain() -> None:
    """Under MCL_FUTURE the heap is written as it grows, beside other flags: never with its neighbour's anon_vma."""
    world = blind()
    below = heap(world)
    world.apply(Event(3, 1, 1, 1, None, "mlockall", (2,), 0, 0))
    world.apply(Event(4, 1, 1, 1, None, "brk", (A + 4 * P,), A + 4 * P, 0))
    beside = world.apply(Event(5, 1, 1, 1, None, "mlock", (below, 4 * P), 0, 0))
    assert beside.certain and not beside.merges
    assert world.mm(1).map_count == 2


def test_pieces_may_have_been_written_while_they_were_one() -> None:
    """Two pieces of a mapping, each written later on its own, share their anon_vma if an unseen write was first."""
    world = blind()
    mapped(world, 1, 0, 5)
    for seq, page in ((2, 0), (3, 4)):
        world.apply(Event(seq, 1, 1, 1, None, "mlock", (A + page * P, P), 0, 0))
    world.apply(Event(4, 1, 1, 1, None, "munmap", (A + P, 3 * P), 0, 0))
    assert not world.apply(Event(5, 1, 1, 1, None, "mmap", (A + P, 3 * P, 3, 0x2032, -1, 0), A + P, 0)).certain


def test_a_stack_in_the_way_of_a_mapping_has_grown() -> None:
    """EEXIST where nothing was seen, below a stack: it has grown to there, and the answer is no divergence."""
    world = blind()
    mapped(world, 1, 400, 4, 0x132)
    taken = Event(2, 1, 1, 1, None, "mmap", (A + 380 * P, 4 * P, 3, 0x100022, -1, 0), None, 17)
    assert world.apply(taken).divergence is None
    assert [v.vm_start for v in world.mm(1).vmas()] == [A + 383 * P]
    world.mm(1).complete = True  # all that there was is known
    elsewhere = Event(3, 1, 1, 1, None, "mmap", (A + 500 * P, 4 * P, 3, 0x100022, -1, 0), None, 17)
    assert world.apply(elsewhere).divergence is not None
    seen = World(TraceHeader("t", "t", "strace", faults="recorded"), [], preset("6.18"))
    mapped(seen, 1, 400, 4, 0x132)
    seen.mm(1).complete = True
    assert seen.apply(taken).divergence is not None


def test_what_is_settled_as_unwritten_may_be_written_later() -> None:
    """VM_ACCOUNT goes with the last writable page of unwritten memory; what stays writable is open again then."""
    world = blind()
    mapped(world, 1, 0, 4)
    world.apply(Event(2, 1, 1, 1, None, "mmap", (A + 4 * P, 2 * P, 7, 0x32, -1, 0), A + 4 * P, 0))
    verifier = Verifier(world)
    verifier.step(Event(3, 1, 1, 1, None, "mprotect", (A + 3 * P, 2 * P, 0), 0, 0))
    lines = [
        ObservedVma(A + first * P, A + end * P, perms, 0, "00:00", 0, "", flags)
        for first, end, perms, flags in (
            (0, 3, "rw-p", PLAIN),
            (3, 4, "---p", "mr mw me"),
            (4, 5, "---p", "mr mw me ac"),  # written
            (5, 6, "rwxp", "rd wr ex mr mw me ac"),
        )
    ]
    verifier.step(check(lines, 4))
    assert [write_open(v) for v in world.mm(1).vmas()] == [True, False, False, False]
    verifier.step(Event(5, 1, 1, 1, None, "mprotect", (A, P, 1), 0, 0))
    written = lines[0]._replace(end=A + P, perms="r--p", vm_flags="rd mr mw me ac")
    verifier.step(check([written, lines[0]._replace(start=A + P), *lines[1:]], 6))
    assert verifier.report.mismatches == verifier.report.mismatches_assumed == 0
    assert verifier.report.assumed == 2


def test_what_a_child_writes_may_have_been_written_before_the_fork() -> None:
    """MADV_POPULATE_WRITE shows that a VMA is written; what a parent wrote before would merge with nobody."""
    world = blind()
    mapped(world, 1, 0, 4)
    world.apply(Event(2, 1, 1, 1, None, "fork", (17, 2), 2, 0))
    world.apply(Event(3, 2, 2, 2, None, "madvise", (A, 4 * P, 23), 0, 0))
    vma = world.mm(2).find_vma(A)
    assert vma.anon_vma is not None and not write_open(vma)
    beside = world.apply(Event(4, 2, 2, 2, None, "mmap", (A + 4 * P, P, 3, 0x32, -1, 0), A + 4 * P, 0))
    assert not beside.certain
    world.apply(Event(5, 1, 1, 1, None, "madvise", (A, 4 * P, 23), 0, 0))
    assert world.apply(Event(6, 1, 1, 1, None, "mmap", (A + 4 * P, P, 3, 0x32, -1, 0), A + 4 * P, 0)).certain


def test_the_offset_of_what_did_not_merge_is_open() -> None:
    """A moved mapping was taken for one with its neighbour, and is not: it may have been written where it was."""
    world = blind()
    mapped(world, 1, 0, 2)
    mapped(world, 2, 100, 1)
    verifier = Verifier(world)
    for seq, call, args, result in (
        (3, "mprotect", (A + 100 * P, P, 1), 0),
        (4, "mremap", (A + 100 * P, P, P, 3, A + P), A + P),
        (5, "mprotect", (A + P, P, 3), 0),
    ):
        verifier.step(Event(seq, 1, 1, 1, None, call, args, result, 0))
    verifier.step(Event(6, 1, 1, 1, None, "munmap", (A + 200 * P, P), 0, 0))  # no observation between
    lines = [ObservedVma(A + n * P, A + (n + 1) * P, "rw-p", 0, "00:00", 0, "", PLAIN) for n in (0, 1)]
    verifier.step(check(lines, 7))
    assert (verifier.report.mismatches, verifier.report.mismatches_assumed) == (0, 1)
    mapped_on = Event(8, 1, 1, 1, None, "mmap", (A + 2 * P, P, 3, 0x32, -1, 0), A + 2 * P, 0)
    assert not world.apply(mapped_on).certain


@pytest.mark.parametrize(("prot", "open_again"), [(3, True), (1, False)])
def test_what_was_moved_away_and_stays_mapped_may_be_written_again(prot: int, open_again: bool) -> None:
    """MREMAP_DONTUNMAP leaves an unwritten source, whatever it was before."""
    world = blind()
    mapped(world, 1, 0, 1, 0x8032)  # MAP_POPULATE: written for certain
    world.apply(Event(2, 1, 1, 1, None, "mprotect", (A, P, prot), 0, 0))
    world.apply(Event(3, 1, 1, 1, None, "mremap", (A, P, P, 7, A + 8 * P), A + 8 * P, 0))
    source = world.mm(1).find_vma(A)
    assert (source.anon_vma, write_open(source)) == (None, open_again)
    assert world.apply(Event(4, 1, 1, 1, None, "mprotect", (A, P, 0), 0, 0)).certain != open_again


def test_any_other_offset_explains_and_settles_nothing() -> None:
    """After a difference a VMA may have any other page offset: one merge that failed does not show that it has."""
    world = blind()
    mapped(world, 1, 0, 2, 0x8032)  # written for certain
    world.apply(Event(2, 1, 1, 1, None, "mprotect", (A + P, P, 1), 0, 0))
    low = world.mm(1).find_vma(A)
    low.attrs = low.attrs.with_delta(low.attrs.delta, ELSEWHERE)
    world.env.open_offsets = True
    verifier = Verifier(world)
    verifier.step(Event(3, 1, 1, 1, None, "munmap", (A + 200 * P, P), 0, 0))
    low.unsure = UNSURE_PIECE  # so that the state before the next call is kept
    verifier.step(Event(4, 1, 1, 1, None, "mprotect", (A + P, P, 3), 0, 0))
    verifier.step(
        check([ObservedVma(A + n * P, A + (n + 1) * P, "rw-p", 0, "00:00", 0, "", PLAIN) for n in (0, 1)], 5)
    )
    assert (verifier.report.mismatches, verifier.report.mismatches_assumed, verifier.report.settled) == (0, 0, 1)
    assert not world.apply(Event(6, 1, 1, 1, None, "mmap", (A - P, P, 3, 0x32, -1, 0), A - P, 0)).certain


@pytest.mark.parametrize(("prot", "open_again"), [(3, True), (1, False)])
def test_what_a_fork_wipes_the_child_may_write(prot: int, open_again: bool) -> None:
    """MADV_WIPEONFORK: the child's copy is unwritten, whatever the parent's is."""
    world = blind()
    mapped(world, 1, 0, 2, 0x8032)  # written for certain
    world.apply(Event(2, 1, 1, 1, None, "madvise", (A, 2 * P, 18), 0, 0))
    world.apply(Event(3, 1, 1, 1, None, "mprotect", (A, 2 * P, prot), 0, 0))
    world.apply(Event(4, 1, 1, 1, None, "fork", (17, 2), 2, 0))
    copy = world.mm(2).find_vma(A)
    assert (copy.anon_vma, write_open(copy)) == (None, open_again)
