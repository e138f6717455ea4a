"""Is the derived data what a replay of the events gives?"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, NamedTuple

from vmastore.mm.rules import RuleSet
from vmastore.replay.derive import derive
from vmastore.replay.rebuild import rules_named
from vmastore.replay.snapshots import Spacing
from vmastore.replay.trace import StoredTrace
from vmastore.replay.world import World
from vmastore.store import Store
from vmastore.store.chunks import check_chunks
from vmastore.store.derived import ReplayWriter, StoredReplay, derived_rows, rows_of, stored_replays
from vmastore.version import engine

_MASK = (1 << 128) - 1


class Checked(NamedTuple):
    """problems: one a replay that is not what its events give, or a trace whose packed chunks are not its rows.

    replays: how many were compared.


    stale: replays of another engine, of another header, or that were not finished; `db rebuild` makes them again.
    """

    problems: list[str]
    replays: int
    stale: list[str]


def check_replays(store: Store) -> Checked:
    """Replay every trace as its stored replays say, and compare each row of derived data; packed chunks with rows."""
    problems, stale = check_chunks(store)
    checked = Checked(problems, 0, stale)
    for found in stored_replays(store):
        trace = StoredTrace(store, store.trace(found.trace))
        what = f"{trace.info.header.name}: replay {found.replay} ({found.kernel})"
        if (found.engine, found.basis, found.events) != (engine(), trace.basis, trace.info.events):
            checked.stale.append(what)
            continue
        checked = checked._replace(replays=checked.replays + 1)
        problem = _compare(trace, rules_named(found.kernel), found)
        if problem is not None:
            checked.problems.append(f"{what}: {problem}")
    return checked


def _compare(trace: StoredTrace, rules: RuleSet, found: StoredReplay) -> str | None:
    """The first table and event that differ, None: all is as a replay makes it.

    Sums of hashes first, which take no memory; where they differ, once more with a sum an event.
    """
    if _sums(trace, rules, found, by_event=False) == {}:
        return None
    wrong = _sums(trace, rules, found, by_event=True)
    if not wrong:
        return "its rows changed while they were read"
    table, seq = min(wrong, key=lambda place: (place[1], place[0]))
    return f"{table} is not what the events give" + (f", at event {seq} first" if seq else "")


def _sums(trace: StoredTrace, rules: RuleSet, found: StoredReplay, *, by_event: bool) -> dict[tuple[str, int], int]:
    """Sums of the rows' hashes, replayed less stored, by table (and event): those that are not 0."""
    sums: dict[tuple[str, int], int] = {}

    def add(table: str, row: tuple[Any, ...], sign: int) -> None:
        place = (table, _event_of(table, row) if by_event else 0)
        digest = blake2b(repr((table, *row)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        sums[place] = (sums.get(place, 0) + sign * int.from_bytes(digest, "little")) & _MASK

    class Comparison(ReplayWriter):
        """Takes the rows of a replay and writes none."""

        def __init__(self, *_: Any, **__: Any) -> None:
            self.begin(found.replay)

        def __exit__(self, *_: Any) -> None:
            self.flush(last=True)

        def write(self, values: dict[str, list[Any]]) -> None:
            for table, found in values.items():
                for row in rows_of(table, found):
                    add(table, row, 1)

    places = [row[0] for table, row in derived_rows(trace.store, found.replay) if table == "snapshot_t"]
    derive(trace, rules, **json.loads(found.options), spacing=_As(places), into=Comparison)
    for table, row in derived_rows(trace.store, found.replay):
        add(table, row, -1)
    return {place: total for place, total in sums.items() if total}


def _event_of(table: str, row: tuple[Any, ...]) -> int:
    """The event that a row of derived data (without its replay) belongs to; 0: none."""
    at = _EVENT.get(table)
    return 0 if at is None else int(row[at])


# where each has its event: seq, first_seq, born_seq
_EVENT = {"outcome_t": 0, "rolling_t": 0, "decision_t": 0, "vma_t": 7, "lost_merge_t": 2, "snapshot_t": 0}


class _As(Spacing):
    """Takes snapshots where they are stored, so that they are compared too."""

    def __init__(self, places: list[int]) -> None:
        super().__init__()
        self.look_at = 0
        self._places = set(places)

    def due(self, seq: int, world: World) -> bool:
        return seq in self._places
