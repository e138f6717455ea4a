"""A verification copies an address space only where an observation follows; a child inherits its parent's doubt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay import verify
from vmastore.replay.maps import observe
from vmastore.replay.verify import Verifier
from vmastore.replay.world import World

A, P = 0x7F0000000000, 4096


def world() -> World:
    """A world whose trace shows no faults."""
    return World(TraceHeader("t", "t", "strace"), [], preset("6.18"), faults="untouched")


def anonymous(count: int, number: int = 1) -> Iterator[Event]:
    """Mappings that may have been written or not, and a call on each that hangs on it."""
    for n in range(count):
        at = A + 8 * n * P
        yield Event(2 * n + 1, number, 1, 1, None, "mmap", (at, 4 * P, 3, 0x22, -1, 0), at, 0)
        yield Event(2 * n + 2, number, 1, 1, None, "mprotect", (at, P, 0), 0, 0)


def check(world: World, seq: int, number: int) -> Event:
    """An observation that agrees with the replay."""
    mm = world.mm(number)
    rows = [list(observe(mm, vma)) for vma in mm.vmas()]
    return Event(seq, number, 1, 1, None, "maps", ("check", len(rows), None, rows), None, 0)


def test_copies_follow_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 calls and one observation: one copy, however many VMAs are open; the last call's state can be settled."""
    copies: list[int] = []
    real = verify.clone_mm
    monkeypatch.setattr(verify, "clone_mm", lambda mm: copies.append(mm.map_count) or real(mm))
    twin = world()
    for event in anonymous(200):
        twin.apply(event)
    verifier = Verifier(world())
    verifier.run([*anonymous(200), check(twin, 401, 1)])
    assert len(copies) == 1 and verifier.report.compared == 1 and verifier.report.mismatches == 0


def test_all_events_are_stepped() -> None:
    """Looking ahead loses no event, at any length around the window."""
    for count in (0, 1, 127, 128, 129, 300):
        assert Verifier(world()).run(anonymous(count)).events == 2 * count


def test_a_child_inherits_the_doubt() -> None:
    """A difference in a child that its parent's open outcome explains is no certain one."""
    verifier = Verifier(world())
    for event in anonymous(1):
        verifier.step(event)
    assert verifier.report.assumed == 1  # whether VM_ACCOUNT goes hangs on a write
    verifier.step(Event(3, 1, 1, 1, None, "fork", (7, 7), 7, 0))
    seen = check(verifier.world, 4, 7)
    for row in seen.args[3]:
        if row[2].startswith("---"):
            row[7] = "mr mw me" if "ac" in row[7] else row[7] + " ac"
    verifier.step(seen)
    assert (verifier.report.mismatches, verifier.report.mismatches_assumed) == (0, 1)
