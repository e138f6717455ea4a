"""process_vm_writev: what one process writes into another."""

from __future__ import annotations

import pytest

from vmastore.events import Event
from vmastore.importers.strace import StraceImporter

START = """\
60 execve("/bin/a", ["a"], 0x7f /* 1 var */) = 0
60 fork() = 61
61 getpid() = 61
"""
VECTORS = '[{iov_base="]}, {iov_base=0x1000"..., iov_len=8192}], 1, [{iov_base=0x7f0000000f00, iov_len=512}'


def _faults(line: str, start: str = START) -> list[tuple[int, int, int, int]]:
    """(mm, pid, address, length) of each fault that the line tells."""
    importer = StraceImporter(name="t", source="t")
    lines = [*start.splitlines(), line]
    events: list[Event] = importer.feed_batch([text.encode() for text in lines]) + importer.finish()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    faults = [event for event in events if event.call == "fault"]
    assert all(event.args[2:] == ("w", None, "gup") and event.result is None for event in faults)
    assert {event.source_line for event in faults} <= {len(lines)}
    calls = [event.call for event in events]
    assert not faults or calls[-len(faults) - 1] == "process_vm_writev"
    return [(event.mm, event.pid, *event.args[:2]) for event in faults]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"process_vm_writev(61, {VECTORS}], 1, 0) = 512", [(0x7F0000000000, 0x2000)]),
        (f"process_vm_writev(61, {VECTORS}], 1, 0) = 256", [(0x7F0000000000, 0x1000)]),
        (
            f"process_vm_writev(61, {VECTORS}, {{iov_base=NULL, iov_len=0}}, {{iov_base=0x5000, iov_len=1}},"
            " {iov_base=0x9000, iov_len=9}], 4, 0) = 513",
            [(0x7F0000000000, 0x2000), (0x5000, 0x1000)],
        ),
        (f"process_vm_writev(61<a>, {VECTORS}, ...], 1, 0) = 8192", [(0x7F0000000000, 0x2000)]),
        (f"process_vm_writev(7 /* 61 in strace's PID NS */, {VECTORS}], 1, 0) = 512", [(0x7F0000000000, 0x2000)]),
        (f"process_vm_writev(61, {VECTORS}], 1, 0) = -1 EFAULT (Bad address)", []),
        (f"process_vm_writev(61, {VECTORS}], 1, 0) = 512 (INJECTED)", []),
        (f"process_vm_writev(99, {VECTORS}], 1, 0) = 512", []),
        ("process_vm_writev(61, 0x7ffd47eda770, 1, 0x7ffd47eda750, 2, 0) = 8192", []),
        (f"process_vm_readv(61, {VECTORS}], 1, 0) = 512", []),
    ],
    ids=["whole", "short", "several", "cut", "namespace", "failed", "injected", "unknown", "raw", "readv"],
)
def test_the_pages_written_are_accesses_of_the_other_process(line: str, found: list[tuple[int, int]]) -> None:
    """As many bytes as the result says, in the order of the vector, in the address space of the process named."""
    assert _faults(f"60 {line}") == [(2, 61, *one) for one in found]


def test_a_process_without_an_address_space_yet_is_left_alone() -> None:
    """One that the log has shown nothing of has no mm that could be named."""
    assert _faults(f"60 process_vm_writev(61, {VECTORS}], 1, 0) = 512", start=START.splitlines()[0]) == []
