"""Aligning two sequences of calls: equal ends, unique tokens as anchors (patience), Myers between them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_MOST = 4_000  # edits that are looked for exactly in one stretch; beyond, the furthest way so far is taken


class Block(NamedTuple):
    """`size` equal tokens: from `a` in the one sequence, from `b` in the other."""

    a: int
    b: int
    size: int


class _Box(NamedTuple):
    alo: int
    ahi: int
    blo: int
    bhi: int


def align(a: Sequence[int], b: Sequence[int]) -> list[Block]:
    """The common subsequence as blocks in order, neighbours joined; equal beginnings are always matched.

    Between anchors it is a longest one as long as the two differ in at most a few thousand tokens.
    """
    joined: list[Block] = []
    for block in sorted(_blocks(a, b)):
        last = joined[-1] if joined else None
        if last is not None and last.a + last.size == block.a and last.b + last.size == block.b:
            joined[-1] = Block(last.a, last.b, last.size + block.size)
        else:
            joined.append(block)
    return joined


def _blocks(a: Sequence[int], b: Sequence[int]) -> Iterator[Block]:
    boxes = [_Box(0, len(a), 0, len(b))]
    while boxes:
        box = boxes.pop()
        head, box, tail = _trim(a, b, box)
        if head.size:
            yield head
        if tail.size:
            yield tail
        if box.alo == box.ahi or box.blo == box.bhi:
            continue
        anchors = _anchors(a, b, box)
        if not anchors:
            yield from _myers(a, b, box)
            continue
        alo, blo = box.alo, box.blo
        for x, y in anchors:
            yield Block(x, y, 1)
            boxes.append(_Box(alo, x, blo, y))
            alo, blo = x + 1, y + 1
        boxes.append(_Box(alo, box.ahi, blo, box.bhi))


def _trim(a: Sequence[int], b: Sequence[int], box: _Box) -> tuple[Block, _Box, Block]:
    """What is equal at the beginning, what is left, what is equal at the end."""
    alo, ahi, blo, bhi = box
    while alo < ahi and blo < bhi and a[alo] == b[blo]:
        alo, blo = alo + 1, blo + 1
    while alo < ahi and blo < bhi and a[ahi - 1] == b[bhi - 1]:
        ahi, bhi = ahi - 1, bhi - 1
    return Block(box.alo, box.blo, alo - box.alo), _Box(alo, ahi, blo, bhi), Block(ahi, bhi, box.ahi - ahi)


def _anchors(a: Sequence[int], b: Sequence[int], box: _Box) -> list[tuple[int, int]]:
    """Tokens that are there once on each side, the most of them that are in one order (patience)."""
    in_a = Counter(a[box.alo : box.ahi])
    in_b = Counter(b[box.blo : box.bhi])
    once = {token for token, count in in_a.items() if count == 1 and in_b.get(token) == 1}
    if not once:
        return []
    where = {b[y]: y for y in range(box.blo, box.bhi) if b[y] in once}
    pairs = [(x, where[a[x]]) for x in range(box.alo, box.ahi) if a[x] in once]
    tops: list[int] = []  # lowest end of an ascending run of each length
    ends: list[int] = []  # the pair that has it
    before: list[int] = []
    for n, (_, y) in enumerate(pairs):
        pile = bisect_left(tops, y)
        before.append(ends[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(y)
            ends.append(n)
        else:
            tops[pile], ends[pile] = y, n
    chosen, n = [], ends[-1]
    while n >= 0:
        chosen.append(pairs[n])
        n = before[n]
    return chosen[::-1]


def _myers(a: Sequence[int], b: Sequence[int], box: _Box) -> Iterator[Block]:
    """The greedy algorithm of Myers (An O(ND) Difference Algorithm, 1986), one stretch after another."""
    alo, blo = box.alo, box.blo
    while alo < box.ahi and blo < box.bhi:
        rounds, diagonal = _reach(a, b, _Box(alo, box.ahi, blo, box.bhi))
        blocks, (x, y) = _walk_back(rounds, diagonal)
        yield from (Block(alo + p, blo + q, size) for p, q, size in blocks)
        alo, blo = alo + x, blo + y


def _reach(a: Sequence[int], b: Sequence[int], box: _Box) -> tuple[list[array[int]], int]:
    """How far each number of edits gets on each diagonal, and the diagonal of the end.

    Round d holds, for diagonals -d to d, the furthest x. When the edits are too many, the diagonal
    that got furthest stands for the end.
    """
    n, m = box.ahi - box.alo, box.bhi - box.blo
    rounds: list[array[int]] = []
    last = array("q", [0])
    for d in range(n + m + 1):
        now = array("q", bytes(8 * (2 * d + 1)))
        for k in range(-d, d + 1, 2):
            if d == 0:
                x = 0
            elif k == -d or (k != d and last[k + d - 2] < last[k + d]):
                x = last[k + d]  # down: a token of b alone
            else:
                x = last[k + d - 2] + 1  # right: a token of a alone
            y = x - k
            while x < n and y < m and a[box.alo + x] == b[box.blo + y]:
                x, y = x + 1, y + 1
            now[k + d] = x
            if x >= n and y >= m:
                rounds.append(now)
                return rounds, k
        rounds.append(now)
        last = now
        if d >= _MOST:
            inside = [k for k in range(-d, d + 1, 2) if now[k + d] <= n and now[k + d] - k <= m]
            return rounds, max(inside, key=lambda k: 2 * now[k + d] - k)
    raise AssertionError("n + m edits always suffice")


def _walk_back(rounds: list[array[int]], k: int) -> tuple[list[Block], tuple[int, int]]:
    """The equal runs on the way to the end of the last round on diagonal k, and that end."""
    blocks = []
    d = len(rounds) - 1
    x = rounds[d][k + d]
    end = (x, x - k)
    while d > 0:
        last = rounds[d - 1]
        if k == -d or (k != d and last[k + d - 2] < last[k + d]):
            start, kept = last[k + d], k + 1
        else:
            start, kept = last[k + d - 2] + 1, k - 1
        if x > start:
            blocks.append(Block(start, start - k, x - start))
        d, k = d - 1, kept
        x = rounds[d][k + d]
    if x > 0:
        blocks.append(Block(0, 0, x))
    return blocks[::-1], end
