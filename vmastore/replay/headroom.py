"""How far an address space is from vm.max_map_count, how it grows, and when it will be there."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from vmastore.events import Event
from vmastore.replay.world import World


@dataclass
class Headroom:
    """Numbers of one address space. VMAs count as the kernel counts them (without [vsyscall]).

    left: VMAs that still fit (a split needs map_count < limit; an mmap is let through at the limit,
    so one more line than the limit can be seen). per_event, per_second: growth, by least squares over
    the newer half of the events; None where there is nothing to measure it by. events_left,
    seconds_left: when the limit is reached if it goes on so; None: it does not grow.
    """

    limit: int
    map_count: int
    peak: int = 0
    peak_seq: int = 0
    events: int = 0
    per_event: float | None = None
    per_second: float | None = None
    events_left: int | None = None
    seconds_left: float | None = None

    @property
    def left(self) -> int:
        return max(0, self.limit - self.map_count)

    @property
    def used(self) -> float:
        """The part of the limit that is used, 1.0 for all."""
        return self.map_count / self.limit if self.limit else 1.0


def headroom(world: World, events: Iterable[Event], number: int) -> Headroom:
    """Fold the events in and follow address space `number`."""
    seqs, times, counts = array("q"), array("q"), array("q")
    peak, peak_seq, last = 0, 0, 0
    for event in events:
        outcome = world.apply(event)
        if event.mm != number or event.call == "note":
            continue
        mm = world.mms.get(number)
        if mm is None:
            continue
        last = mm.map_count
        if event.call == "exit" or (event.call == "maps" and event.args[0] != "baseline"):
            continue
        seqs.append(len(seqs))
        times.append(-1 if event.ts_ns is None else event.ts_ns)
        counts.append(last)
        if last > peak:
            peak, peak_seq = last, outcome.seq
    found = Headroom(world.env.config.max_map_count, last, peak, peak_seq, len(counts))
    half = len(counts) // 2
    found.per_event = slope(seqs[half:], counts[half:])
    timed = [(t / 1e9, c) for t, c in zip(times[half:], counts[half:], strict=True) if t >= 0]
    found.per_second = slope([t for t, _ in timed], [c for _, c in timed])
    if found.per_event is not None and found.per_event > 0:
        found.events_left = int(found.left / found.per_event)
    if found.per_second is not None and found.per_second > 0:
        found.seconds_left = found.left / found.per_second
    return found


def slope(xs: Iterable[float], ys: Iterable[float]) -> float | None:
    """The least-squares slope of ys over xs; None with fewer than two different xs."""
    points = list(zip(xs, ys, strict=True))
    if not points:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return None
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
