"""Nodes find every interval that holds a point or overlaps a range, and a plain index is enough for it."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmastore.store.nodes import FOREVER, PAGE_LEVELS, SEQ_LEVELS, holding, keep, overlapping

spans = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted)


def node(first: int, last: int) -> int:
    """The middle of the smallest range of the tree that holds both, found by going up from the leaves."""
    level = 0
    while first >> level != last >> level:
        level += 1
    return (2 * (first >> level) + 1) << level


def table(intervals: list[list[int]]) -> sqlite3.Connection:
    """A table of intervals with their nodes, indexed."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE t (a, b, n)")
    db.execute("CREATE INDEX i ON t (n)")
    db.executemany("INSERT INTO t VALUES (?,?,?)", [(a, b, node(a, b)) for a, b in intervals])
    return db


@settings(max_examples=80, deadline=None, derandomize=True)
@given(intervals=st.lists(spans, max_size=40), span=spans)
def test_no_interval_is_missed(intervals: list[list[int]], span: list[int]) -> None:
    """With the exact condition behind it, the search by node gives what a look at every interval gives."""
    db = table(intervals)
    low, high = span
    rows = db.execute(
        f"SELECT a, b FROM t WHERE {holding('n', str(low), 8)} AND a <= {low} AND b >= {low}"
    ).fetchall()
    assert sorted(map(list, rows)) == sorted([a, b] for a, b in intervals if a <= low <= b)
    exact = f"a <= {high} AND b >= {low}"
    ways = overlapping("n", str(low), str(high), 8)
    found = [row for way in ways for row in db.execute(f"SELECT a, b FROM t WHERE {way} AND {exact}")]
    assert sorted(map(list, found)) == sorted([a, b] for a, b in intervals if a <= high and b >= low)


def test_nodes_use_the_index() -> None:
    """No condition makes SQLite look at every row."""
    db = table([[1, 2]])
    conditions = [holding("n", "5", SEQ_LEVELS), *overlapping("n", "5", "9", PAGE_LEVELS)]
    for condition in conditions:
        plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN SELECT * FROM t WHERE {condition}"))
        assert "USING INDEX i" in plan and "SCAN t" not in plan, plan


@pytest.mark.parametrize(
    ("born", "died", "last"),
    [(3, 4, 3), (3, 3, 3), (3, 900, 899), (3, None, FOREVER)],
)
@pytest.mark.parametrize(
    ("start", "end", "pages"),
    [
        (0x1000, 0x3000, (1, 2)),
        (0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, (0xFFFFFFFFFF600, 0xFFFFFFFFFF600)),
    ],
)
def test_lifetimes_and_pages(
    born: int, died: int | None, last: int, start: int, end: int, pages: tuple[int, int]
) -> None:
    """Half-open ranges; one that has not ended lasts for ever; the highest pages fit 64 signed bits."""
    vmas: list[int | None] = []
    found: list[int] = []
    keep(vmas, found, 5, 1, start, end, 7, 8, born, died)
    assert vmas == [node(born, last), 5, 1, start, end, 7, 8, born, died]
    assert found == [node(*pages), node(born, last), 5]
    assert max(found) < 1 << 63
