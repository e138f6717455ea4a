"""Events packed by columns: many in one text of bytes, read several times as fast as one row each.

Form: 4 bytes with the length of the head, the head (JSON), then the columns' numbers, little-endian.
The head names calls and call sites; each column is one value for all events, unsigned integers as
narrow as they go (less the smallest of them, or the steps from one to the next, or places in a table
of the values), or JSON. Arguments stand by call, so that each of a call's is a column of its own.

What a `maps` event observed is not packed: its arguments stay as its row has them.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from itertools import accumulate, islice, pairwise, repeat
from typing import Any

from vmastore.events.codec import pack_maps, unpack_maps
from vmastore.events.types import CALLS, Event
from vmastore.events.upcasters import version_of

FORMAT = 1
_WIDTHS = ((1 << 8, "B", 1), (1 << 16, "H", 2), (1 << 32, "I", 4), (1 << 64, "Q", 8))
_TABLE = 1 << 16  # most values of a table
_HEAD = 4
_dumps = json.JSONEncoder(separators=(",", ":")).encode
_event = partial(tuple.__new__, Event)  # a NamedTuple without the cost of its keyword arguments


def form() -> str:
    """What packed events depend on besides themselves: this form, and the versions of the calls' arguments."""
    versions = {call: version for call in CALLS if (version := version_of(call)) > 1}
    return f"{FORMAT}{versions or ''}"


def pack(events: Sequence[Event]) -> bytes:
    """Events that follow on one another, at least one. Assumes: integers of at most 64 bits, as rows hold them."""
    columns = _Packed()
    seqs, mms, pids, tids, times, calls, args, results, errnos, files, injected, sites, lines, offsets = zip(
        *events, strict=True
    )
    kinds: dict[tuple[str, int], int] = {}
    by_kind: list[list[tuple[Any, ...]]] = []
    order = []
    for call, given in zip(calls, args, strict=True):
        stored = (*given[:2], json.loads(pack_maps(given)[0])[2]) if call == "maps" else given
        kind = kinds.setdefault((call, len(stored)), len(kinds))
        if kind == len(by_kind):
            by_kind.append([])
        by_kind[kind].append(stored)
        order.append(kind)
    places: dict[str | None, int | None] = {None: None}
    for site in sites:
        places.setdefault(site, len(places) - 1)
    columns.add(order)
    for column in (mms, pids, tids, times, results, errnos, files, [int(i) for i in injected]):
        columns.add(column)
    columns.add([places[site] for site in sites])
    columns.add(lines)
    columns.add(offsets)
    for rows in by_kind:
        for column in zip(*rows, strict=True):
            columns.add(column)
    head = {"first": seqs[0], "count": len(seqs), "kinds": list(kinds), "sites": [s for s in places if s is not None]}
    text = _dumps({**head, "columns": columns.spec}).encode()
    return b"".join((len(text).to_bytes(_HEAD, "little"), text, *columns.parts))


def unpack(
    packed: bytes, maps_payload: Callable[[int], bytes | None], low: int = 0, high: int = 1 << 62
) -> list[Event]:
    """The events with numbers from low to high. maps_payload: the observed lines of a `maps` event by its number.

    Raises ValueError, KeyError, IndexError, TypeError or StopIteration where these are no packed events.
    """
    size = _HEAD + int.from_bytes(packed[:_HEAD], "little")
    head = json.loads(packed[_HEAD:size])
    first, count = head["first"], head["count"]
    columns = _columns(memoryview(packed)[size:], head["columns"], count)
    order = _all(next(columns))
    mms, pids, tids, times, results, errnos, files, injected, places, lines, offsets = (
        next(columns) for _ in range(11)
    )
    sites: list[str] = head["sites"]
    seqs = range(first, first + count)
    kinds = [(call, [next(columns) for _ in range(n)]) for call, n in head["kinds"]]
    args = _arguments(kinds, order)
    start, stop = max(low - first, 0), min(high - first + 1, count)
    for kind, (call, _) in enumerate(kinds):
        if call == "maps":
            for at in range(start, stop):
                if order[at] == kind:
                    args[at] = unpack_maps(list(args[at]), maps_payload(seqs[at]))
    calls = map([call for call, _ in kinds].__getitem__, order)
    fields = zip(
        seqs, mms, pids, tids, times, calls, args, results, errnos, files, map(bool, injected),
        (None if place is None else sites[place] for place in places) if sites else repeat(None, count),
        lines, offsets, strict=True,
    )  # fmt: skip
    if start == 0 and stop == count:
        return list(map(_event, fields))
    return list(map(_event, islice(fields, start, stop)))


def _all(column: Iterable[Any]) -> list[Any]:
    return column if isinstance(column, list) else list(column)


