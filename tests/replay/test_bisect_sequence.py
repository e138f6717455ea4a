"""The alignment is a common subsequence in order, never shorter than it must be where that is decided exactly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmastore.replay.bisect import sequence
from vmastore.replay.bisect.sequence import Block, align

tokens = st.lists(st.integers(0, 3), max_size=14)


def longest(a: list[int], b: list[int]) -> int:
    """Length of a longest common subsequence, by the table."""
    row = [0] * (len(b) + 1)
    for x in a:
        above = row
        row = [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(row[j], above[j + 1]))
    return row[-1]


def valid(a: list[int], b: list[int], blocks: list[Block]) -> None:
    i = j = 0
    for block in blocks:
        assert block.size > 0 and block.a >= i and block.b >= j
        assert a[block.a : block.a + block.size] == b[block.b : block.b + block.size]
        i, j = block.a + block.size, block.b + block.size
    assert i <= len(a) and j <= len(b)


@settings(max_examples=400, deadline=None)
@given(tokens, tokens)
def test_common_subsequences(a: list[int], b: list[int]) -> None:
    """What is matched is equal and in order, equal beginnings and ends are matched."""
    blocks = align(a, b)
    valid(a, b, blocks)
    same = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    if same:
        assert blocks[0].a == blocks[0].b == 0 and blocks[0].size >= same


@settings(max_examples=300, deadline=None)
@given(tokens, tokens)
def test_longest_between_anchors(a: list[int], b: list[int]) -> None:
    """Where no token serves as an anchor, nothing longer can be matched."""
    blocks = list(sequence._myers(a, b, sequence._Box(0, len(a), 0, len(b))))
    valid(a, b, sorted(blocks))
    assert sum(block.size for block in blocks) == longest(a, b)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40), st.integers(1, 5))
def test_when_there_are_too_many_edits(a: list[int], b: list[int], most: int) -> None:
    """Given up early, the search goes on from where it got furthest: still a common subsequence."""
    before = sequence._MOST
    sequence._MOST = most
    try:
        valid(a, b, align(a, b))
    finally:
        sequence._MOST = before


@pytest.mark.parametrize("size", [0, 1, 5_000])
def test_insertions_and_deletions(size: int) -> None:
    """Single tokens more or less in a long run are found where they are."""
    a = [n % 7 for n in range(size)]
    b = [*a[: size // 2], 99, *a[size // 2 :]]
    assert sum(block.size for block in align(a, b)) == size
    assert sum(block.size for block in align(b, a)) == size
    assert [b[n] for n in range(len(b)) if not any(x.b <= n < x.b + x.size for x in align(a, b))] == [99]


def test_a_moved_stretch() -> None:
    """Unique tokens in another order: the longest ascending run of them is kept."""
    a = list(range(100))
    b = a[60:80] + a[:60] + a[80:]
    assert sum(block.size for block in align(a, b)) == 80
