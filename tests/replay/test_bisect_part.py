"""Two rule sets over one trace: the first difference, and each one from the same state."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.importers.base import TraceReader
from vmastore.importers.detect import open_traces
from vmastore.mm.mm import Mm
from vmastore.mm.rules import RuleSet, preset
from vmastore.replay.bisect import Difference, differ, differences
from vmastore.replay.bisect.part import take_over
from vmastore.replay.world import World

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def reader() -> TraceReader:
    return open_traces(DATA / "vmafuzz/all-6.1.jsonl.gz")[0]


def shown(mm: Mm) -> list[tuple[object, ...]]:
    """The VMAs as they are, not as a release prints them ([heap], ??)."""
    lines: list[tuple[object, ...]] = []
    for v in mm.vmas():
        file = v.attrs.vm_file
        named = None if file is None else (file.kind, file.path, file.inode)
        lines.append((v.vm_start, v.vm_end, v.vm_flags, v.attrs.delta, named, v.anon_name))
    return lines


def both(reader: TraceReader, a: RuleSet, b: RuleSet) -> tuple[list[Event], list[Difference]]:
    events = list(reader.events())
    worlds = [World(reader.header, lambda: reader.files, rules) for rules in (a, b)]
    return events, list(differences(worlds[0], worlds[1], events))


@pytest.mark.parametrize("against", ["6.7", "6.12", "6.18", "7.3"])
def test_each_difference_is_one_from_the_same_state(reader: TraceReader, against: str) -> None:
    """Exactly the events are listed that, applied to the first side's state, come out otherwise."""
    a, b = preset("6.1"), preset(against)
    events, found = both(reader, a, b)
    lead = World(reader.header, lambda: reader.files, a)
    expected = []
    for event in events:
        copy = World(reader.header, lambda: reader.files, b)
        copy.files, copy.images = lead.files, lead.images
        take_over(copy, lead)
        x, y = lead.apply(event), copy.apply(event)
        same = lead.mms.keys() == copy.mms.keys() and all(shown(lead.mms[n]) == shown(copy.mms[n]) for n in lead.mms)
        if differ(x, y) or not same:
            expected.append(event.seq)
    assert [d.event.seq for d in found] == expected and expected


def test_nothing_before_the_first_difference(reader: TraceReader) -> None:
    """Up to the first difference both sides show the same lines after every event."""
    events, found = both(reader, preset("6.1"), preset("6.18"))
    worlds = [World(reader.header, lambda: reader.files, preset(name)) for name in ("6.1", "6.18")]
    for event in events[: found[0].event.seq - 1]:
        one, two = (world.apply(event) for world in worlds)
        assert not differ(one, two)
        spaces = [worlds[n].mms.get(event.mm) for n in (0, 1)]
        if spaces[0] is not None and spaces[1] is not None:
            assert shown(spaces[0]) == shown(spaces[1])


def test_a_rule_set_agrees_with_itself(reader: TraceReader) -> None:
    """No difference against the same rules."""
    assert both(reader, preset("6.12"), preset("6.12"))[1] == []


def test_taking_over_copies_all_that_decides() -> None:
    """After a take-over the copy decides like the original, contexts and anon_vmas included."""
    header = TraceHeader("t", "t", "jsonl", "6.18.44", None, {}, "recorded")
    base = 0x7F0000000000

    def event(seq: int, call: str, *args: object, result: int = 0, file: int | None = None) -> Event:
        return Event(seq, 1, 1, 1, None, call, args, result, 0, file)

    before = [
        event(1, "mmap", base, 0x10000, 3, 0x32, -1, 0, result=base),
        event(2, "ioctl", 3, "UFFDIO_REGISTER", base, 0x4000, 1, None, file=1),
        event(3, "fault", base + 0x8000, 0x1000, "w", None, "user"),
        event(4, "mprotect", base + 0x8000, 0x1000, 1),
        event(5, "mbind", base + 0xC000, 0x1000, 2, 1, 64, 0),
    ]
    after = [
        event(6, "ioctl", 3, "UFFDIO_UNREGISTER", base, 0x4000, None, None, file=1),
        event(7, "mprotect", base + 0x8000, 0x1000, 3),
        event(8, "mbind", base + 0xC000, 0x1000, 0, None, 0, 0),
    ]
    one = World(header, {}, preset("6.18"))
    for e in before:
        one.apply(e)
    two = World(header, {}, preset("6.18"))
    two.files = one.files
    take_over(two, one)
    assert all(vma.attrs.table is two.env.table for vma in two.mms[1].vmas())
    for e in after:
        x, y = one.apply(e), two.apply(e)
        assert x.cases == y.cases and x.cases
        assert shown(one.mms[1]) == shown(two.mms[1])
    assert two.mms[1].map_count == 1
