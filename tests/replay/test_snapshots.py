"""Points in time from snapshots: the same as from the first event, at the cost of a few, and never from a bad one."""

from __future__ import annotations

import gc
import logging
import sqlite3
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from behind import Behind, behind
from trace_walk import FILES, Walk, header

from vmastore.events import Event
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import RuleSet, preset
from vmastore.mm.vma import Vma
from vmastore.replay.bisect.part import differences
from vmastore.replay.derive import derive
from vmastore.replay.maps import observed
from vmastore.replay.rolling import Rolling
from vmastore.replay.snapshots import LEAST, Spacing
from vmastore.replay.state import encode
from vmastore.replay.trace import StoredTrace
from vmastore.replay.world import World
from vmastore.store import Store, open_store, query
from vmastore.store.derived import first_difference
from vmastore.store.runs import packed
from vmastore.store.snapshots import find_replay, places

RULES = preset("6.12")
EVERY = 25
COUNT = 400
DATA = Path(__file__).parents[1] / "data"


def walked(store: Store, seed: int = 3, count: int = COUNT) -> StoredTrace:
    """A stored random trace."""
    info = store.create_trace(header())
    store.append(info.trace, Walk(seed).events(count), files=list(FILES.values()))
    return StoredTrace(store, store.trace(info.trace))


def linear(trace: StoredTrace, seq: int, rules: RuleSet = RULES) -> World:
    """The world after event `seq`, from the first event on."""
    world = trace.world(rules)
    for event in trace.events(1, seq) if seq else ():
        world.apply(event)
    return world


@pytest.fixture
def trace(store: Store) -> StoredTrace:
    """A random trace, replayed with a snapshot every so many events."""
    found = walked(store)
    derive(found, RULES, spacing=Spacing(EVERY, 1 << 30))
    return found


class Applied:
    """Counts the events that are folded in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        plain = World.apply

        def counting(world: World, event: Event) -> object:
            self.count += 1
            return plain(world, event)

        monkeypatch.setattr(World, "apply", counting)


def test_every_point_in_time_is_the_same(trace: StoredTrace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any event, its outcome too; and it costs one snapshot and at most the spacing."""
    worlds = {n: encode(linear(trace, n)) for n in range(0, COUNT + 1, 7)}
    applied = Applied(monkeypatch)
    for seq, state in worlds.items():
        applied.count = 0
        world, outcome = trace.at(seq, RULES)
        assert encode(world) == state
        assert (outcome is None) == (seq == 0) and (outcome is None or outcome.seq == seq)
        assert applied.count <= EVERY


def test_the_view_of_lifetimes_shows_the_same(trace: StoredTrace) -> None:
    """`vmas` with born_seq and died_seq around a moment is the address space at that moment."""
    for seq in range(1, COUNT + 1, 13):
        world, _ = trace.at(seq, RULES)
        shown = sorted(
            (mm.number, v.start, v.end, v.perms, v.name) for mm in world.mms.values() for v in observed(mm)
        )
        sql = (
            "SELECT mm, vm_start, vm_end, perms, name FROM vmas WHERE born_seq <= :n"
            " AND (died_seq IS NULL OR died_seq > :n)"
        )
        assert sorted(query(trace.store, sql, {"n": seq})[1]) == shown, seq


def test_a_closed_world_leaves_the_cycle_collector_nothing(trace: StoredTrace) -> None:
    """Its VMAs, linked to one another, are let go at once; the collector is on again after a look at a moment."""
    gc.collect()
    before = sum(isinstance(thing, Vma) for thing in gc.get_objects())
    gc.disable()
    try:
        world, _ = trace.at(COUNT, RULES)
        held = sum(isinstance(thing, Vma) for thing in gc.get_objects()) - before
        count, spaces = sum(mm.map_count for mm in world.mms.values()), len(world.mms)
        assert held >= count > 0
        world.close()
        assert not world.mms
        del world
        left = sum(isinstance(thing, Vma) for thing in gc.get_objects()) - before
        assert left <= held - count + 2 * spaces  # the two ends of each list
        assert not gc.isenabled()  # as it was
    finally:
        gc.enable()
    trace.at(1, RULES)
    assert gc.isenabled()


