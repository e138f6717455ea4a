"""`db check` finds what is not as it was stored, and names where it begins."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from behind import Behind, ask, behind
from conftest import POSTGRESQL
from postgres import copy_of

from vmastore.errors import StoreError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.store import Store, TraceInfo, open_store
from vmastore.store.check import check_store
from vmastore.store.schema import metadata

HEADER = TraceHeader("app", "app.log", "strace", "6.18.44", None, {}, "recorded")
LINES = [[4096 * n, 4096 * n + 4096, "rw-p", 0, "00:00", 0, "", "rd wr mr mw me ac", None] for n in range(1, 9)]


def sample(count: int = 60) -> list[Event]:
    """Events of every shape a row can have: names, sites, blobs apart, failures, two address spaces."""
    found = []
    for seq in range(1, count + 1):
        common: dict[str, Any] = {"ts_ns": 1_700_000_000_000_000_000 + seq * 1000, "source_line": seq}
        addr = 0x7F0000000000 + seq * 4096
        kind = seq % 6
        if kind == 0:
            event = Event(seq, 1, 7, 7, call="maps", args=("check", 8, None, LINES), result=None, errno=0, **common)
        elif kind == 1:
            event = Event(seq, 1, 7, 8, call="mmap", args=(0, 8192, 3, 34, -1, 0), result=addr, errno=0, **common)
        elif kind == 2:
            site = f"libc.so(mprotect+{seq % 3})\nmain(main+7)"
            event = Event(seq, 1, 7, 7, call="mprotect", args=(addr, 4096, 1), result=0, errno=0, site=site, **common)
        elif kind == 3:
            event = Event(seq, 2, 9, 9, call="munmap", args=(addr + 1, 4096), result=None, errno=22, **common)
        elif kind == 4:
            args = (-100, f"/usr/lib/ünï-{seq}.so", 0, None)
            event = Event(seq, 1, 7, 7, call="openat", args=args, result=3, errno=0, file=seq, **common)
        else:
            event = Event(
                seq, 2, 9, 9, call="brk", args=(0,), result=(1 << 64) - 4096, errno=0, injected=True, **common
            )
        found.append(event)
    return found


FILES = [FileInfo(n, f"/usr/lib/ünï-{n}.so", "regular", True, None, "fe:00", n, 8192) for n in range(5, 60, 6)]


@pytest.fixture(scope="module")
def original(new_place: Callable[[], str]) -> str:
    """A sound store of one trace, closed: a single file, where it is one."""
    place = new_place()
    with open_store(place) as store:
        trace = store.create_trace(HEADER).trace
        store.append(trace, sample(), files=FILES)
        assert check_store(store) == ([], 60)
    if "://" not in place:
        with closing(sqlite3.connect(place)) as raw:
            for verb in ("update", "delete"):
                raw.execute(f"DROP TRIGGER event_t_no_{verb}")
            raw.commit()
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return place


@pytest.fixture
def copied(original: str, tmp_path: Path) -> str:
    """A copy of it to be damaged."""
    return copy_of(original) if POSTGRESQL else str(shutil.copy(original, tmp_path / "s.db"))


def found_or_harmless(place: Path, before: list[Event]) -> str:
    """ "found" if opening or checking the store says so; "harmless" if every event is still what it was.

    Anything else fails the test: a changed event that nobody noticed.
    """
    try:
        with open_store(place) as store:
            problems, _ = check_store(store)
            if problems:
                return "found"
            assert list(store.events(1)) == before, "a changed event was not found"
            return "harmless"
    except StoreError:
        return "found"


def varint(page: bytes, at: int) -> tuple[int, int]:
    """(value, length) of SQLite's variable-length integer."""
    value = 0
    for n in range(9):
        byte = page[at + n]
        if n == 8:
            return (value << 8) | byte, 9
        value = (value << 7) | (byte & 127)
        if byte < 128:
            return value, n + 1
    raise AssertionError


