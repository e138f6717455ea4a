"""A call as a log's reader has it before it makes an event: what most of an import's events are, and stay.

The store takes both. It has the text of the arguments to write, not their values, and that of all but the first
is known with them: a log repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vmastore.events.codec import encode_args
from vmastore.events.types import Event


class Rest(NamedTuple):
    """A call's arguments behind the first: their values, and how the stored array goes on behind the first one's."""

    values: tuple[int | None, ...]
    text: str


# seq, mm, pid, tid, ts_ns, call (as in an Event), the first argument, the others, result (a 64-bit signed integer),
# line, offset; of a call that succeeded, without file, call site or injection. A plain tuple: a log has millions
Brief = tuple[int, int, int, int, int | None, str, int, Rest, int, int, int]
Given = Event | Brief  # what a store takes

_new = tuple.__new__  # a NamedTuple without the cost of its keyword arguments


def rest_of(values: tuple[int | None, ...]) -> Rest:
    """The arguments behind a first one."""
    return Rest(values, "," + encode_args(values)[1:] if values else "]")


def whole(given: Iterable[Given]) -> list[Event]:
    """The same as events."""
    events = []
    for event in given:
        if not isinstance(event, Event):
            seq, mm, pid, tid, ts_ns, call, first, rest, result, line, offset = event
            args = (first, *rest.values)
            event = _new(Event, (seq, mm, pid, tid, ts_ns, call, args, result, 0, None, False, None, line, offset))
        events.append(event)
    return events
