"""Every VMA alive has one maker, and it is the event that made it one of its own."""

from __future__ import annotations

from pathlib import Path

from traces import BASE, NONE, PAGE, RO, anon, protect, trace, unmap

from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset, resolve
from vmastore.replay.blame import Blame, Born, site_of
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.world import World

DATA = Path(__file__).parent.parent / "data"


def blamed(made: MemoryTrace, kernel: str = "6.18") -> list[tuple[int, Born]]:
    """(first page, how it was born) of each VMA."""
    blame = Blame(made.world(preset(kernel)))
    blame.run(made.events)
    mm = blame.world.mms[1]
    return [((v.vm_start - BASE) // PAGE, blame.born(mm, v)) for v in mm.vmas()]


def short(made: MemoryTrace) -> list[tuple[int, int, str]]:
    return [(page, born.seq, born.how) for page, born in blamed(made)]


def test_a_split_in_the_middle_is_the_splitters() -> None:
    """AAAAAAAA → AA|BBBB|CC: A stays mmap's, B and C are mprotect's."""
    made = trace(anon(0, 8), protect(2, 4, RO))
    assert short(made) == [(0, 1, "mapped"), (2, 2, "split"), (6, 2, "split")]
    assert [born.reason for _, born in blamed(made)] == ["not adjacent"] + ["flags differ: wr ac"] * 2


def test_the_tail_and_the_head() -> None:
    """The part that lies above the cut is the splitter's, whichever of the two is the new object."""
    assert short(trace(anon(0, 8), protect(4, 4, RO))) == [(0, 1, "mapped"), (4, 2, "split")]
    assert short(trace(anon(0, 8), protect(0, 4, RO))) == [(0, 1, "mapped"), (4, 2, "split")]


def test_unmapping() -> None:
    """A hole in the middle makes one VMA more, which is munmap's; cut heads and tails make none."""
    assert short(trace(anon(0, 8), unmap(3, 2))) == [(0, 1, "mapped"), (5, 2, "split")]
    assert short(trace(anon(0, 8), unmap(0, 2))) == [(2, 1, "mapped")]
    assert short(trace(anon(0, 8), unmap(6, 2))) == [(0, 1, "mapped")]


def test_mapping_over() -> None:
    """What MAP_FIXED puts into the middle is its own, what is left above it was cut off by it."""
    assert short(trace(anon(0, 8), anon(2, 2, RO))) == [(0, 1, "mapped"), (2, 2, "mapped"), (4, 2, "split")]
    assert short(trace(anon(0, 8), anon(0, 2, RO))) == [(0, 2, "mapped"), (2, 1, "mapped")]
    moved = trace(anon(0, 8), ("mremap", BASE + 2 * PAGE, PAGE, PAGE, 3, BASE + 40 * PAGE))
    assert short(moved) == [(0, 1, "mapped"), (3, 2, "split"), (40, 2, "mapped")]


def test_growing_and_merging_keep_the_maker() -> None:
    """A mapping that joins another makes no VMA; what is mapped over is the new call's."""
    assert short(trace(anon(4, 4), anon(2, 2), anon(8, 2))) == [(2, 1, "mapped")]
    assert short(trace(anon(0, 4), protect(2, 2, RO), protect(2, 2, 3))) == [(0, 1, "mapped")]
    assert short(trace(anon(0, 4), anon(0, 4, RO))) == [(0, 2, "mapped")]


def test_guard_pages_belong_to_mprotect() -> None:
    """Ten stacks with a guard each: of 20 VMAs, 10 are mprotect's."""
    calls = [c for n in range(10) for c in (anon(n * 8, 4, 3), protect(n * 8, 1, NONE))]
    made = [born.call for _, born in blamed(trace(*calls))]
    assert len(made) == 20 and made.count("mprotect") == 10


def test_fork_hands_the_makers_down() -> None:
    """The child's VMAs have the makers of the parent's; what it splits later is its own."""
    made = trace(anon(0, 8), protect(2, 2, RO), ("fork", 0, 2))
    last = made.events[-1]._replace(seq=4, mm=2, call="mprotect", args=(BASE, PAGE, NONE), result=0)
    blame = Blame(made.world(preset("6.18")))
    blame.run([*made.events, last])
    child = blame.world.mms[2]
    assert [(blame.born(child, v).seq, blame.born(child, v).how) for v in child.vmas()] == [
        (1, "mapped"), (4, "split"), (2, "split"), (2, "split"),
    ]  # fmt: skip


def test_every_vma_of_a_recording_has_a_maker() -> None:
    """On a recording of random calls each VMA alive at each event is some earlier event's."""
    for reader in open_traces(DATA / "vmafuzz/all-6.1.jsonl.gz"):
        rules = resolve(reader.header.release or "", reader.header.version)
        blame = Blame(World(reader.header, lambda reader=reader: reader.files, rules))  # type: ignore[misc]
        seen = 0
        for event in reader.events():
            blame.apply(event)
            for mm in blame.world.mms.values():
                for vma in mm.vmas():
                    born = blame.born(mm, vma)
                    assert 1 <= born.seq <= event.seq and born.how in ("mapped", "split", "observed"), (event, born)
                    seen += 1
        assert seen


def test_call_sites() -> None:
    """The first frame outside the C library, without its address."""
    stack = "/usr/lib/libc.so.6(mmap64+0x23) [0x10f1e3]\n/opt/app(arena_decommit+0x10) [0x4010]"
    assert site_of(stack) == "/opt/app(arena_decommit+0x10)"
    assert site_of("/usr/lib/x86_64-linux-gnu/libc.so.6(mmap+0x23) [0x1]") == (
        "/usr/lib/x86_64-linux-gnu/libc.so.6(mmap+0x23)"
    )
    assert site_of(None) is None