def cells(content: bytes, root: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) in the file of every row of a b-tree of an index (a table WITHOUT ROWID is one)."""
    page = content[(root - 1) * size : root * size]
    kind, count = page[0], int.from_bytes(page[3:5], "big")
    head = {2: 12, 10: 8}[kind]
    for n in range(count):
        at = int.from_bytes(page[head + 2 * n : head + 2 * n + 2], "big")
        start = at
        if kind == 2:
            yield from cells(content, int.from_bytes(page[at : at + 4], "big"), size)
            at += 4
        payload, length = varint(page, at)
        assert payload < 1000, "no row of the sample needs an overflow page"
        yield (root - 1) * size + start, (root - 1) * size + at + length + payload
    if kind == 2:
        yield from cells(content, int.from_bytes(page[8:12], "big"), size)


@pytest.mark.sqlite("bytes of its file")
def test_a_thousand_flipped_bytes_of_event_rows_are_found(original: str, tmp_path: Path) -> None:
    """A random byte of a random event's row in the file itself, lengths and types included, changed at random."""
    with open_store(original) as store:
        before = list(store.events(1))
    with closing(sqlite3.connect(original)) as raw:
        root = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'event_t'").fetchone()[0]
        size = raw.execute("PRAGMA page_size").fetchone()[0]
    content = Path(original).read_bytes()
    rows = list(cells(content, root, size))
    assert len(rows) == 60
    rng = random.Random(20261124)
    place = tmp_path / "flipped.db"
    seen = {"found": 0, "harmless": 0}
    for _ in range(1000):
        start, end = rng.choice(rows)
        at = rng.randrange(start, end)
        changed = bytearray(content)
        changed[at] ^= rng.randrange(1, 256)
        place.write_bytes(changed)
        for leftover in tmp_path.glob("flipped.db-*"):
            leftover.unlink()
        seen[found_or_harmless(place, before)] += 1
    assert seen["found"] + seen["harmless"] == 1000
    assert seen["found"] >= 990, seen  # harmless: a byte that SQLite does not read


def everything(store: Store) -> tuple[list[Event], dict[int, FileInfo], TraceInfo]:
    """What a trace says."""
    return list(store.events(1)), store.files(1), store.trace(1)


def test_a_thousand_changed_columns_are_found(copied: str) -> None:
    """A bit of any column of an event, its observed maps, names and files or the header, changed through SQL."""
    rng = random.Random(7)
    harmless = 0
    with Behind(copied) as raw, open_store(copied) as store:
        before = everything(store)
        columns = [
            (table, column.name)
            for table in ("event_t", "observed_t", "call_t", "site_t", "task_t", "file_t", "trace_t")
            for column in metadata.tables[table].columns
            if column.name not in ("trace", "call", "site", "task") or table == "event_t"
        ]
        keys = {
            "event_t": "trace, seq",
            "observed_t": "trace, seq",
            "call_t": "call",
            "site_t": "site",
            "task_t": "task",
            "file_t": "trace, file",
            "trace_t": "trace",
        }
        for _ in range(100 if POSTGRESQL else 1000):
            table, column = rng.choice(columns)
            key = keys[table]
            chosen = rng.choice(raw.run(f"SELECT {key}, {column} FROM {table} ORDER BY {key}").fetchall())
            value = chosen[-1]
            where = " AND ".join(f"{name} IS ?" for name in key.split(", "))
            new = _flip(rng, value)
            try:
                raw.run(f"UPDATE {table} SET {column} = ? WHERE {where}", (new, *chosen[:-1]))
            except raw.refusals:
                continue
            problems, _ = check_store(store)
            if not problems:
                assert everything(store) == before, (table, column, value, new)
                harmless += 1
            again = dict(zip(key.split(", "), chosen[:-1], strict=True))
            if column in again:
                again[column] = new
            raw.run(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *again.values()))
        assert check_store(store) == ([], 60)
    assert harmless <= 10  # bytes of a packed list of maps that unpacking does not use


