"""Recording page faults."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmastore.importers.faults import Fault, FaultReader, Locked
from vmastore.recorder.perf import Perf, buffer_kb

PROGRAM = """
import mmap, sys
sys.stdin.read(1)
memory = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(64):
    memory[page * 4096] = 1
"""


def test_without_perf_the_reason_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No perf: no mode, a reason that names the package, no lines."""
    monkeypatch.setenv("PATH", "/nonexistent")
    perf = Perf(tmp_path / "perf.data")
    perf.start(1)
    perf.stop()
    assert perf.mode is None and "not installed" in str(perf.why_not) and list(perf.lines()) == []


def test_a_process_that_cannot_be_counted_gives_a_reason(tmp_path: Path) -> None:
    """perf's own words say why, and nothing is left running."""
    perf = Perf(tmp_path / "perf.data")
    perf.start(1 << 22)
    assert perf.mode is None and perf.why_not
    perf.stop()


@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
def test_each_page_touched_is_a_fault(tmp_path: Path) -> None:
    """64 pages written give 64 faults of that process on consecutive pages, in the order of time."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE)
    perf = Perf(tmp_path / "perf.data")
    try:
        perf.start(process.pid)
        if perf.mode is None:
            pytest.skip(f"page faults may not be recorded here: {perf.why_not}")
        process.communicate(b"x")
    finally:
        process.kill()
        perf.stop()
    reader = FaultReader(perf.lines())
    marks = list(reader)
    assert [mark.time_ns for mark in marks] == sorted(mark.time_ns for mark in marks)
    assert {mark.pid for mark in marks} == {process.pid} and reader.lost == 0
    pages = [mark.addr >> 12 for mark in marks if isinstance(mark, Fault) and mark.access in ("w", None)]
    runs = [n for n in range(len(pages) - 63) if pages[n : n + 64] == list(range(pages[n], pages[n] + 64))]
    assert len(runs) >= 1
    if perf.mode.name == "tracepoints and locks":
        assert any(isinstance(mark, Locked) for mark in marks), "mmap takes the lock"


@pytest.mark.parametrize(
    ("cpus", "lockable", "kilobytes"),
    [
        (2, None, 8192),
        (64, None, 2048),
        (2, 516 << 11, 512),
        (2, (516 << 11) + (8 << 20), 4096),
        (2, (516 << 11) - 1, 256),
        (4, 1 << 10, 128),
    ],
    ids=["no-limit", "many-processors", "as-the-kernel-allows", "memlock-besides", "a-byte-less", "too-little"],
)
def test_the_buffers_are_as_large_as_is_allowed(cpus: int, lockable: int | None, kilobytes: int) -> None:
    """Powers of two with a page more for each processor fit in what may be locked, down to a least size."""
    assert buffer_kb(cpus, lockable) == kilobytes
