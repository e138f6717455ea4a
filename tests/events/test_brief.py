"""A Brief is an event in fewer words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.events.brief import Brief, rest_of, whole
from vmastore.events.codec import encode_args
from vmastore.store import open_store


@pytest.mark.parametrize("values", [(), (0,), (4096, 3), (-1, None), ((1 << 64) - 1, 0)])
def test_text_of_the_arguments(values: tuple[int | None, ...]) -> None:
    """A first argument with what is known of the rest is the array as the codec makes it."""
    assert f"[{4096}{rest_of(values).text}" == encode_args((4096, *values))


def _briefs(ts_ns: int | None) -> list[Brief]:
    rests = [rest_of((4096, 1)), rest_of((65536, 3, 50, -1, 0)), rest_of(())]
    calls = ["mprotect", "mmap", "brk"]
    return [
        (
            n,
            1 + n % 2,
            70,
            71 + n % 3,
            ts_ns and ts_ns + n,
            calls[n % 3],
            n << 12,
            rests[n % 3],
            n << 50,
            n + 5,
            n * 80,
        )
        for n in range(1, 200)
    ]


@pytest.mark.parametrize("ts_ns", [None, 1_700_000_000_000_000_000])
def test_stored_as_its_event_is(tmp_path: Path, ts_ns: int | None) -> None:
    """Briefs, their events, and both among each other make the same rows, hashes and address spaces."""
    given = _briefs(ts_ns)
    events = whole(given)
    mixed = [event if event.seq % 7 else brief for brief, event in zip(given, events, strict=True)]
    found: list[list[Any]] = []
    for n, some in enumerate((given, events, mixed)):
        with open_store(tmp_path / f"{n}.db") as store:
            trace = store.create_trace(TraceHeader("t", "t", "strace")).trace
            store.append(trace, some, key="all")
            assert store.append(trace, events, key="all") == len(events)  # the same batch again
            with store.engine.connect() as connection:
                rows = connection.exec_driver_sql("SELECT * FROM event_t ORDER BY seq").fetchall()
            assert [*store.events(trace)] == events
            found.append([*map(tuple, rows), *store.address_spaces(trace)])
    assert found[0] == found[1] == found[2]


def test_events_pass_as_they_are() -> None:
    """What is an event already stays the same object."""
    event = Event(1, 1, 7, 7, None, "brk", (0,), 0, 0)
    assert whole([event])[0] is event
