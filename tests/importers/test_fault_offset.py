"""Finding out how two clocks differ, from what cannot be otherwise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vmastore.events import Event
from vmastore.importers.fault_offset import Fit, fit
from vmastore.importers.faults import Fault

PAGE = 4096


def _mmap(seq: int, pid: int, start: int, time_ns: int) -> Event:
    return Event(seq, 1, pid, pid, time_ns, "mmap", (0, 4 * PAGE, 3, 0x22, -1, 0), start, 0)


def _munmap(seq: int, pid: int, start: int, time_ns: int) -> Event:
    return Event(seq, 1, pid, pid, time_ns, "munmap", (start, 4 * PAGE), 0, 0)


def _fault(tid: int, addr: int, time_ns: int) -> Fault:
    return Fault(time_ns, None, tid, addr, "w", "user")


@settings(max_examples=60, deadline=None)
@given(
    offset=st.integers(-(10**18), 10**18),
    steps=st.lists(
        st.tuples(st.integers(2_000, 10**6), st.integers(1, 10**6), st.booleans()), min_size=1, max_size=20
    ),
    strangers=st.integers(0, 5),
)
def test_the_true_difference_is_within_the_bounds(
    offset: int, steps: list[tuple[int, int, bool]], strangers: int
) -> None:
    """Whatever is mapped, touched and unmapped: the true difference is allowed, and the one chosen is between the
    bounds; faults elsewhere change nothing."""
    now, seq = 10**18, 0
    events: list[Event] = []
    faults: list[Fault] = []
    for n, (pause, stay, unmapped) in enumerate(steps):
        start = 0x7F0000000000 + n * 0x10000
        now += pause
        events.append(_mmap(seq := seq + 1, 7, start, now))
        now += pause
        faults.append(_fault(7, start + PAGE, now - offset))
        now += stay
        if unmapped:
            events.append(_munmap(seq := seq + 1, 7, start, now))
    faults += [_fault(9, 0x7F0000000000, 5), _fault(7, 0x1000, 6)][:strangers]
    found = fit(events, faults)
    assert found is not None and found.allows(offset) and found.allows(found.offset_ns)
    assert found.agreeing == found.mappings == len(steps)
    if not any(unmapped for *_, unmapped in steps):
        assert found.high_ns is None


def test_most_mappings_decide() -> None:
    """One mapping that says otherwise (an address that was mapped before the log began) is outvoted; addresses
    mapped twice say nothing."""
    events = [_mmap(n, 7, 0x10000 * n, 1_000_000 * n) for n in range(1, 5)]
    events += [_munmap(4 + n, 7, 0x10000 * n, 1_000_000 * n + 500_000) for n in range(1, 5)]
    events += [_mmap(9, 7, 0x90000, 9_000_000), _mmap(10, 7, 0x90000, 9_500_000)]
    faults = [_fault(7, 0x10000 * n, 1_000_000 * n + 10_000) for n in range(1, 4)] + [_fault(7, 0x40000, 5)]
    faults.append(_fault(7, 0x90000, 1))
    found = fit(events, faults)
    assert found == Fit(-9_000, -10_000, 490_000, 3, 4)


def test_nothing_touched_gives_nothing() -> None:
    """No fault on a mapping of the log: no answer. One that contradicts itself: nothing agrees."""
    events = [_mmap(1, 7, 0x10000, 1_000_000), _munmap(2, 7, 0x10000, 2_000_000)]
    assert fit(events, [_fault(7, 0x90000, 5)]) is None
    found = fit(events, [_fault(7, 0x10000, 5), _fault(7, 0x11000, 5_000_000)])
    assert found is not None and found.agreeing == 0
