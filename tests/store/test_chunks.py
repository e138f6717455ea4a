"""Replays read packed chunks of events where they are sound, and rows everywhere else."""

from __future__ import annotations

import logging

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.mm.rules import preset
from vmastore.replay.check import check_replays
from vmastore.replay.derive import derive
from vmastore.replay.rebuild import rebuild
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store
from vmastore.store.chunks import SIZE, Chunk, chunks

BASE, PAGE = 0x100000000000, 4096
COUNT = 2 * SIZE + 700


def calls(first: int, count: int) -> list[Event]:
    """Mappings and changes of them, with an observed maps line among them."""
    found = []
    for n in range(first, first + count):
        where = BASE + n % 50 * 8 * PAGE
        if n == 3:
            line = [where, where + PAGE, "rw-p", 0, "00:00", 0, ""]
            found.append(Event(n, 1, 7, 7, n, "maps", ("check", 1, None, [line]), None, 0))
        elif n % 3:
            found.append(Event(n, 1, 7, 7, n, "mmap", (where, 4 * PAGE, 3, 0x32, -1, 0), where, 0, site=f"f{n % 5}"))
        else:
            found.append(Event(n, 1, 7, 7, n, "mprotect", (where + PAGE, PAGE, n % 2), 0, 0))
    return found


@pytest.fixture
def replayed(store: Store) -> StoredTrace:
    """A trace of two chunks and a piece, after its first replay."""
    info = store.create_trace(TraceHeader("t", "test", "jsonl", config={}, faults="recorded"))
    store.append(info.trace, calls(1, COUNT))
    trace = StoredTrace(store, store.trace("t"))
    derive(trace, preset("6.18"))
    return trace


def known(trace: StoredTrace) -> list[Chunk]:
    with trace.store._read() as connection:
        return chunks(connection, trace.info.trace)


def change(trace: StoredTrace, statement: str) -> None:
    with trace.store._write() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE event_t DISABLE TRIGGER USER")
        else:
            for verb in ("update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS event_t_no_{verb}")
        assert connection.exec_driver_sql(statement).rowcount > 0


def from_rows(trace: StoredTrace, start: int = 1, stop: int | None = None) -> list[Event]:
    return [e for piece in trace.store.event_chunks(trace.info.trace, start, stop, rows=True) for e in piece]


def test_the_first_replay_packs_the_events(replayed: StoredTrace) -> None:
    """All of them, once; reading gives the same events as the rows, whole or in part."""
    assert [(c.first, c.last, c.sound) for c in known(replayed)] == [
        (1, SIZE, True),
        (SIZE + 1, 2 * SIZE, True),
        (2 * SIZE + 1, COUNT, True),
    ]
    for start, stop in ((1, None), (5, 5), (SIZE - 1, SIZE + 2), (100, 2 * SIZE + 3), (SIZE + 300, COUNT), (9, 400)):
        assert list(replayed.events(start, stop)) == from_rows(replayed, start, stop)
    assert from_rows(replayed) == calls(1, COUNT)


def test_replays_read_the_chunks(replayed: StoredTrace) -> None:
    """Events whose rows were changed behind the chain's back are still those that were packed."""
    change(replayed, f"UPDATE event_t SET mm = 9 WHERE seq <= {SIZE}")
    assert {event.mm for event in replayed.events()} == {1}
    assert {event.mm for event in from_rows(replayed, 1, SIZE)} == {9}
    problems = check_replays(replayed.store).problems
    assert f"t: events 1 to {SIZE}: their packed chunk is not what their rows say" in problems


def test_events_appended_later_are_packed_by_the_next_replay(replayed: StoredTrace) -> None:
    """Until then their rows are read; the short chunk at the end is made anew, full ones stay."""
    store = replayed.store
    store.append(replayed.info.trace, calls(COUNT + 1, SIZE))
    later = StoredTrace(store, store.trace("t"))
    assert list(later.events()) == calls(1, COUNT + SIZE)
    derive(later, preset("6.1"))
    assert [(c.first, c.last) for c in known(later)] == [
        (1, SIZE),
        (SIZE + 1, 2 * SIZE),
        (2 * SIZE + 1, 3 * SIZE),
        (3 * SIZE + 1, COUNT + SIZE),
    ]
    assert list(later.events()) == calls(1, COUNT + SIZE)
    assert check_replays(store).problems == []


@pytest.mark.parametrize(
    ("statement", "warned"),
    [
        ("UPDATE chunk_t SET payload = digest WHERE first_seq = 1", True),
        ("UPDATE chunk_t SET digest = hash WHERE first_seq = 1", True),
        ("UPDATE chunk_t SET hash = digest WHERE first_seq = 1", False),
        ("UPDATE chunk_t SET form = '0' WHERE first_seq = 1", False),
        ("UPDATE chunk_t SET last_seq = last_seq - 1 WHERE first_seq = 1", False),
        (f"DELETE FROM chunk_t WHERE first_seq = {SIZE + 1}", False),
    ],
    ids=["payload", "digest", "hash", "form", "shorter", "missing"],
)
def test_a_chunk_that_does_not_fit_is_not_read(
    replayed: StoredTrace, statement: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The rows are read in its place, damage is said, and the next replay packs them again."""
    change(replayed, statement)
    with caplog.at_level(logging.WARNING, "vmastore"):
        assert list(replayed.events()) == calls(1, COUNT)
    assert bool(caplog.records) == warned
    rebuild(replayed.store)
    assert len(known(replayed)) == 3 and all(chunk.sound for chunk in known(replayed))
    assert check_replays(replayed.store) == ([], 1, [])


def test_a_missing_row_is_not_hidden_by_its_chunk(replayed: StoredTrace) -> None:
    """A chunk with more events than there are rows is not read."""
    change(replayed, "DELETE FROM event_t WHERE seq = 77")
    assert [chunk.sound for chunk in known(replayed)] == [False, True, True]
    assert 77 not in {event.seq for event in replayed.events()}


def test_damage_and_age_are_told_apart(replayed: StoredTrace) -> None:
    """`db check`: a chunk of other bytes is a problem, one of another form is stale."""
    change(replayed, "UPDATE chunk_t SET payload = digest WHERE first_seq = 1")
    assert check_replays(replayed.store).problems == [
        f"t: events 1 to {SIZE}: their packed chunk is not what their rows say"
    ]
    change(replayed, "UPDATE chunk_t SET form = '0'")
    checked = check_replays(replayed.store)
    assert (checked.problems, checked.stale) == ([], ["t: packed events of another form"])


def test_a_check_packs_nothing(replayed: StoredTrace) -> None:
    """It compares; what is missing stays so."""
    change(replayed, "DELETE FROM chunk_t")
    assert check_replays(replayed.store).problems == []
    assert known(replayed) == []
