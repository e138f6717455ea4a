"""Shrinking arguments: lengths to pages, addresses to a compact arena, flags to their defaults."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vmastore.events import Event
from vmastore.mm.flags import PAGE_SIZE
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.relocate import ARENA, Regions, relocated, used_ranges

Check = Callable[[MemoryTrace], bool]
_ANON = 0x32  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
_FAR = 0x1000  # pages between the offsets of mappings that are not contiguous


def shrink(trace: MemoryTrace, shows: Check) -> MemoryTrace:
    """The trace with the simplest arguments found that still show it. shows: decides by replay."""
    simpler = _whole_pages(trace)
    if simpler.events != trace.events and shows(simpler):
        trace = simpler
    trace = compact(trace, shows)
    return simplify(trace, shows)


def _whole_pages(trace: MemoryTrace) -> MemoryTrace:
    """Lengths rounded up to pages, as the kernel does."""
    events = []
    for event in trace.events:
        args = list(event.args)
        if event.call in ("mmap", "munmap", "mprotect", "madvise", "mlock", "mlock2", "munlock", "mbind"):
            args[1] = -(-args[1] // PAGE_SIZE) * PAGE_SIZE
        elif event.call == "mremap":
            args[1], args[2] = (-(-args[n] // PAGE_SIZE) * PAGE_SIZE for n in (1, 2))
        events.append(event._replace(args=tuple(args)))
    return MemoryTrace(trace.header, trace.files, events)


# -- addresses ------------------------------------------------------------------------------------------


class Stretches:
    """A map of addresses by the stretches between the edges that the events name; each has a width in pages."""

    def __init__(self, edges: Sequence[int], widths: Sequence[int], base: int = ARENA) -> None:
        self.edges = edges
        self.places = [base]
        for width in widths:
            self.places.append(self.places[-1] + width * PAGE_SIZE)

    def __call__(self, addr: int) -> int:
        n = max(bisect.bisect_right(self.edges, addr) - 1, 0)
        inside = addr - self.edges[n]
        if n + 1 < len(self.places):
            inside = min(inside, self.places[n + 1] - self.places[n])
        return self.places[n] + inside


def compact(trace: MemoryTrace, shows: Check) -> MemoryTrace:
    """Every stretch between two edges a page long, or as short as it may be; holes too."""
    used = used_ranges(trace.events)
    edges = sorted({edge for span in used for edge in span})
    if len(edges) < 2:
        return trace
    near = _offsets(trace, relocated(trace, Regions(used)))
    if shows(near):
        trace = near
        edges = sorted({edge for span in used_ranges(trace.events) for edge in span})
    widths = [(b - a) // PAGE_SIZE for a, b in itertools.pairwise(edges)]

    def at(candidate: list[int]) -> MemoryTrace:
        return _offsets(trace, relocated(trace, Stretches(edges, candidate)))

    if not shows(at(widths)):
        return trace  # the addresses themselves matter
    fits = widths.copy()

    def narrow(start: int, end: int) -> None:
        """One page for each stretch of [start, end), or of as many of them as possible."""
        trial = [*fits[:start], *([1] * (end - start)), *fits[end:]]
        if fits[start:end] == [1] * (end - start):
            return
        if shows(at(trial)):
            fits[:] = trial
        elif end - start > 1:
            middle = (start + end) // 2
            narrow(start, middle)
            narrow(middle, end)
        else:
            fits[start] = _least(fits[start], lambda width: shows(at([*fits[:start], width, *fits[end:]])))

    narrow(0, len(fits))
    return at(fits)


def _least(width: int, shows: Callable[[int], bool]) -> int:
    """The smallest width that still shows it, by halving; 1 does not."""
    low, high = 2, width
    while low < high:
        middle = (low + high) // 2
        if shows(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _offsets(old: MemoryTrace, new: MemoryTrace) -> MemoryTrace:
    """Offsets of file mappings that were contiguous stay so, the others stay apart."""
    classes: dict[int, int] = {}
    events = []
    low = min((start for start, _ in used_ranges(new.events)), default=ARENA)
    for before, after in zip(old.events, new.events, strict=True):
        if before.call == "mmap" and before.file is not None:
            number = classes.setdefault(before.args[5] - before.args[0], len(classes))
            offset = after.args[0] - low + number * _FAR * PAGE_SIZE
            after = after._replace(args=(*after.args[:5], offset))
        events.append(after)
    return MemoryTrace(new.header, new.files, events)


# -- everything else --------------------------------------------------------------------------------------


def simplify(trace: MemoryTrace, shows: Check) -> MemoryTrace:
    """Each event as simple as it may be, one change at a time, until nothing changes any more."""
    changed = True
    while changed:
        changed = False
        for n, event in enumerate(trace.events):
            for simpler in simpler_forms(event):
                events = [*trace.events[:n], simpler, *trace.events[n + 1 :]]
                candidate = MemoryTrace(trace.header, trace.files, events)
                if shows(candidate):
                    trace, changed = candidate, True
                    break
    return trace


def simpler_forms(event: Event) -> Iterator[Event]:
    """Forms of an event that are simpler than it, the simplest first. Never as simple as the event itself."""
    args = event.args
    make = _FORMS.get(event.call)
    if make is None:
        return
    for found in make(args):
        if found == args:
            return
        file = None if event.call == "mmap" and int(found[3]) & 0x20 else event.file
        yield event._replace(args=found, file=file)


def _mmap_forms(args: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    addr, length, prot, flags, fd, offset = args
    kinds = [(_ANON, -1, 0)]
    if flags & 0x20:
        kinds.append((flags & 0xF | 0x30, -1, 0))
    else:
        kinds += [(0x12, fd, offset), (flags & 0xF | 0x10, fd, offset)]
    kinds.append((flags, fd, offset))
    for kind in dict.fromkeys(kinds):
        for simple in (3, 1, prot):
            yield (addr, length, simple, *kind)
            if (simple, *kind) == (prot, flags, fd, offset):
                return


def _prot_forms(args: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for prot in (1, 0, 3):
        yield (*args[:2], prot, *args[3:])


def _fault_forms(args: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield (args[0], PAGE_SIZE, "w", None, "user")
    yield (args[0], PAGE_SIZE, args[2], None, "user")
    yield (args[0], args[1], args[2], None, "user")


def _last_zero(args: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield (*args[:-1], 0)


def _name_forms(args: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if len(args) > 5 and isinstance(args[5], str):
        for name in ("a", "b"):
            yield (*args[:5], name)


def _mremap_forms(args: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if args[3] & 4:
        yield (*args[:3], args[3] & ~4, *args[4:])


_FORMS: dict[str, Callable[..., Iterator[tuple[Any, ...]]]] = {
    "mmap": _mmap_forms,
    "mprotect": _prot_forms,
    "fault": _fault_forms,
    "mlock2": _last_zero,
    "mbind": _last_zero,
    "prctl": _name_forms,
    "mremap": _mremap_forms,
}
