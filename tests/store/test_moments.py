"""Time travel in SQL: tables that take arguments, --as-of, and errors in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from vmastore.errors import StoreError
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset, resolve
from vmastore.replay.derive import derive
from vmastore.replay.maps import observed
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store, open_store, query
from vmastore.store.moments import FUNCTIONS, AsOf, expand

SAMPLE = Path(__file__).parents[1] / "data" / "vmafuzz" / "all-6.1.jsonl.gz"


@pytest.fixture(scope="module")
def trace(new_place: Callable[[], str]) -> StoredTrace:
    """A recording of random calls, replayed."""
    store = open_store(new_place())
    reader = open_traces(SAMPLE)[0]
    info = store.import_events(store.create_trace(reader.header._replace(name="fuzz")), reader)
    found = StoredTrace(store, info)
    derive(found, resolve(found.header.release or "", found.header.version))
    return found


def rows(store: Store, sql: str, **params: object) -> list[tuple[object, ...]]:
    """The rows of a query."""
    return list(query(store, sql, params)[1])


def alive(trace: StoredTrace, seq: int) -> list[tuple[object, ...]]:
    """(mm, start, end, perms, name) of every VMA after an event, by the replay itself."""
    world, _ = trace.at(seq, resolve(trace.header.release or "", trace.header.version))
    return sorted((mm.number, v.start, v.end, v.perms, v.name) for mm in world.mms.values() for v in observed(mm))


_SHOWN = "mm, vm_start, vm_end, perms, name"
_LIFE = f"{_SHOWN}, born_seq, coalesce(died_seq, 1099511627776)"


def test_vmas_at_is_the_replay_at_that_moment(trace: StoredTrace) -> None:
    """For moments all over the trace, in all three ways of asking."""
    last = trace.info.events
    for seq in (0, 1, last // 3, last // 2, last - 1, last):
        want = alive(trace, seq)
        assert sorted(rows(trace.store, f"SELECT {_SHOWN} FROM vmas_at('fuzz', :n)", n=seq)) == want
        found = query(trace.store, f"SELECT {_SHOWN} FROM vmas", as_of=AsOf("fuzz", seq))[1]
        assert sorted(found) == want
    assert sorted(rows(trace.store, f"SELECT {_SHOWN} FROM vmas_at('fuzz', -1)")) == alive(trace, last)


def test_vma_diff_is_the_difference_of_two_moments(trace: StoredTrace) -> None:
    """What is gone and what is new; nothing between a moment and itself."""
    a, b = trace.info.events // 4, trace.info.events // 2
    one, two = set(alive(trace, a)), set(alive(trace, b))
    found = rows(trace.store, f"SELECT change, {_SHOWN} FROM vma_diff('fuzz', :a, :b)", a=a, b=b)
    assert {row[1:] for row in found if row[0] == "-"} >= one - two
    assert {row[1:] for row in found if row[0] == "+"} >= two - one
    assert found and rows(trace.store, "SELECT * FROM vma_diff('fuzz', :a, :a)", a=a) == []


def test_history_and_between_find_what_a_look_at_every_row_finds(trace: StoredTrace) -> None:
    """Random addresses and ranges, narrow and wide, of addresses and of time."""
    random = Random(5)
    every = rows(trace.store, f"SELECT {_LIFE} FROM vmas")
    last = trace.info.events
    for _ in range(30):
        _, start, end, *_ = random.choice(every)
        assert isinstance(start, int) and isinstance(end, int)
        addr = random.randrange(start, end)
        got = rows(
            trace.store,
            f"SELECT {_LIFE} FROM vma_history('fuzz', :a)",
            a=addr,
        )
        assert sorted(got) == sorted(r for r in every if r[1] <= addr < r[2])  # type: ignore[operator]
        low, high = start - random.choice((0, 4096)), end + random.choice((0, 1 << 40))
        m, n = sorted((random.randrange(last), random.choice((random.randrange(last), last))))
        got = rows(
            trace.store,
            f"SELECT {_LIFE} FROM vmas_between('fuzz', :l, :h, :m, :n)",
            l=low, h=high, m=m, n=n,
        )  # fmt: skip
        assert sorted(got) == sorted(
            r
            for r in every
            if r[1] < high and r[2] > low and r[5] <= n and r[6] > m  # type: ignore[operator]
        )


def test_addresses_may_be_written_as_text(trace: StoredTrace) -> None:
    """'0x7f…' is an address as good as its number."""
    start = rows(trace.store, "SELECT vm_start FROM vmas LIMIT 1")[0][0]
    assert rows(trace.store, "SELECT * FROM vma_history('fuzz', :a)", a=hex(start)) == rows(  # type: ignore[arg-type]
        trace.store, "SELECT * FROM vma_history('fuzz', :a)", a=start
    )


@pytest.mark.sqlite("its query plans (test_pg_moments.py has PostgreSQL's)")
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_no_function_looks_at_every_lifetime(trace: StoredTrace, name: str) -> None:
    """Lifetimes are found through an index by moment or by address, whatever is asked."""
    arguments = {"vmas_at": "5", "vma_diff": "5, 9", "vma_history": "4096", "vmas_between": "0, 1 << 40, 1, 9"}[name]
    with sqlite3.connect(trace.store.place) as raw:
        for function, count in (("replay_of", 2), ("seq_of", 2), ("addr", 1)):
            raw.create_function(function, count, lambda *_: 1, deterministic=True)
        sql = expand(f"SELECT * FROM {name}('fuzz', {arguments})")
        plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {sql}")]
    looks = [line for line in plan if line.split()[1:2] == ["v"]]
    assert looks and all("_node" in line and line.startswith("SEARCH") for line in looks), plan


@pytest.mark.parametrize(
    ("text", "unchanged"),
    [
        ("SELECT 'vmas_at(1, 2)'", True),
        ('SELECT "vmas_at(" FROM t', True),
        ("SELECT 1 -- vmas_at(1, 2)", True),
        ("SELECT /* vmas_at(1 */ 1", True),
        ("SELECT vmas_at FROM t", True),
        ("SELECT * FROM vmas_at ( 'a,)(', (1, 2) ) v", False),
        ("select * from VMAS_AT('x', (SELECT max(seq) FROM events))", False),
    ],
)
def test_only_calls_are_replaced(text: str, unchanged: bool) -> None:
    """Strings, names and comments stay as they are; nested parentheses and commas in strings are no separators."""
    assert (expand(text) == text) == unchanged


_SQLITE = (
    ("SELECT addr('0xzz')", "user-defined function"),
    ("ATTACH '/tmp/x.db' AS x", "refused"),
    ("SELECT load_extension('x')", "refused"),
    ("PRAGMA journal_mode=DELETE", "refused"),
    ("VACUUM INTO '/tmp/x.db'", "refused"),
)


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT * FROM vmas_at('fuzz')", "vmas_at takes (trace, seq, [kernel])"),
        ("SELECT * FROM vmas_at('fuzz', 1", "vmas_at( is not closed"),
        ("SELECT * FROM vmas_at('gone', 1)", "no trace 'gone'"),
        ("SELECT * FROM vmas_at('fuzz', 100000000)", "no event 100000000"),
        ("SELECT * FROM vmas_at('fuzz', 1, '7.3')", "no replay of 'fuzz' under 7.3 is stored"),
        ("SELECT replay_of('gone')", "no trace 'gone'"),
        ("SELECT replay_of(NULL)", "no trace "),
        ("WITH x AS (SELECT 1) DELETE FROM vma_t", "refused"),
        ("CREATE TEMP TABLE x (a int)", "refused"),
        *(pytest.param(*case, marks=pytest.mark.sqlite("the authorizer")) for case in _SQLITE),
    ],
)
def test_what_is_wrong_is_said(trace: StoredTrace, sql: str, told: str) -> None:
    """Wrong arguments, unknown names, writes: one sentence, before any row."""
    with pytest.raises(StoreError) as caught:
        query(trace.store, sql)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [("engine = '0.0.9'", r"stale: vmastore 0\.0\.9 made it"), ("events = 7", r"stale: it covers 7 of \d+ events")],
)
def test_a_stale_replay_is_refused(new_place: Callable[[], str], change: str, told: str) -> None:
    """Derived data of another engine, or of fewer events than there are, is named as such."""
    with open_store(new_place()) as store:
        reader = open_traces(SAMPLE)[0]
        info = store.import_events(store.create_trace(reader.header._replace(name="fuzz")), reader)
        derive(StoredTrace(store, info), preset("6.1"))
        query(store, "SELECT * FROM vmas_at('fuzz', 1)")[1].close()  # type: ignore[attr-defined]
        with store.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE replay_t SET {change}")
        with pytest.raises(StoreError, match=told):
            query(store, "SELECT * FROM vmas_at('fuzz', 1)")


def test_numbers_of_two_to_the_63_and_more_are_exact(store: Store) -> None:
    """`args` shows them unsigned, as integers; `start` and `length` as signed 64 bits."""
    from vmastore.events import Event, TraceHeader

    trace = store.create_trace(TraceHeader("big", "x", "jsonl")).trace
    big = [1 << 63, (1 << 64) - 4096, (1 << 64) - 1, (1 << 63) - 1, 18446744073709551615 - 10**9, 7]
    store.append(trace, [Event(n, 1, 1, 1, None, "munmap", (v, v), None, 22) for n, v in enumerate(big, 1)])
    found = rows(store, "SELECT start, length, args FROM events ORDER BY seq")
    for value, (start, length, args) in zip(big, found, strict=True):
        signed = value - (1 << 64) if value >> 63 else value
        assert (start, length) == (signed, signed)
        assert args == f'{{"addr":{value},"length":{value}}}'
