"""Which address space of one run is which of another: by where it comes from, not by its number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Path = tuple[tuple[str, int], ...]  # from the first ancestor on: (origin, the how-manieth of that origin)


class Paired(NamedTuple):
    """pairs: (address space of a, of b) in the order of a; only_a, only_b: those that the other has not."""

    pairs: list[tuple[int, int]]
    only_a: list[int]
    only_b: list[int]


def paths(rows: Iterable[Sequence[Any]]) -> dict[int, Path]:
    """Where each address space comes from. rows: Store.address_spaces, by mm; 0, an unknown one, is left out."""
    counts: dict[tuple[Path, str], int] = {}
    found: dict[int, Path] = {}
    for mm, _, parent, origin, *_ in sorted(rows, key=lambda row: (row[4], row[0])):
        if not mm:
            continue
        above = found.get(parent, ()) if parent is not None else ()
        n = counts.get((above, origin), 0)
        counts[above, origin] = n + 1
        found[mm] = (*above, (origin, n))
    return found


def pair(a: Iterable[Sequence[Any]], b: Iterable[Sequence[Any]]) -> Paired:
    """Pair the address spaces of two traces: the first child that forked here with the first there, and so on."""
    one, two = paths(a), {path: mm for mm, path in paths(b).items()}
    pairs = [(mm, two[path]) for mm, path in one.items() if path in two]
    mine, theirs = {x for x, _ in pairs}, {y for _, y in pairs}
    return Paired(pairs, [mm for mm in one if mm not in mine], [mm for mm in two.values() if mm not in theirs])
