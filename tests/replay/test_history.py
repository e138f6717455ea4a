"""The history of an address holds every event that touched it and no other."""

from __future__ import annotations

from traces import BASE, PAGE, RO, anon, protect, trace, unmap, write

from vmastore.mm.rules import preset
from vmastore.replay.history import history, lineage
from vmastore.replay.memory import MemoryTrace


def told(made: MemoryTrace, page: int, spaces: list[int] | None = None) -> list[tuple[int, str]]:
    touches = history(made.world(preset("6.18")), made.events, BASE + page * PAGE, spaces or [1])
    return [(touch.event.seq, touch.what) for touch in touches]


CALLS = (
    anon(0, 8),  # 1
    write(1),  # 2
    anon(16, 4),  # 3: elsewhere
    protect(2, 2, RO),  # 4
    ("madvise", BASE, PAGE, 15),  # 5
    protect(2, 2, 3),  # 6
    unmap(0, 2),  # 7
)


def test_each_touch_in_words() -> None:
    """Mapped, written, split, changed, merged back, unmapped: one line each, and none for the rest."""
    assert told(trace(*CALLS), 1) == [
        (1, "mapped"),
        (2, "now written"),
        (4, "split at 0x100000002000 (8 → 2 pages)"),
        (5, "split at 0x100000001000 (2 → 1 pages)"),
        (6, "merged (case 6): 1 → 7 pages"),
        (7, "unmapped"),
    ]
    assert told(trace(*CALLS), 2)[2] == (4, "rw-p → r--p, split at 0x100000002000 and 0x100000004000 (8 → 2 pages)")
    assert told(trace(*CALLS), 40) == []


def test_flags_failures_and_no_effect() -> None:
    """VmFlags gained are named; a call that changed nothing here is told too, a failed one as failed."""
    made = trace(anon(0, 4), ("madvise", BASE, 4 * PAGE, 15), ("madvise", BASE, 4 * PAGE, 15), protect(0, 9, RO))
    assert [what for _, what in told(made, 0)] == [
        "mapped",
        "+nh",
        "asked about, nothing changed here",
        "rw-p → r--p, -ac",
    ]
    assert made.events[3].errno == 12
    assert told(trace(anon(0, 4, RO), protect(2, 9, RO)), 3)[1] == (2, "failed, nothing changed here")


def test_a_child_begins_with_its_parent() -> None:
    """The history of a forked address space goes on from the parent's at the fork."""
    made = trace(anon(0, 4), ("fork", 0, 2))
    child = made.events[-1]._replace(seq=3, mm=2, call="munmap", args=(BASE, PAGE), result=0)
    parent = child._replace(seq=4, mm=1)
    made.events += [child, parent]
    assert lineage([(1, None), (2, 1)], 2) == [1, 2]
    assert told(made, 0, [1, 2]) == [(1, "mapped"), (2, "copied by fork"), (3, "unmapped")]
    assert told(made, 0) == [(1, "mapped"), (4, "unmapped")]
