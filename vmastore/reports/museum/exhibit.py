"""An exhibit of the museum: a short trace and two rule sets, one with a bug and one with its fix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import RuleSet, resolve
from vmastore.replay.memory import MemoryTrace, numbered

BASE, PAGE = 0x100000000000, 4096
RW, RO, RWX = 3, 1, 7
DAX_FD = 4  # the descriptor that is a file of a DAX file system
Call = tuple[Any, ...]


@dataclass(frozen=True)
class Exhibit:
    """kernel: where both rule sets start. bug, fix: switches flipped there (or a rule set's own name)."""

    name: str
    title: str
    story: str
    change: str  # the commit, change or advisory
    kernel: str
    bug: dict[str, bool]
    fix: dict[str, bool]
    calls: tuple[Call, ...]
    config: dict[str, Any] = field(default_factory=dict)
    bug_kernel: str | None = None  # a rule set of its own

    def rules(self) -> tuple[RuleSet, RuleSet]:
        """(with the bug, with the fix)."""
        bug, fix = resolve(self.bug_kernel or self.kernel), resolve(self.kernel)
        for name, on in self.bug.items():
            bug = bug.with_rule(name, on)
        for name, on in self.fix.items():
            fix = fix.with_rule(name, on)
        return bug, fix

    def trace(self) -> MemoryTrace:
        """Its calls, without answers; a fork goes on in the child."""
        mm, events = 1, [Event(1, 1, 1, 1, None, "maps", ("baseline", 0, None, []), None, 0)]
        for call, *args in self.calls:
            if call == "exit":  # the argument is whose: not always that of the call before
                events.append(Event(0, args[0], args[0], args[0], None, call, (0, None, True), None, 0))
                continue
            file = 3 if call == "mmap" and args[4] == DAX_FD else _FILE.get(call)
            events.append(Event(0, mm, mm, mm, None, call, tuple(args), None, 0, file))
            mm = args[1] if call == "fork" else mm
        header = TraceHeader(self.name, "museum", "jsonl", config=dict(self.config), faults="recorded")
        return MemoryTrace(header, dict(_FILES), numbered(events))


_FILE = {"shmat": 1, "ioctl": 2}
_FILES = {
    1: FileInfo(1, None, "shm", True, True, size=8 * PAGE),
    2: FileInfo(2, None, "uffd"),
    3: FileInfo(3, "/pmem/data", "dax", True, True, size=64 * PAGE),
}


def anon(page: int, pages: int, prot: int = RW, flags: int = 0x32) -> Call:
    return "mmap", BASE + page * PAGE, pages * PAGE, prot, flags, -1, 0


def protect(page: int, pages: int, prot: int) -> Call:
    return "mprotect", BASE + page * PAGE, pages * PAGE, prot


def write(page: int) -> Call:
    return "fault", BASE + page * PAGE, PAGE, "w", None, "user"


def move(page: int, old: int, new: int, flags: int, to: int) -> Call:
    return "mremap", BASE + page * PAGE, old * PAGE, new * PAGE, flags, BASE + to * PAGE


def uffd(cmd: str, page: int, pages: int) -> Call:
    return "ioctl", 3, cmd, BASE + page * PAGE, pages * PAGE, 1 if cmd == "UFFDIO_REGISTER" else None, None


def bind(page: int, pages: int, nodes: int = 1) -> Call:
    """mbind with MPOL_BIND to a mask of nodes."""
    return "mbind", BASE + page * PAGE, pages * PAGE, 2, nodes, 64, 0


def fork(child: int) -> Call:
    """A fork; the calls after it are the child's."""
    return "fork", 0, child


def leave(mm: int) -> Call:
    """The end of the process that has that address space."""
    return "exit", mm
