"""Events packed by columns come out as they went in, and what is no packed events is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmastore.events import Event
from vmastore.events.codec import pack_maps
from vmastore.events.packed import digest, pack, unpack
from vmastore.importers.detect import open_traces

DATA = Path(__file__).parent.parent / "data"
ERRORS = (ValueError, KeyError, IndexError, TypeError, StopIteration)
_I63 = (1 << 63) - 1

whole = st.integers(-(1 << 63), _I63)
small = st.integers(0, 300)
words = st.text(st.characters(codec="utf-8"), max_size=5) | st.just("\udc80path")
arguments = st.one_of(
    st.tuples(st.integers(0, (1 << 64) - 1), small),
    st.tuples(),
    st.tuples(st.none() | whole | words | st.booleans() | st.lists(small | words, max_size=3)),
)


@st.composite
def runs(draw: st.DrawFn) -> list[Event]:
    """Events that follow on one another, with whatever fields can hold."""
    first = draw(st.integers(1, 1 << 40))
    maybe = st.none() | whole
    rest = st.tuples(
        small, small, small, maybe, st.sampled_from(("mmap", "close", "odd")), arguments, maybe,
        small, maybe, st.booleans(), st.none() | words, st.none() | small, st.none() | small,
    )  # fmt: skip
    return [Event(first + n, *fields) for n, fields in enumerate(draw(st.lists(rest, min_size=1, max_size=40)))]


def no_maps(seq: int) -> bytes:
    raise AssertionError(f"event {seq} is no maps event")


def exactly(events: list[Event]) -> list[str]:
    """Texts in which 1 and True, a list and a tuple differ."""
    return [repr(event) for event in events]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(runs())
def test_events_come_out_as_they_went_in(events: list[Event]) -> None:
    """Any arguments, None anywhere, integers of 64 bits of either sign, types included."""
    assert exactly(unpack(pack(events), no_maps)) == exactly(events)


@pytest.mark.parametrize("path", sorted((DATA / "vmatrace").glob("*.vmatrace.jsonl")), ids=lambda p: p.name)
def test_recordings_come_out_as_they_went_in(path: Path) -> None:
    """Observed maps are not packed: they are asked for by the number of their event."""
    for source in open_traces(str(path)):
        events = list(source.events())
        observed = {event.seq: pack_maps(event.args)[2] for event in events if event.call == "maps"}
        packed = pack(events)
        assert exactly(unpack(packed, observed.__getitem__)) == exactly(events)
        low, high = events[0].seq + len(events) // 3, events[-1].seq - len(events) // 4
        asked: list[int] = []

        def payload(seq: int) -> bytes | None:
            asked.append(seq)  # noqa: B023
            return observed[seq]  # noqa: B023

        part = [event for event in events if low <= event.seq <= high]
        assert exactly(unpack(packed, payload, low, high)) == exactly(part)
        assert asked == [event.seq for event in part if event.call == "maps"]


def test_a_long_run_takes_few_bytes() -> None:
    """Columns are as narrow as their values: addresses of one arena, a few flags, times that grow."""
    rng = random.Random(5)
    place = [0x7F0000000000 + rng.randrange(1000) * 0x40000 for _ in range(2048)]
    events = [
        Event(n, 1, 7, 7, n * 1000 + rng.randrange(900), "mprotect", (at, 4096, rng.choice((1, 3))), 0, 0)
        for n, at in enumerate(place, 1)
    ]
    assert len(pack(events)) < 12 * len(events)


def test_what_is_cut_or_changed_is_refused_or_other_events() -> None:
    """Never a crash: one of the errors that the contract names, whatever byte is another or missing."""
    numbers = range(1, 40)
    events = [Event(n, 1, 7, 7, n, "mmap", (n << 12, 4096, 3, "x"), n << 12, 0, None, n % 2 == 0) for n in numbers]
    packed = pack(events)
    rng = random.Random(6)
    for _ in range(500):
        broken = bytearray(packed[: rng.randrange(len(packed))] if rng.random() < 0.3 else packed)
        if broken:
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        try:
            unpack(bytes(broken), no_maps)
        except ERRORS:
            continue
        except (MemoryError, OverflowError) as error:
            pytest.fail(f"{error!r}")


def test_the_digest_binds_packed_events_to_their_place() -> None:
    """Other numbers, another hash before them, other bytes: another digest."""
    places = [(1, 9, b"h", b"packed"), (1, 8, b"h", b"packed"), (1, 9, b"g", b"packed"), (1, 9, b"h", b"pack")]
    assert len({digest(*place) for place in places}) == 4
