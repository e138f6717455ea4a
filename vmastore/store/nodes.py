"""Intervals as numbers that a plain index finds: which lifetimes hold a moment, an address, or overlap a range.

Every interval of integers belongs to one node of a binary tree over all integers: the lowest one
whose range holds it whole. A point lies in an interval only if the interval's node is one of the
point's ancestors, a few dozen; a range overlaps it only if that node is an ancestor of one of the
range's ends or lies between them. Nodes are numbered in order of their middles, so "between" is a
range of numbers. Time and addresses (in pages: all 52 bits of them) work alike, in any database.
"""

from __future__ import annotations

SEQ_LEVELS = 40
PAGE_LEVELS = 52
FOREVER = (1 << SEQ_LEVELS) - 1  # the last event of a lifetime that has not ended
_PAGES = (1 << PAGE_LEVELS) - 1  # the last page


def nodes_of(born: int, died: int | None, vm_start: int, vm_end: int) -> tuple[int, int]:
    """The node of when a VMA lived, and that of its pages: together and without calls, since each VMA has both.

    It lived from event `born` up to, but without, event `died` (None: not ended), at [vm_start, vm_end), unsigned
    bytes.
    """
    last = FOREVER if died is None else died - 1 if died > born else born
    level = (born ^ last).bit_length()
    lived = (2 * (born >> level) + 1) << level
    first, last = vm_start >> 12 & _PAGES, vm_end - 1 >> 12 & _PAGES
    level = (first ^ last).bit_length()
    return lived, (2 * (first >> level) + 1) << level


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