def test_other_rules_have_no_use_for_them(trace: StoredTrace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots belong to one rule set and to one set of options."""
    applied = Applied(monkeypatch)
    trace.at(COUNT, preset("6.1"))
    assert applied.count == COUNT
    trace.at(COUNT, RULES, faults="written")
    assert applied.count == 2 * COUNT


def replay_number(trace: StoredTrace) -> int:
    """The number of the one stored replay."""
    found = find_replay(trace.store, trace.info.trace, RULES.name, '{"faults": "recorded", "max_map_count": null}')
    assert found is not None
    return found.replay


@pytest.mark.parametrize("column", ["payload", "digest"])
def test_a_damaged_snapshot_is_dropped_and_made_again(
    trace: StoredTrace, column: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flipped byte is noticed, said, and mended by the next use."""
    place = places(trace.store, replay_number(trace))[3][0]
    with Behind(trace.store.place) as raw:
        value = bytearray(raw.run(f"SELECT {column} FROM snapshot_t WHERE seq=?", (place,)).fetchone()[0])
        value[len(value) // 2] ^= 1
        raw.run(f"UPDATE snapshot_t SET {column}=? WHERE seq=?", (bytes(value), place))
    with caplog.at_level(logging.WARNING, "vmastore"):
        world, _ = trace.at(place + 2, RULES)
    assert encode(world) == encode(linear(trace, place + 2))
    assert f"after event {place} " in caplog.text and "made again" in caplog.text
    caplog.clear()
    applied = Applied(monkeypatch)
    trace.at(place + 2, RULES)
    assert (applied.count, caplog.text) == (2, "")


def test_a_snapshot_of_another_moment_is_not_taken(trace: StoredTrace, caplog: pytest.LogCaptureFixture) -> None:
    """A sound payload under the wrong event's number does not pass."""
    first, second = (seq for seq, _ in places(trace.store, replay_number(trace))[:2])
    with Behind(trace.store.place) as raw:
        raw.run("DELETE FROM snapshot_t WHERE seq=?", (second,))
        raw.run("UPDATE snapshot_t SET seq=? WHERE seq=?", (second, first))
    world, _ = trace.at(second + 1, RULES)
    assert encode(world) == encode(linear(trace, second + 1))
    assert "made again" in caplog.text


@pytest.mark.parametrize("column", ["engine", "basis"])
def test_stale_ones_are_not_used(trace: StoredTrace, column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another engine made, or from another header, is left alone."""
    behind(trace.store.place, f"UPDATE replay_t SET {column}='other'")
    applied = Applied(monkeypatch)
    trace.at(COUNT, RULES)
    assert applied.count == COUNT


def test_spacing_follows_the_size_of_the_state() -> None:
    """Few VMAs: every LEAST events; many: as many events as cost what loading them costs."""
    world = World(header(), FILES, RULES)
    mm = world.mm(1)
    spacing = Spacing()
    assert [n for n in range(1, 3 * LEAST + 1) if n >= spacing.look_at and spacing.due(n, world)] == [
        LEAST, 2 * LEAST, 3 * LEAST,
    ]  # fmt: skip
    mm.map_count = 65_000
    due = [n for n in range(3 * LEAST + 1, 20_000) if n >= spacing.look_at and spacing.due(n, world)]
    assert [b - a for a, b in pairwise(due)] == [65_000 // 16] * (len(due) - 1) and len(due) > 2
    mm.map_count = 0


def test_the_first_difference_of_two_replays_is_found_by_bisection(store: Store) -> None:
    """The rolling hash parts where the outcomes part, for every pair of kernels, in few look-ups."""
    kernels = [preset(k) for k in ("6.1", "6.7", "6.12", "6.18", "7.3")]
    for seed in (1, 5):
        trace = walked(store, seed, 250)
        replays = [derive(trace, rules)[1].replay for rules in kernels]
        found = set()
        for i, one in enumerate(kernels):
            assert first_difference(store, replays[i], replays[i]) is None
            for j in range(i):
                worlds = (trace.world(one), trace.world(kernels[j]))
                parted = next(differences(*worlds, trace.events()), None)
                seq = first_difference(store, replays[i], replays[j])
                assert seq == (None if parted is None else parted.event.seq)
                found.add(seq)
        assert len(found) > 1


def test_the_rolling_hash_stays_apart() -> None:
    """Once different, always different; a mark tells of its event alone; both hang on what the VMAs became."""
    reader = open_traces(DATA / "vmafuzz/all-6.1.jsonl.gz")[0]
    world = World(reader.header, lambda: reader.files, preset("6.1"))
    rows: tuple[list[Any], list[Any]] = ([], [])
    one, two = Rolling(rows[0]), Rolling(rows[1])
    for event in reader.events():
        outcome = world.apply(event)
        changes = [] if event.seq != 40 else [1, 4096, 0, b""]
        facts = (outcome.seq, outcome.mm, outcome.cases, outcome.errno, outcome.result, outcome.map_count)
        if event.seq != 42:  # that one has nothing to tell
            one.facts.append((*facts, []))
            two.facts.append((*facts, changes))
        if not event.seq % 8:
            one.end_run(event.seq)
            two.end_run(event.seq)
    first = rows[0][0::2]
    assert first == rows[1][0::2] == list(range(1, 8 * len(first), 8))
    same = [a[:8] == b[:8] for a, b in zip(rows[0][1::2], rows[1][1::2], strict=True)]
    assert same == [seq + 7 < 40 for seq in first] and not all(same)
    marks = [b"".join(payload[8:] for payload in values[1::2]) for values in rows]
    one_by_one = [[joined[at : at + 4] for at in range(0, len(joined), 4)] for joined in marks]
    unlike = [seq for seq, (a, b) in enumerate(zip(*one_by_one, strict=True), 1) if a != b]
    assert unlike == [40] and one_by_one[0].index(bytes(4)) == 41


def test_the_end_of_a_run_is_told_once() -> None:
    """The last run of a replay may end where one has ended: no row of none."""
    rows: list[Any] = []
    rolling = Rolling(rows)
    rolling.end_run(1)
    rolling.end_run(1)
    assert rows == [1, packed(blake2b(digest_size=8).digest(), [0])] and len(rows[1]) == 12


@pytest.mark.sqlite("a file that cannot be written (test_pg_errors.py has PostgreSQL's accounts)")
def test_a_store_that_cannot_be_written_serves_all_the_same(trace: StoredTrace, tmp_path: Path) -> None:
    """A damaged snapshot in a store without space or right to write: said, and the answer is still right."""
    with sqlite3.connect(trace.store.place) as raw:
        raw.execute("UPDATE snapshot_t SET digest=x'00'")
        raw.execute(
            "CREATE TRIGGER no_snapshots BEFORE DELETE ON snapshot_t BEGIN SELECT RAISE(ABORT, 'readonly'); END"
        )
    with open_store(trace.store.place) as again:
        other = StoredTrace(again, again.trace(trace.info.trace))
        world, _ = other.at(COUNT, RULES)
        assert encode(world) == encode(linear(other, COUNT))
