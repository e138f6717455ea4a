"""Resource limits of processes: changed by prlimit64 and setrlimit, handed on by fork and exec.

They belong to the process, not to its address space; the two part only between a vfork (or a clone with
CLONE_VM) and the exec that follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vmastore.events import Event
from vmastore.mm.flags import U64
from vmastore.mm.mm import Mm

RESOURCES: Final = {2: "DATA", 3: "STACK", 8: "MEMLOCK", 9: "AS"}
_CLONE_VM: Final = 0x100
_CLONE_THREAD: Final = 0x10000


class Limits:
    """Which process has which soft limits, where the trace tells; bytes, -1: none."""

    def __init__(self) -> None:
        self._guests: dict[int, dict[str, int]] = {}  # processes that run in another one's address space
        self._spaces: dict[int, Mm] = {}  # the address space of a process that the trace saw begin

    def of(self, pid: int, mm: Mm) -> dict[str, int]:
        """The limits of a process that runs in mm."""
        return self._guests.get(pid, mm.rlimits)

    def change(self, mm: Mm, event: Event) -> None:
        """prlimit64 or setrlimit, by `event.pid` in mm: a new soft limit from here on."""
        pid, resource, soft = event.args[:3] if event.call == "prlimit64" else (0, *event.args[:2])
        name = RESOURCES.get(resource)
        if event.errno or name is None or not isinstance(soft, int):
            return
        value = -1 if soft >= U64 else soft
        target = pid or event.pid
        if target in self._guests:
            self._guests[target] = {**self._guests[target], name: value}
            return
        space = mm if target == event.pid else self._spaces.get(target)
        if space is not None:
            space.rlimits = {**space.rlimits, name: value}

    def forked(self, mm: Mm, event: Event, child: Mm | None) -> None:
        """A process begins, in `child` or, where that is None, in its parent's address space."""
        pid = event.result
        if not isinstance(pid, int):
            return
        limits = self.of(event.pid, mm)
        if child is not None:
            child.rlimits = limits
            self._spaces[pid] = child
        elif event.call == "vfork" or (event.args[0] or 0) & (_CLONE_VM | _CLONE_THREAD) == _CLONE_VM:
            self._guests[pid] = limits

    def executed(self, mm: Mm, event: Event, new: Mm) -> None:
        """A process leaves mm for a new address space, which is laid out by its limits."""
        new.rlimits = new.exec_rlimits = self.of(event.pid, mm)
        self._guests.pop(event.pid, None)
        self._spaces[event.pid] = new

    def exited(self, event: Event) -> None:
        """A thread is gone; event.pid may have been a guest."""
        if event.tid == event.pid:
            self._guests.pop(event.pid, None)

    def state(self, mms: Mapping[int, Mm]) -> list[Any]:
        """What later events may need, as JSON values; a process whose address space is gone needs nothing."""
        spaces = [[pid, mm.number] for pid, mm in sorted(self._spaces.items(), key=lambda item: item[0])]
        alive = [[pid, n] for pid, n in spaces if mms.get(n) is self._spaces[pid]]
        return [sorted(self._guests.items()), alive]

    def restore(self, state: list[Any], mms: Mapping[int, Mm]) -> None:
        """Take over what `state` gave, in a world with the same address spaces."""
        guests, spaces = state
        self._guests = dict(guests)
        self._spaces = {pid: mms[number] for pid, number in spaces}
