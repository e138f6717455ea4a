"""Recording page faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from vmastore.importers.faults import Fault, Locked
from vmastore.recorder import proc
from vmastore.recorder.perf import Layout, Perf, buffer_kb
from vmastore.recorder.records import Decoder

PROGRAM = """
import mmap, sys
sys.stdin.read(1)
memory = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(64):
    memory[page * 4096] = 1
"""


TOUCH = """
import mmap, sys
memory = mmap.mmap(-1, 8192 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
while sys.stdin.buffer.read(1):
    for page in range(0, len(memory), 4096):
        memory[page] = 1
    memory.madvise(mmap.MADV_DONTNEED)
    sys.stdout.buffer.write(b"y")
    sys.stdout.buffer.flush()
"""


def test_a_process_that_cannot_be_counted_gives_a_reason() -> None:
    """The kernel's own words say why, and nothing is left open."""
    before = len(os.listdir("/proc/self/fd"))
    perf = Perf()
    perf.start(1 << 22)
    assert perf.mode is None and "No such process" in str(perf.why_not)
    assert perf.drain() == b"" and len(os.listdir("/proc/self/fd")) == before
    perf.stop()


def test_each_page_touched_is_a_fault() -> None:
    """64 pages written give 64 faults of that process on consecutive pages, once each, in the order of time."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE)
    perf = Perf()
    try:
        perf.start(process.pid)
        if perf.layout is None:
            pytest.skip(f"page faults may not be recorded here: {perf.why_not}")
        process.communicate(b"x")
        decoder = Decoder(Layout.from_json(json.loads(json.dumps(perf.layout.to_json()))))
        marks = sorted(decoder.marks(perf.drain()), key=lambda mark: mark.time_ns)
        assert perf.drain() == b"", "what was read is not given again"
    finally:
        process.kill()
        perf.stop()
    assert {mark.pid for mark in marks} == {process.pid} and decoder.lost == 0
    pages = [mark.addr >> 12 for mark in marks if isinstance(mark, Fault) and mark.access in ("w", None)]
    runs = [n for n in range(len(pages) - 63) if pages[n : n + 64] == list(range(pages[n], pages[n] + 64))]
    assert len(runs) >= 1
    if perf.mode is not None and perf.mode.locks:
        assert any(isinstance(mark, Locked) for mark in marks), "mmap takes the lock"


def test_a_buffer_goes_round() -> None:
    """More records than the buffer holds come whole, as long as it is read in time; else the loss is counted."""
    process = subprocess.Popen([sys.executable, "-c", TOUCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    perf = Perf()
    try:
        perf.start(process.pid)
        if perf.layout is None:
            pytest.skip(f"page faults may not be recorded here: {perf.why_not}")
        decoder = Decoder(perf.layout)
        seen: list[int] = []
        assert process.stdin is not None and process.stdout is not None
        for _ in range(80):
            process.stdin.write(b"x")
            process.stdin.flush()
            assert process.stdout.read(1) == b"y"
            seen.append(sum(isinstance(mark, Fault) for mark in decoder.marks(perf.drain())))
        assert min(seen) >= 8192 and decoder.lost == 0
        record = 56 if perf.mode is not None and perf.mode.tells_writes else 32
        assert sum(seen) * record > len(perf.descriptors()) * buffer_kb(len(perf.descriptors()), None) << 10
    finally:
        process.kill()
        perf.stop()


def test_the_kernel_stops_the_tracer_when_a_program_is_executed() -> None:
    """The process named is stopped at each exec of the one that is counted, and it is told which thread that was."""
    program = "import os, sys; sys.stdin.read(1); os.execvp('sleep', ['sleep', '60'])"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    tracer = subprocess.Popen(["sleep", "60"])
    perf = Perf()
    try:
        perf.start(process.pid, tracer=tracer.pid)
        if perf.mode is None or not perf.mode.tells_writes:
            pytest.skip(f"tracepoints may not be used here: {perf.why_not}")
        assert perf.executed() == [] and proc.state_of(tracer.pid) != proc.STOPPED
        assert process.stdin is not None
        process.stdin.close()
        assert proc.wait_state(tracer.pid, proc.STOPPED, 60)
        assert perf.executed() == [process.pid] and perf.executed() == []
    finally:
        perf.stop()
        for each in (process, tracer):
            each.kill()
            each.wait()


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
