"""The guard against regressions counts work and reads no clock; planted regressions go over its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import counted
from benchmarks.counted import PROBES, Count
from vmastore.events import Event
from vmastore.events.brief import Given
from vmastore.importers.strace.reader import StraceReader
from vmastore.replay.lifetimes import Lifetimes
from vmastore.replay.snapshots import Snapshots
from vmastore.replay.world import Outcome, World
from vmastore.store import Store


@pytest.mark.parametrize("probe", PROBES)
def test_no_job_takes_more_than_its_limit(probe: str, tmp_path: Path) -> None:
    """Every count is within its limit, and no limit is so wide that four times the work would pass."""
    found = PROBES[probe](tmp_path)
    assert found and all(count.within for count in found), [c for c in found if not c.within]
    assert all(count.value * 4 > count.most for count in found), [c for c in found if c.value * 4 <= c.most]


def test_the_same_is_counted_every_time(tmp_path: Path) -> None:
    """Instructions of two runs are equal to the last one: no noise can make the guard fail."""
    assert counted.instructions(lambda: sum(n for n in range(100))) == counted.instructions(
        lambda: sum(n for n in range(100))
    )
    once, _ = counted._folded(200, 300)
    again, _ = counted._folded(200, 300)
    assert once == again


def over(probe: Callable[[Path], list[Count]], folder: Path) -> set[str]:
    """The names of the counts that are over their limit."""
    return {count.name for count in probe(folder) if not count.within}


def test_a_walk_over_all_vmas_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that looks at every VMA for one event in fifty."""
    apply = World.apply

    def walking(self: World, event: Event) -> Outcome:
        if event.seq % 50 == 0:  # at each it would take minutes
            assert all(vma.vm_start < vma.vm_end for mm in self.mms.values() for vma in mm.vmas())
        return apply(self, event)

    monkeypatch.setattr(World, "apply", walking)
    assert "engine: times as many at 16 k live" in over(counted.engine, tmp_path)


def test_twice_the_work_an_event_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that decides everything three times over."""
    apply = World.apply

    def thrice(self: World, event: Event) -> Outcome:
        apply(self, event)
        apply(self, event)
        return apply(self, event)

    monkeypatch.setattr(World, "apply", thrice)
    assert "engine: instructions an event, 1 k live" in over(counted.engine, tmp_path)


def test_an_outcome_kept_for_ever_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay whose memory grows with its events."""
    apply, kept = World.apply, []

    def keeping(self: World, event: Event) -> Outcome:
        kept.append((apply(self, event), list(range(100))))
        return kept[-1][0]

    monkeypatch.setattr(World, "apply", keeping)
    assert "memory: bytes a VMA after 12,000 more events" in over(counted.memory, tmp_path)


def test_an_import_that_looks_back_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that looks through all earlier events at one event in ten."""
    batches = StraceReader.batches

    def looking(self: StraceReader) -> Iterable[Sequence[Given]]:
        seen: list[int] = []
        for batch in batches(self):
            for event in batch:
                assert event[0] % 10 or not any(seq == -1 for seq in seen)
                seen.append(event[0])
            yield batch

    monkeypatch.setattr(StraceReader, "batches", looking)
    assert "import, 1 threads: times as many in a log 3 times as long" in over(counted.imports, tmp_path)


def test_an_import_that_keeps_its_events_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader whose memory grows with the log."""
    batches = StraceReader.batches
    monkeypatch.setattr(StraceReader, "batches", lambda self: iter(list(batches(self))))
    assert over(counted.import_memory, tmp_path)


def test_a_statement_an_event_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that appends events one by one."""
    append = Store.append

    def single(self: Store, trace: int, events: Sequence[Event], **given: Any) -> int:
        del given["expected_version"]
        for event in events:
            last = append(self, trace, (event,), **given)
        return last

    monkeypatch.setattr(Store, "append", single)
    assert {"import: rows an event beside its own"} <= over(counted.batches, tmp_path)


def test_an_index_more_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that keeps more of an event than it did."""
    create = Store.create_trace

    def indexed(self: Store, *given: Any, **named: Any) -> Any:
        with self._write() as connection:
            connection.exec_driver_sql("CREATE INDEX IF NOT EXISTS more ON event_t (trace, args)")
        return create(self, *given, **named)

    monkeypatch.setattr(Store, "create_trace", indexed)
    assert "store: bytes an event" in over(counted.batches, tmp_path)


def test_derived_data_that_walks_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lifetimes found by comparing all VMAs after one event in twenty."""
    after = Lifetimes.after

    def walking(self: Lifetimes, seq: int, call: str, number: int) -> Any:
        if seq % 20 == 0:
            assert all(vma.vm_start < vma.vm_end for mm in self.world.mms.values() for vma in mm.vmas())
        return after(self, seq, call, number)

    monkeypatch.setattr(Lifetimes, "after", walking)
    assert "derived: times as many at 4 k live" in over(counted.deriving, tmp_path)


def test_a_replay_from_the_first_event_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points in time and bisection that find no snapshot."""
    monkeypatch.setattr(Snapshots, "load", lambda self, seq, world: 0)
    assert {"point in time: events replayed", "bisect: events replayed"} <= over(counted.points_in_time, tmp_path)
