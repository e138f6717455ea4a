"""Growth and forecast are those of the series of VMA counts."""

from __future__ import annotations

import pytest
from traces import RO, anon, protect, trace

from vmastore.mm.rules import preset
from vmastore.replay.headroom import headroom, slope


def test_a_steady_leak() -> None:
    """Each call makes one VMA, a millisecond apart: the slope is 1 an event, 1000 a second, to the limit."""
    made = trace(*(anon(2 * n, 1) for n in range(40)), max_map_count=100)
    found = headroom(made.world(preset("6.18")), made.events, 1)
    assert (found.map_count, found.limit, found.left, found.peak, found.peak_seq) == (40, 100, 60, 40, 40)
    assert found.per_event == pytest.approx(1) and found.events_left == 60
    assert found.per_second == pytest.approx(1000) and found.seconds_left == pytest.approx(0.06)
    assert found.used == pytest.approx(0.4)


def test_no_growth_no_forecast() -> None:
    """There and back: no forecast; the peak is named."""
    calls = [anon(0, 9), *(protect(3, 3, n % 2 * 2 + 1) for n in range(20))]
    found = headroom(trace(*calls).world(preset("6.18")), trace(*calls).events, 1)
    assert found.peak == 3 and found.peak_seq == 2 and found.events_left is None
    short = trace(anon(0, 1, RO))
    assert headroom(short.world(preset("6.18")), short.events, 1).per_event is None


def test_slope() -> None:
    """Least squares; None where all xs are one."""
    assert slope([0, 1, 2], [1, 3, 5]) == 2
    assert slope([1, 1], [0, 5]) is None
    assert slope([], []) is None
