"""An isolated trace does what its address space did: every operation has the same outcome."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from traces import BASE, PAGE, RO, anon, protect, trace, write

from vmastore.events import Event
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset, resolve
from vmastore.replay.isolate import Isolated, isolate
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.relocate import Regions, relocated, used_ranges

DATA = Path(__file__).parent.parent / "data"
PYTHON = Path(__file__).parents[2] / "docs" / "data" / "python-imports.vmatrace.jsonl.gz"


def read(path: Path) -> list[MemoryTrace]:
    found = []
    for reader in open_traces(path):
        events = list(reader.events())
        found.append(MemoryTrace(reader.header, {i.file: i for i in reader.files}, events))
    return found


def outcomes(made: MemoryTrace, kernel: str) -> list[tuple[str, int]]:
    world = made.world(preset(kernel))
    return [(o.cases, o.errno) for o in map(world.apply, made.events)]


def same(original: MemoryTrace, alone: Isolated, kernel: str) -> int:
    """How many operations were compared."""
    before, after = outcomes(original, kernel), outcomes(alone.trace, kernel)
    compared = 0
    for n, seq in enumerate(alone.origin):
        if seq:
            assert before[seq - 1] == after[n], (original.events[seq - 1], alone.trace.events[n])
            compared += 1
    return compared


def test_a_recorded_program() -> None:
    """The VMAs that its operations come near are made again, and each operation merges and splits as it did."""
    (original,) = read(PYTHON)
    alone = isolate(original, original.events, preset("6.18"), [1])
    assert same(original, alone, "6.18") > 100
    assert all(event.result is None for event in alone.trace.events)
    assert any("of the kernel or a driver" in text for text in alone.notes)


def test_random_calls_of_a_real_kernel() -> None:
    """So do thousands of random calls, in their own place and in an arena."""
    for original in read(DATA / "vmafuzz/all-6.1.jsonl.gz"):
        rules = resolve(original.header.release or "", original.header.version)
        alone = isolate(original, original.events, rules, [1])
        assert same(original, alone, rules.name) > 20
        near = relocated(alone.trace, Regions(used_ranges(alone.trace.events)))
        assert [c for c, _ in outcomes(near, rules.name)] == [c for c, _ in outcomes(alone.trace, rules.name)]


def test_what_must_have_existed_is_made() -> None:
    """A call that succeeded on what no event mapped: the isolated trace maps it first."""
    made = trace(protect(2, 2, RO))
    made.events = [made.events[0]._replace(result=0, errno=0)]
    alone = isolate(made, made.events, preset("6.18"), [1])
    assert [event.call for event in alone.trace.events] == ["mmap", "mprotect"] and alone.origin == [0, 1]
    assert outcomes(alone.trace, "6.18")[1][1] == 0


def test_an_answer_that_replay_cannot_know_stays() -> None:
    """EPERM of a noexec file system stays; ENOMEM of a hole is predicted and goes."""
    made = trace(anon(0, 1), protect(0, 4, RO), anon(8, 1))
    refused = made.events[2]._replace(result=None, errno=11)
    made.events[2] = refused._replace(args=(*refused.args[:3], 0x2032, *refused.args[4:]))
    alone = isolate(made, made.events, preset("6.18"), [1])
    assert made.events[1].errno == 12
    assert [event.errno for event in alone.trace.events] == [0, 0, 11]


def test_forks_are_followed() -> None:
    """The parent's operations, the fork, the child's; not what the parent did afterwards."""
    made = trace(anon(0, 4), write(0), ("fork", 0, 7))
    child = Event(4, 7, 1, 1, None, "mprotect", (BASE, PAGE, RO), 0, 0)
    parent = Event(5, 1, 1, 1, None, "munmap", (BASE, PAGE), 0, 0)
    alone = isolate(made, [*made.events, child, parent], preset("6.18"), [1, 7])
    assert [(event.call, event.mm) for event in alone.trace.events] == [
        ("mmap", 1), ("fault", 1), ("fork", 1), ("mprotect", 2),
    ]  # fmt: skip


@pytest.mark.skipif(sys.maxsize < 1 << 32, reason="addresses need 64 bits")
def test_an_arena_is_compact() -> None:
    """Regions far apart come near, distances within one stay."""
    far = trace(anon(0, 2), anon(1 << 30, 2), protect((1 << 30) + 1, 1, RO))
    near = relocated(far, Regions(used_ranges(far.events)))
    starts = [event.args[0] for event in near.events]
    assert starts[1] - starts[0] < 64 * PAGE and starts[2] - starts[1] == PAGE
