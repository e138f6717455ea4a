"""Two runs: under other addresses they are alike, and what one does otherwise is named."""

from __future__ import annotations

import random
from typing import Any

import pytest
from planting import Memory, Op, program, run

from vmastore.events import Event, FileInfo
from vmastore.mm.rules import preset
from vmastore.replay.bisect import Run, compare
from vmastore.replay.bisect.places import Places, Region
from vmastore.replay.bisect.tokens import Normaliser

RULES = preset("6.18")


def side(events: list[Event], name: str = "a", files: dict[int, FileInfo] | None = None) -> Run:
    memory = Memory(name, [e._replace(seq=n) for n, e in enumerate(events, 1)])
    memory.files = files or {}
    return Run(memory, 1, RULES, len(events))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ops() -> list[Op]:
    return program(random.Random(5), 700)


def test_other_addresses_are_no_difference(ops: list[Op]) -> None:
    """Each area of the two runs lies elsewhere, by an offset of its own."""
    one, two = run(ops, 1, RULES), run(ops, 2, RULES)
    shifts = {b.args[0] - a.args[0] for a, b in zip(one, two, strict=True) if a.args[0]}
    assert len(shifts) > 2 and 0 not in shifts
    found = compare(side(one), side(two))
    assert found.partings == [] and found.matched == len(ops)


def test_insertions_and_deletions(ops: list[Op]) -> None:
    """Calls that are in one run only are listed, and the rest is still held together."""
    extra = Op("mmap", 10_000, 0, 7, 1, 0x22, 2)
    plain = ("mprotect", "madvise", "fault", "munlock")
    cut = next(n for n in range(200, 400) if all(op.name in plain for op in ops[n : n + 3]))
    one = run([*ops[:cut], *ops[cut + 3 :]], 1, RULES)
    two = run([*ops[:500], extra, *ops[500:]], 2, RULES)
    found = compare(side(one), side(two))
    calls = [p for p in found.partings if p.kind == "calls"]
    assert [(p.a, p.b) for p in calls] == [((), (cut + 1, cut + 2, cut + 3)), ((), (501,))]
    assert (found.only_a, found.only_b, found.matched, found.before) == (0, 4, len(ops) - 3, cut)
    assert found.first() == calls[0]


def event(call: str, *args: Any, result: int | None = 0, errno: int = 0, file: int | None = None) -> Event:
    return Event(0, 1, 1, 1, None, call, args, None if errno else result, errno, file)


def arena(base: int) -> list[Event]:
    """Two mappings that touch, and one apart."""
    return [
        event("mmap", 0, 0x8000, 3, 0x22, -1, 0, result=base),
        event("mmap", 0, 0x8000, 3, 0x22, -1, 0, result=base - 0x8000),
        event("mmap", 0, 0x8000, 3, 0x22, -1, 0, result=base - 0x100000),
    ]


A, B = 0x7F0000000000, 0x7E1200345000


def test_another_mapping() -> None:
    """The same call at the same offset of another mapping is a difference of its own kind."""
    one = [*arena(A), event("mprotect", A, 0x1000, 1)]
    two = [*arena(B), event("mprotect", B - 0x100000, 0x1000, 1)]
    first = compare(side(one), side(two)).first()
    assert first is not None and (first.kind, first.a, first.b) == ("mapping", (4,), (4,))


def test_another_answer() -> None:
    """errno differs."""
    one = [*arena(A), event("mprotect", A, 0x1000, 1)]
    two = [*arena(B), event("mprotect", B, 0x1000, 1, errno=12)]
    first = compare(side(one), side(two)).first()
    assert first is not None and (first.kind, first.a) == ("answer", (4,)) and "ENOMEM" in first.detail


def test_another_outcome() -> None:
    """The same calls with the same answers, but one run's mappings do not touch: the merge is missing."""
    two = arena(B)
    two[1] = event("mmap", 0, 0x8000, 3, 0x22, -1, 0, result=B - 0x40000)
    found = compare(side(arena(A)), side(two))
    first = found.first()
    assert first is not None and (first.kind, first.a, first.b) == ("outcome", (2,), (2,))
    assert found.before == 1 and found.first("calls") is None


def test_files_are_told_by_path() -> None:
    """Descriptor and file numbers do not matter, paths do."""
    files = [
        {1: FileInfo(1, "/lib/a.so", "regular"), 2: FileInfo(2, "/lib/b.so", "regular")},
        {1: FileInfo(1, "/lib/b.so", "regular"), 2: FileInfo(2, "/lib/a.so", "regular")},
    ]

    def mapping(base: int, fd: int, file: int) -> list[Event]:
        return [event("mmap", 0, 0x8000, 1, 2, fd, 0, result=base, file=file)]

    assert compare(side(mapping(A, 3, 1), "a", files[0]), side(mapping(B, 4, 2), "b", files[1])).partings == []
    other = compare(side(mapping(A, 3, 1), "a", files[0]), side(mapping(B, 3, 1), "b", files[1]))
    assert [p.kind for p in other.partings] == ["calls"]


def test_the_heap_is_told_from_its_beginning() -> None:
    """brk is compared by how far it is from where the heap began."""

    def heap(base: int, more: int) -> list[Event]:
        return [event("brk", 0, result=base), event("brk", base + more, result=base + more)]

    assert compare(side(heap(0x5500000, 0x21000)), side(heap(0x6612000, 0x21000))).partings == []
    assert compare(side(heap(0x5500000, 0x21000)), side(heap(0x6612000, 0x22000))).first("calls")


@pytest.mark.parametrize("call", ["mmap", "mremap", "brk", "ioctl", "process_madvise", "prctl", "shmat", "madvise"])
def test_arguments_that_a_log_does_not_show(call: str) -> None:
    """What the log cut off is no reason to fail: such calls are compared by name."""
    for args in ((), (None,), (None,) * 6, ("x", 1), (1 << 64, -5, 3, 4, 5, 6)):
        normaliser = Normaliser(lambda _: None)
        cut = event(call, *args, result=4096, file=1)
        assert normaliser.token(cut).key == normaliser.token(cut).key
        normaliser.learn(cut)
        normaliser.answer(cut)


def test_regions_lie_over_each_other() -> None:
    """What was placed last counts; what it covered in part is still there beside it."""
    places = Places()
    big, small = Region("big", 0x1000), Region("small", 0x3000)
    places.lay(0x1000, 0x9000, big)
    places.lay(0x3000, 0x5000, small)
    assert [places.region(a) for a in (0x1000, 0x2FFF, 0x3000, 0x4FFF, 0x5000, 0x8FFF)] == [
        big,
        big,
        small,
        small,
        big,
        big,
    ]
    assert places.region(0x9000) is None and places.region(0xFFF) is None
    places.lay(0x0, 0x10000, small)
    assert places.region(0x1000) is small and len(places._spans) == 1
