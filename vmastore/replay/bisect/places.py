"""Addresses by the mapping they lie in, so that two runs under ASLR can be compared.

The kernel chose a base for each mapping; a process then works with addresses relative to it. So an
address is (region, offset): the region is what the kernel placed last over that address, and its
label says what it is without saying where. What is mapped at a fixed address inside a region
belongs to it; unmapping does not end a region, since its addresses may be used again.
"""

from __future__ import annotations

from collections.abc import Iterable
from os.path import basename
from typing import Any, NamedTuple

from sortedcontainers import SortedDict


class Region:
    """A stretch of addresses that the kernel placed as one."""

    __slots__ = ("base", "label")

    def __init__(self, label: str, base: int) -> None:
        self.label = label
        self.base = base

    def __repr__(self) -> str:
        return f"Region({self.label!r}, {self.base:#x})"


class Place(NamedTuple):
    """An address: `offset` bytes from the base of `region`."""

    region: Region
    offset: int


class Places:
    """The regions of one address space."""

    def __init__(self) -> None:
        self._spans: SortedDict[int, tuple[int, Region]] = SortedDict()  # start -> (end, region)
        self.heap: Region | None = None
        self.program = ""

    def copy(self) -> Places:
        """As a child has them."""
        twin = Places()
        twin._spans = self._spans.copy()
        twin.heap, twin.program = self.heap, self.program
        return twin

    def region(self, addr: int) -> Region | None:
        """The region over an address."""
        start = next(self._spans.irange(maximum=addr, reverse=True), None)
        if start is None:
            return None
        end, found = self._spans[start]
        return found if addr < end else None

    def place(self, addr: int) -> Place:
        """An address by its region; what no call has placed gets a region of its own."""
        found = self.region(addr)
        if found is None:
            found = Region("unknown", addr & -4096)
            self.lay(found.base, found.base + 4096, found)
        return Place(found, addr - found.base)

    def lay(self, start: int, end: int, region: Region) -> None:
        """Put a region over [start, end), whatever was there."""
        spans = self._spans
        first = next(spans.irange(maximum=start, reverse=True), start)
        for at in list(spans.irange(first, end, inclusive=(True, False))):
            stop, old = spans[at]
            if stop <= start:
                continue
            del spans[at]
            if at < start:
                spans[at] = (start, old)
            if stop > end:
                spans[end] = (stop, old)
        if start < end:
            spans[start] = (end, region)

    def observe(self, lines: Iterable[Any]) -> None:
        """A whole maps: touching lines of one file are one region, the stack is told from its top."""
        self._spans.clear()
        last_end, last_name, region = 0, "", Region("", 0)
        for start, end, _, _, _, _, name, *_ in lines:
            if not (name and start == last_end and name == last_name):
                region = Region(self.label(name), end if name == "[stack]" else start)
                if name == "[heap]":
                    self.heap = region
            self.lay(start, end, region)
            last_end, last_name = end, name

    def label(self, name: str | None) -> str:
        """What a mapping of that name is; the program itself may have another path in another run."""
        if not name:
            return "anon"
        return "(program)" if basename(name) == self.program else name