def _flip(rng: random.Random, value: Any) -> Any:
    """The value with one bit changed, or another one in place of NULL."""
    if value is None:
        return rng.randrange(1, 100)
    if isinstance(value, int):
        return value ^ (1 << rng.randrange(40))
    if isinstance(value, str):
        at = rng.randrange(len(value))
        return value[:at] + chr(ord(value[at]) ^ (1 << rng.randrange(5))) + value[at + 1 :]
    changed = bytearray(value)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE event_t SET mm = 2 WHERE seq = 31", "app: event 31: its hash does not follow from what is stored"),
        ("DELETE FROM event_t WHERE seq = 6", "app: event 6 is missing"),
        (
            "DELETE FROM event_t WHERE seq > 58",
            "app: event 59 and what follows is missing: it should end with event 60",
        ),
        ("DELETE FROM event_t", "app: event 1 and what follows is missing: it should end with event 60"),
        ("UPDATE trace_t SET head_hash = x'00'", "app: event 60: its hash is not the one that the trace ends with"),
        (
            "UPDATE trace_t SET head_seq = 59",
            "app: event 61 and what follows is missing: it should end with event 59",
        ),
        ("UPDATE event_t SET call = 99 WHERE seq = 8", "app: event 8: unknown call 99"),
        ("UPDATE event_t SET site = 99 WHERE seq = 8", "app: event 8: unknown call site 99"),
        ("UPDATE event_t SET task = 99 WHERE seq = 8", "app: event 8: unknown thread 99"),
        ("UPDATE task_t SET tid = 99 WHERE task = 1", "app: event 1: its hash does not follow"),
        ("UPDATE trace_t SET base_ns = base_ns + 1", "app: event 1: its hash does not follow"),
        ("UPDATE call_t SET name = 'mmap2' WHERE name = 'mmap'", "app: event 1: its hash does not follow"),
        ("UPDATE observed_t SET payload = x'78' WHERE seq = 12", "app: event 12: the observed maps are not what was"),
        ("DELETE FROM observed_t WHERE seq = 12", "app: event 12: the observed maps are not what was stored"),
        (
            "UPDATE trace_t SET release = '6.1'",
            "app: its header (name, source, kernel, configuration, …) is not what",
        ),
        (
            "UPDATE trace_t SET config = '{\"ksm\": true}'",
            "app: its header (name, source, kernel, configuration, …) is not what",
        ),
        (
            "UPDATE trace_t SET faults = 'none'",
            "app: its header (name, source, kernel, configuration, …) is not what",
        ),
        ("UPDATE file_t SET inode = 8 WHERE file = 5", "app: its files are not those that were stored"),
        ("UPDATE file_t SET path = path || 'x' WHERE file = 5", "app: its files are not those that were stored"),
        ("DELETE FROM file_t WHERE file = 11", "app: its files are not those that were stored"),
        ("INSERT INTO file_t (trace, file, kind, origin) VALUES (1, 1, 'regular', 'open')", "app: its files are not"),
        (
            """UPDATE call_t SET arg_names = '["length","addr"]' WHERE name = 'munmap'""",
            "call munmap: the names of its arguments are not what was stored",
        ),
        ("INSERT INTO observed_t VALUES (1, 1, x'00')", "app: 11 observed maps are stored, the events name 10"),
        ("UPDATE address_space_t SET born_seq = 2 WHERE mm = 1", "app: address space 1 is (1, 7, None, 'attach', 2"),
        ("DELETE FROM address_space_t WHERE mm = 2", "app: address space 2 is None, its events make it (2, 9"),
        ("UPDATE file_t SET trace = 9", "foreign key: file_t row"),
    ],
)
def test_the_first_bad_event_is_named(copied: str, statement: str, says: str) -> None:
    """What was changed behind the store's back is told in a line."""
    behind(copied, statement)
    with open_store(copied) as store:
        problems, _ = check_store(store)
    assert any(problem.startswith(says) for problem in problems), problems


def test_an_event_in_the_middle_cannot_be_rewritten_with_its_hash(copied: str) -> None:
    """Who changes an event and computes its hash anew is found at the next one."""
    from vmastore.events.codec import chain
    from vmastore.store.rows import PLAIN

    behind(copied, "UPDATE event_t SET result = 8 WHERE seq = 1")
    ((base,),) = ask(copied, "SELECT base_ns FROM trace_t")
    ((mm, task, *rest),) = ask(copied, f"SELECT {PLAIN.replace('?', str(base or 0))} FROM event_t WHERE seq = 1")
    (ids,) = ask(copied, f"SELECT pid, tid FROM task_t WHERE task = {task}")
    row = (mm, *ids, *rest)
    behind(copied, f"UPDATE event_t SET hash = x'{chain(bytes(16), 1, 'mmap', row, None).hex()}' WHERE seq = 1")
    with open_store(copied) as store:
        assert check_store(store)[0][0].startswith("app: event 2: its hash does not follow")


def test_address_spaces_do_not_depend_on_batches(new_place: Callable[[], str]) -> None:
    """A fork, an exec and an exit tell the same however the events are cut, the child's own event coming first."""
    events = [
        Event(1, 1, 10, 10, None, "brk", (0,), 4096, 0),
        Event(2, 2, 11, 11, None, "brk", (0,), 4096, 0),
        Event(3, 1, 10, 10, None, "clone", (17, 2), 11, 0),
        Event(4, 1, 10, 10, None, "vfork", (0, 1), 12, 0),
        Event(5, 1, 12, 12, None, "execve", ("/bin/a", None, 3), 0, 0),
        Event(6, 1, 10, 10, None, "execve", ("/bin/b", None, 4), 0, 0),
        Event(7, 2, 11, 11, None, "exit", (0, None, 1), None, 0),
        Event(8, 4, 10, 10, None, "brk", (0,), 4096, 0),
    ]
    for size in (1, 2, 3, 8):
        with open_store(new_place()) as store:
            trace = store.create_trace(HEADER).trace
            for start in range(0, 8, size):
                store.append(trace, events[start : start + size])
            assert store.address_spaces(trace) == [
                (1, 10, None, "attach", 1, 6, 5),
                (2, 11, 1, "fork", 3, 7, 2),
                (3, 12, 1, "exec", 5, None, 0),
                (4, 10, 1, "exec", 6, None, 1),
            ], size
            assert check_store(store) == ([], 8)