def _arguments(kinds: list[tuple[str, list[Iterable[Any]]]], order: list[int]) -> list[tuple[Any, ...]]:
    """The stored arguments of each event. order: the kind (a call and how many arguments it has) of each."""
    ours = [zip(*columns, strict=False) if columns else repeat(()) for _, columns in kinds]
    if len(ours) == 1:
        return [given for given, _ in zip(ours[0], order, strict=False)]
    following = [iter(rows).__next__ for rows in ours]
    return [following[kind]() for kind in order]


class _Packed:
    """Columns as they are packed: `spec` for the head, `parts` of bytes behind it."""

    def __init__(self) -> None:
        self.spec: list[list[Any]] = []
        self.parts: list[bytes] = []

    def add(self, values: Sequence[Any]) -> None:
        """One more column, in the form that takes the fewest bytes."""
        kinds = set(map(type, values))
        if kinds == {int} or kinds == {int, type(None)} or kinds == {type(None)}:
            distinct = set(values)
            if len(distinct) == 1:
                self.spec.append(["one", values[0], len(values)])
            else:
                self._numbers(values, distinct)
        else:
            self._json(values)

    def _json(self, values: Sequence[Any]) -> None:
        self._bytes("json", None, "B", list(_dumps(list(values)).encode()))

    def _numbers(self, values: Sequence[int | None], distinct: set[int | None]) -> None:
        known = sorted(value for value in distinct if value is not None)
        low, high = known[0], known[-1]
        if len(known) < len(distinct):  # what stands for None
            low -= 1
        if high - low >= _WIDTHS[-1][0]:
            self._json(values)
            return
        forms = [(_width(high - low) * len(values), "from")]
        if len(known) == len(distinct):
            steps = [b - a for a, b in pairwise(values)]  # type: ignore[operator]
            if min(steps) >= 0:
                forms.append((_width(max(steps)) * len(values), "steps"))
        if len(distinct) <= _TABLE:
            forms.append((_width(len(distinct)) * len(values) + _width(high - low) * len(distinct), "table"))
        _, best = min(forms)
        if best == "steps":
            self._bytes("steps", values[0], _code(max(steps)), steps)
        elif best == "from":
            code, shift = _code(high - low), low if low < 0 or _code(high) != _code(high - low) else 0
            null = None if len(known) == len(distinct) else low - shift
            self._bytes("from", [shift, null], code, [low - shift if v is None else v - shift for v in values])
        else:
            table = sorted(distinct, key=lambda value: (value is not None, value or 0))
            place = {value: n for n, value in enumerate(table)}
            shown = [low if v is None else v for v in table]
            self._bytes("values", [low, table[0] is None], _code(high - low), [v - low for v in shown])
            self._bytes("table", None, _code(len(table)), [place[v] for v in values])

    def _bytes(self, form: str, value: Any, code: str, numbers: list[int]) -> None:
        column = array(code, numbers)
        if sys.byteorder == "big":
            column.byteswap()
        self.spec.append([form, value, len(numbers), code])
        self.parts.append(column.tobytes())


def _width(top: int) -> int:
    return next((width for limit, _, width in _WIDTHS if top < limit), 99)


def _code(top: int) -> str:
    return next(code for limit, code, _ in _WIDTHS if top < limit)


def _columns(data: memoryview, specs: list[list[Any]], count: int) -> Iterator[Iterable[Any]]:
    """The columns in order, each a list or one value as often as needed. Raises ValueError for an unknown form."""
    at = 0
    values: list[Any] = []
    for form, value, size, *code in specs:
        if form == "one":
            yield repeat(value, size)
            continue
        numbers = array(code[0])
        end = at + numbers.itemsize * size
        numbers.frombytes(data[at:end])
        at = end
        if sys.byteorder == "big":
            numbers.byteswap()
        if form == "values":
            low, null = value
            values = [n + low for n in numbers]
            if null:
                values[0] = None
        elif form == "table":
            yield [values[n] for n in numbers]
        elif form == "steps":
            yield list(accumulate(numbers, initial=value))
        elif form == "from":
            shift, null = value
            found: list[Any] = [n + shift for n in numbers] if shift else numbers.tolist()
            yield found if null is None else [None if n == null + shift else n for n in found]
        elif form == "json":
            yield json.loads(numbers.tobytes())
        else:
            raise ValueError(f"a column of packed events in an unknown form: {form}")


def digest(first: int, last: int, head: bytes, packed: bytes) -> bytes:
    """What binds packed events to their place: head is the chain's hash after the last of them."""
    state = blake2b(b"%d %d %s " % (first, last, form().encode()), digest_size=16)
    state.update(head)
    state.update(packed)
    return state.digest()
