"""Intervals as numbers that a plain index finds: which lifetimes hold a moment, an address, or overlap a range.

Every interval of integers belongs to one node of a binary tree over all integers: the lowest one
whose range holds it whole. A point lies in an interval only if the interval's node is one of the
point's ancestors, a few dozen; a range overlaps it only if that node is an ancestor of one of the
range's ends or lies between them. Nodes are numbered in order of their middles, so "between" is a
range of numbers. Time and addresses (in pages: all 52 bits of them) work alike, in any database.
"""

from __future__ import annotations

from typing import Any, Final

SEQ_LEVELS: Final = 40
PAGE_LEVELS: Final = 52
FOREVER: Final = (1 << SEQ_LEVELS) - 1  # the last event of a lifetime that has not ended


def keep(
    vmas: list[Any],
    pages: list[Any],
    n: Any,
    mm: Any,
    vm_start: Any,
    vm_end: Any,
    pgoff: Any,
    kind: Any,
    born: Any,
    died: Any,
) -> None:
    """Put a lifetime into both trees: its rows (as `ReplayWriter` wants them) behind those in `vmas` and `pages`.

    It is the replay's n-th. It lived from event `born` up to, but without, event `died` (None: not ended), at
    [vm_start, vm_end), unsigned bytes of 64 bits. All in one call, since it runs once a lifetime.
    """
    first: int = born
    last: int = FOREVER if died is None else died - 1 if died > born else born
    level = (first ^ last).bit_length()
    lived: Any = (2 * (first >> level) + 1) << level
    vmas += (lived, n, mm, vm_start, vm_end, pgoff, kind, born, died)
    first = vm_start
    last = vm_end
    first >>= 12
    level = (first ^ (last - 1 >> 12)).bit_length()
    pages += ((2 * (first >> level) + 1) << level, lived, n)


def holding(column: str, point: str, levels: int) -> str:
    """SQL: the condition that the interval of node `column` may hold `point` (an SQL expression)."""
    return f"{column} IN ({_ancestors(point, levels)})"


def overlapping(column: str, first: str, last: str, levels: int) -> tuple[str, str]:
    """SQL: two conditions, exclusive, for nodes of intervals that may overlap [first, last] (SQL expressions)."""
    between = f"{column} BETWEEN 2 * ({first}) AND 2 * ({last}) + 1"
    ends = f"{column} IN ({_ancestors(first, levels)} UNION {_ancestors(last, levels)}) AND NOT ({between})"
    return between, ends


def _ancestors(point: str, levels: int) -> str:
    # the type said: PostgreSQL would take a small number for one of 32 bits, and shift it out
    rows = ", ".join(f"({level})" for level in range(levels + 1))
    return (
        f"SELECT (2 * (p >> column1) + 1) << column1 FROM (SELECT CAST({point} AS BIGINT) AS p) AS point"
        f" CROSS JOIN (VALUES {rows}) AS levels"
    )
