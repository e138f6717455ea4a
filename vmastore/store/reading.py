"""Reading stored events, chunk by chunk: one loop and one JSON text for the arguments of many rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vmastore.events.codec import UNSIGNED, decode_args, unpack_maps
from vmastore.events.types import Event
from vmastore.events.upcasters import Step
from vmastore.store.rows import PLAIN

# parameters: the trace's base_ns, the trace, the first event, the last
SELECT = f"SELECT seq,{PLAIN} FROM event_t WHERE trace=? AND seq BETWEEN ? AND ? ORDER BY seq"
_ARGS = 5  # where the arguments stand in a row
_WRAP = 1 << 64
_new = tuple.__new__  # a NamedTuple without the cost of its keyword arguments
Row = Sequence[Any]


def event_chunks(
    pieces: Iterable[Sequence[Row]],
    names: dict[int, str],
    tasks: Mapping[int, tuple[int, int]],
    steps: dict[int, tuple[Step, ...]],
    site_text: Callable[[int], str],
    maps_payload: Callable[[int], bytes | None],
) -> Iterator[list[Event]]:
    """The events of rows of SELECT, a list for each piece.

    names: calls by number. tasks: (pid, tid) by number. steps: what brings arguments stored by an older
    version up to date, by call. site_text: a call site by number, asked once each. maps_payload: the observed
    lines of a `maps` event by its sequence number, asked where it has any. Raises ValueError where the stored
    arguments are no JSON or the lines are not those that were hashed.
    """
    sites: dict[int, str] = {}
    for rows in pieces:
        chunk = []
        for row, given in zip(rows, _arguments(rows), strict=True):
            seq, mm, task, ts_ns, number, _, result, errno, file, injected, place, line, offset = row
            call = names[number]
            args = tuple(given)
            if call == "maps":
                args = unpack_maps(given, maps_payload(seq) if len(given) > 2 else None)
            if steps:
                for step in steps.get(number, ()):
                    args = step(args)
            if result is not None and result < 0 and call in UNSIGNED:
                result += _WRAP
            site = None
            if place is not None:
                site = sites.get(place)
                if site is None:
                    site = sites[place] = site_text(place)
            pid, tid = tasks[task]
            fields = (seq, mm, pid, tid, ts_ns, call, args, result, errno, file, injected != 0, site, line, offset)
            chunk.append(_new(Event, fields))
        yield chunk


def _arguments(rows: Sequence[Row]) -> Sequence[Any]:
    """The arguments of each row: all arrays are read as one text, or one by one where a row is damaged."""
    try:
        found: list[Any] = json.loads("[" + ",".join([row[_ARGS] for row in rows]) + "]")
    except ValueError:
        found = []
    if len(found) == len(rows):
        return found
    return [list(decode_args(row[_ARGS])) for row in rows]
