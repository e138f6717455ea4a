"""A call through a userfaultfd changes the address space that made it, whoever inherited the descriptor.

tests/data/programs/uffd_fork.c does all of this on a real kernel; its recording is a sample of test_verify.py.
"""

from __future__ import annotations

from errno import ENOMEM
from pathlib import Path
from typing import Any

import pytest
from test_state import hop_reader

from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.flags import VM_UFFD_MISSING
from vmastore.mm.rules import preset
from vmastore.replay.world import Outcome, World

RECORDING = Path(__file__).parents[1] / "data" / "maprec" / "uffd-fork.maprec.jsonl.gz"
BASE, PAGE = 0x100000000000, 4096
UFFD, OTHER = 1, 2
EVENT_FORK = 2


class Two:
    """A parent (address space 1) with a userfaultfd over pages 2 to 5 of 8, and its child (2)."""

    def __init__(self, features: int) -> None:
        files = {n: FileInfo(n, None, "uffd") for n in (UFFD, OTHER)}
        self.world = World(TraceHeader("t", "test", "jsonl", faults="recorded"), files, preset("6.18"))
        self._seq = 0
        self.call(1, "mmap", BASE, 8 * PAGE, 3, 0x32, -1, 0)
        self.call(1, "userfaultfd", 0, file=UFFD, result=3)
        self.call(1, "ioctl", 3, "UFFDIO_API", None, None, None, features, file=UFFD)
        self.uffd(1, "UFFDIO_REGISTER", 2, 4)
        self.call(1, "fork", 0, 2)

    def call(self, mm: int, call: str, *args: Any, file: int | None = None, **answer: Any) -> Outcome:
        self._seq += 1
        event = Event(self._seq, mm, mm, mm, None, call, args, answer.get("result"), answer.get("errno", 0), file)
        return self.world.apply(event)

    def uffd(self, mm: int, cmd: str, page: int, pages: int, file: int = UFFD, **answer: Any) -> Outcome:
        mode = 1 if cmd == "UFFDIO_REGISTER" else None
        return self.call(mm, "ioctl", 3, cmd, BASE + page * PAGE, pages * PAGE, mode, None, file=file, **answer)

    def watched(self, mm: int) -> list[tuple[int, int]]:
        """The registered VMAs, in pages."""
        found = [v for v in self.world.mms[mm].vmas() if v.vm_flags & VM_UFFD_MISSING]
        return [((v.vm_start - BASE) // PAGE, (v.vm_end - BASE) // PAGE) for v in found]


@pytest.mark.parametrize(("features", "inherits"), [(0, []), (EVENT_FORK, [(2, 6)])], ids=["plain", "event-fork"])
def test_a_call_of_the_child_changes_the_parent(features: int, inherits: list[tuple[int, int]]) -> None:
    """Register and unregister through the inherited descriptor: the child's VMAs are as fork left them."""
    two = Two(features)
    assert two.watched(2) == inherits
    registered = two.uffd(2, "UFFDIO_REGISTER", 6, 1)
    assert (registered.errno, registered.cases) == (0, "5")
    assert two.uffd(2, "UFFDIO_UNREGISTER", 3, 1).cases == "split+split"
    assert two.watched(1) == [(2, 3), (4, 7)]
    assert two.watched(2) == inherits


def test_fork_gives_the_child_a_context_of_its_own() -> None:
    """With EVENT_FORK: the end of the parent's userfaultfd clears the parent alone, the new one the child."""
    two = Two(EVENT_FORK)
    two.call(1, "release", file=UFFD)
    assert (two.watched(1), two.watched(2)) == ([], [(2, 6)])
    assert two.uffd(1, "UFFDIO_UNREGISTER", 2, 1, OTHER).errno == 0  # read from the fork event by the parent
    assert (two.watched(1), two.watched(2)) == ([], [(3, 6)])


def test_the_watched_address_space_is_gone() -> None:
    """ENOMEM, and nothing changes."""
    two = Two(0)
    two.call(1, "exit", 0, None, 1)
    assert two.uffd(2, "UFFDIO_REGISTER", 0, 1).errno == ENOMEM
    ending = Two(0)  # the trace shows its end only after the call
    assert ending.uffd(1, "UFFDIO_REGISTER", 0, 1, errno=ENOMEM).divergence is None
    assert ending.watched(1) == [(2, 6)]


def test_stored_states_know_whose_it_is() -> None:
    """A state taken apart and put together at each event gives the same outcomes and states."""
    assert hop_reader(RECORDING, 1) > 100
