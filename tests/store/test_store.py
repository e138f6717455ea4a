"""The event store keeps what it is given, in order, once, and lets nobody change it."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from behind import ask, behind
from conftest import POSTGRESQL
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DatabaseError

from vmastore.errors import ConcurrencyError, StoreError, UnknownTraceError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.store import Store, open_store, query
from vmastore.store.check import check_store

HEADER = TraceHeader("app", "app.log", "strace", "6.18.44", None, {"max_map_count": 65530}, "recorded")


def mmap(seq: int, addr: int = 0x7F0000000000) -> Event:
    """An mmap event."""
    args = (0, 4096, 3, 0x22, -1, 0)
    return Event(seq, 1, 10, 10, 1000 + seq, "mmap", args, addr + seq * 4096, 0, None, False, None, seq, seq * 80)


def filled(store: Store, count: int = 5) -> int:
    """A trace of `count` events."""
    info = store.create_trace(HEADER)
    store.append(info.trace, [mmap(n) for n in range(1, count + 1)], expected_version=0)
    return info.trace


@pytest.fixture(scope="module")
def shared(new_place: Callable[[], str]) -> Iterator[Store]:
    """A store for many examples, a trace each."""
    with open_store(new_place()) as store:
        yield store


ints = st.integers(-(1 << 63), (1 << 64) - 1)
texts = st.text(max_size=20)
sites = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
sites = sites if POSTGRESQL else texts  # PostgreSQL has no NUL in text
values = st.one_of(st.none(), ints, texts, st.lists(ints, max_size=3))
events = st.builds(
    Event,
    st.just(1),
    st.integers(0, 9),
    st.integers(0, 1 << 22),
    st.integers(0, 1 << 22),
    st.one_of(st.none(), st.integers(0, 1 << 62)),
    st.sampled_from(["mmap", "munmap", "openat", "prctl", "frobnicate"]),
    st.lists(values, max_size=6).map(tuple),
    st.one_of(st.none(), st.integers(0, (1 << 63) - 1)),
    st.integers(0, 133),
    st.one_of(st.none(), st.integers(1, 99)),
    st.booleans(),
    st.one_of(st.none(), sites),
    st.one_of(st.none(), st.integers(1, 1 << 40)),
    st.one_of(st.none(), st.integers(0, 1 << 50)),
)


@settings(max_examples=20 if POSTGRESQL else 60, deadline=None, derandomize=True)
@given(event=events)
def test_any_event_comes_back_as_it_went_in(event: Event, shared: Store) -> None:
    """What is appended is what is read, whatever its arguments."""
    trace = shared.create_trace(HEADER).trace
    shared.append(trace, [event])
    assert shared.event(trace, 1) == event
    assert check_store(shared) == ([], len(shared.traces()))


def test_addresses_above_two_to_the_63_stay_unsigned(store: Store) -> None:
    """A result with the top bit set is stored signed and read unsigned."""
    trace = store.create_trace(HEADER).trace
    event = mmap(1)._replace(result=0xFFFFFFFFFFFFF000)
    store.append(trace, [event])
    assert store.event(trace, 1) == event


def test_events_are_append_only(store: Store) -> None:
    """The database itself refuses UPDATE and DELETE of events."""
    filled(store)
    for statement in ("UPDATE event_t SET mm = 2", "DELETE FROM event_t"):
        with pytest.raises(DatabaseError, match="append-only"), store.engine.begin() as connection:
            connection.exec_driver_sql(statement)


def test_an_append_at_another_version_is_a_conflict(store: Store) -> None:
    """The error names both versions, and nothing is stored."""
    trace = filled(store)
    with pytest.raises(ConcurrencyError, match="at event 5, not at 3"):
        store.append(trace, [mmap(6)], expected_version=3)
    with pytest.raises(ConcurrencyError, match="event 8 does not follow on 5"):
        store.append(trace, [mmap(8)])
    assert store.trace(trace).events == 5


def test_a_failing_batch_leaves_nothing_behind(store: Store) -> None:
    """One transaction a batch: a gap in its middle undoes its beginning."""
    trace = filled(store)
    with pytest.raises(ConcurrencyError):
        store.append(trace, [mmap(6), mmap(7), mmap(9)])
    assert store.trace(trace).events == 5


def test_files_and_names(store: Store) -> None:
    """Descriptions come back by number; a taken name gets a number; an unknown one is an error with a hint."""
    trace = filled(store)
    info = FileInfo(1, "/lib/x.so", "regular", True, False, "fe:00", 7, 4096)
    store.append(trace, [mmap(6)], files=[info])
    assert store.files(trace) == {1: info}
    assert store.create_trace(HEADER).header.name == "app-2"
    with pytest.raises(UnknownTraceError, match="no trace 'nope'") as error:
        store.trace("nope")
    assert error.value.hint == "known: app-2, app"


@pytest.mark.parametrize("column", ["mm", "args", "result", "errno", "ts", "line", "hash"])
def test_a_changed_event_is_found(store: Store, column: str) -> None:
    """The chain names the first event that is not what was appended."""
    filled(store, 9)
    value = {"args": "'[]'", "hash": "x'00'"}.get(column, "77")
    assert behind(store.place, f"UPDATE event_t SET {column} = {value} WHERE seq = 4") == 1
    problems, _ = check_store(store)
    assert len(problems) == 1 and "event 4" in problems[0]


def test_a_missing_event_is_found(store: Store) -> None:
    """A gap is named by its first number."""
    filled(store, 9)
    behind(store.place, "DELETE FROM event_t WHERE seq = 6")
    assert check_store(store)[0] == ["app: event 6 is missing"]


def test_a_cut_tail_is_found(store: Store) -> None:
    """The trace knows how far it goes."""
    filled(store, 9)
    behind(store.place, "DELETE FROM event_t WHERE seq > 7")
    assert "should end with event 9" in check_store(store)[0][0]


def test_readers_do_not_wait_for_a_writer(store: Store) -> None:
    """While another connection holds the write lock, traces and events can be read: one that waited would fail."""
    trace = filled(store)
    with store._write(), open_store(store.place) as other:
        assert other.trace(trace).events == 5
        assert len(list(other.events(trace))) == 5


def test_odd_bytes_and_big_numbers(store: Store) -> None:
    """Bytes that are no UTF-8 are kept or written out; a number beyond 64 bits is one clear error."""
    trace = store.create_trace(HEADER).trace
    odd = mmap(1)._replace(call="openat", args=(-100, "/tmp/\udcff", 0, None), site="f\udcff")
    store.append(trace, [odd], files=[FileInfo(1, "/tmp/\udcff", "regular")])
    assert store.event(trace, 1).args == odd.args
    assert store.files(trace)[1].path == "/tmp/\\xff"
    with pytest.raises(StoreError, match="64 bits"):
        store.append(trace, [mmap(2)._replace(ts_ns=1 << 70)])
    assert check_store(store) == ([], 1)


def test_vfork_and_exec_leave_the_parent_alive(store: Store) -> None:
    """An exec ends the address space of its own process only."""
    trace = store.create_trace(HEADER).trace
    vfork = Event(2, 1, 10, 10, None, "vfork", (0, 1), 11, 0)
    execve = Event(3, 1, 11, 11, None, "execve", ("/bin/ls", None, 2), 0, 0)
    store.append(trace, [mmap(1), vfork, execve, mmap(4)])
    assert [(s[0], s[3], s[5]) for s in store.address_spaces(trace)] == [(1, "attach", None), (2, "exec", None)]


def test_every_flipped_byte_of_a_row_is_found(store: Store) -> None:
    """Flipping any byte of the stored arguments of an event breaks its hash."""
    filled(store, 3)
    ((args,),) = ask(store.place, "SELECT args FROM event_t WHERE seq=2")
    for n in range(len(args)):
        flipped = args[:n] + chr(ord(args[n]) ^ 1) + args[n + 1 :]
        behind(store.place, f"UPDATE event_t SET args='{flipped}' WHERE seq=2")
        assert "event 2" in check_store(store)[0][0]
    behind(store.place, f"UPDATE event_t SET args='{args}' WHERE seq=2")
    assert check_store(store)[0] == []


def test_sql_reads_and_nothing_else(store: Store) -> None:
    """Views can be queried; a write, ATTACH, PRAGMA and a function that loads code are refused."""
    filled(store)
    columns, rows = query(store, "SELECT seq, call, length, errno, args FROM events WHERE seq = :n", {"n": 2})
    assert columns == ["seq", "call", "length", "errno", "args"]
    expected = '{"addr":0,"length":4096,"prot":3,"flags":34,"fd":-1,"offset":0}'
    assert list(rows) == [(2, "mmap", 4096, None, expected)]
    for statement in (
        "DELETE FROM event_t",
        "DROP VIEW events",
        "CREATE TABLE x (y)",
        "ATTACH '/tmp/x.db' AS x",
        "PRAGMA journal_mode=DELETE",
        "SELECT load_extension('x')",
    ):
        with pytest.raises(StoreError):
            list(query(store, statement)[1])


def test_a_query_stops_at_its_time_limit(store: Store) -> None:
    """A runaway query is an error that names the limit."""
    filled(store)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(StoreError, match=r"longer than 0\.2 s"):
        list(query(store, endless, timeout=0.2)[1])


def test_sql_functions(store: Store) -> None:
    """hex_addr, addr, perms and flag_names are registered."""
    filled(store)
    row = list(query(store, "SELECT hex_addr(-4096), addr('0x1000'), perms(3), flag_names(19)")[1])
    assert row == [("0xfffffffffffff000", 4096, "rw-p", "rd wr mr")]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"hello world" * 20, "no SQLite file"), (b"", "empty database"), (b"\x00" * 200, "no SQLite file")],
)
def test_what_is_no_store_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """A foreign file is named and left as it is."""
    place = tmp_path / "x.db"
    place.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        open_store(place, create=False)
    assert place.read_bytes() == content


@pytest.mark.sqlite("files")
def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """A SQLite file with other tables is not touched."""
    place = tmp_path / "x.db"
    with sqlite3.connect(place) as raw:
        raw.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreError, match="another program"):
        open_store(place)
    with pytest.raises(StoreError, match="no such store"):
        open_store(tmp_path / "missing.db", create=False)
    with pytest.raises(StoreError, match="is a directory"):
        open_store(tmp_path)


def test_a_newer_schema_is_refused(store: Store) -> None:
    """The error names both revisions."""
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="schema 9999, newer than this vmastore's"):
        open_store(store.engine.url.render_as_string())


@pytest.mark.sqlite("its file")
def test_an_event_takes_at_most_95_bytes(tmp_path: Path) -> None:
    """With its hash, its thread, its time, its line and its offset, as an import of a log gives them."""
    place, empty = tmp_path / "s.db", tmp_path / "empty.db"
    with open_store(empty) as store:
        store.create_trace(HEADER)
    count, rng = 20_000, random.Random(5)
    with open_store(place) as store:
        trace = store.create_trace(HEADER).trace
        for start in range(1, count, 5000):
            store.append(trace, [_logged(seq, rng) for seq in range(start, start + 5000)])
    sizes = []
    for file in (place, empty):
        with closing(sqlite3.connect(file)) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes.append(file.stat().st_size)
    assert (sizes[0] - sizes[1]) / count <= 95


def _logged(seq: int, rng: random.Random) -> Event:
    """A call as a log of an allocator has it."""
    addr, length = 0x7F0000000000 + (rng.randrange(1 << 20) << 12), rng.randrange(1, 64) << 12
    tid = 70_000 + seq % 4
    when, offset = 1_795_523_443_000_000_000 + seq * 13_577, seq * 97
    if rng.random() < 0.4:
        args, result = (0, length, 3, 34, -1, 0), addr
        return Event(seq, 1, 70_000, tid, when, "mmap", args, result, 0, None, False, None, seq + 9, offset)
    call, rest = rng.choice((("munmap", ()), ("mprotect", (1,)), ("madvise", (4,))))
    return Event(seq, 1, 70_000, tid, when, call, (addr, length, *rest), 0, 0, None, False, None, seq + 9, offset)
