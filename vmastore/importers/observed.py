"""The VMA list of an address space as recordings tell it: a whole list, then differences.

The real-kernel recordings (vmafuzz, maprec) write a VMA as
``[start, end, perms, offset, dev, inode, name, VmFlags or null]`` with numbers in hex.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vmastore.events.types import Arg, ObservedVma

VSYSCALL = 0xFFFFFFFFFF600000


def parse_vma(entry: list[Any]) -> ObservedVma:
    """One VMA of a recording. Raises ValueError or TypeError."""
    start, end, perms, offset, dev, inode, name, flags = entry
    if not isinstance(inode, int):
        raise TypeError(f"inode {inode!r}")
    if not all(isinstance(text, str) for text in (perms, dev, name)) or not (flags is None or isinstance(flags, str)):
        raise TypeError(f"VMA {entry!r}")
    return ObservedVma(int(start, 16), int(end, 16), perms, int(offset, 16), dev, inode, name, flags)


class VmaList:
    """What one address space is known to look like, by start address.

    `[vsyscall]`, which maps shows although no VMA stands behind it, is kept here (the recordings
    count it) and left out of what `check` and `whole` give.
    """

    __slots__ = ("lines",)

    def __init__(self, lines: Iterable[ObservedVma] = ()) -> None:
        self.lines: dict[int, ObservedVma] = {line.start: line for line in lines}

    def copy(self) -> VmaList:
        """The list of a forked child."""
        other = VmaList()
        other.lines = dict(self.lines)
        return other

    def change(self, removed: list[int], added: list[ObservedVma], count: int) -> None:
        """Apply a difference; raises ValueError if it does not fit or does not add up to `count` lines."""
        lines = self.lines
        for start in removed:
            if lines.pop(start, None) is None:
                raise ValueError(f"no VMA starts at {start:#x}")
        for line in added:
            lines[line.start] = line
        if len(lines) != count:
            raise ValueError(f"the differences add up to {len(lines)} VMAs, the recording says {count}")

    def agrees(self, whole: list[ObservedVma]) -> bool:
        """Whether `whole` is the same list, VmFlags aside."""
        return sorted(line[:7] for line in whole) == sorted(line[:7] for line in self.lines.values())

    @property
    def count(self) -> int:
        """How many VMAs there are."""
        return len(self.lines) - (VSYSCALL in self.lines)

    def check(self, kind: str, removed: list[int], added: list[ObservedVma]) -> tuple[Arg, ...]:
        """The arguments of a `maps` event for a difference that `change` has applied."""
        return kind, self.count, removed, [list(line) for line in added if line.start != VSYSCALL]

    def whole(self, kind: str) -> tuple[Arg, ...]:
        """The arguments of a `maps` event that shows everything."""
        lines = [list(self.lines[start]) for start in sorted(self.lines) if start != VSYSCALL]
        return kind, len(lines), None, lines
