"""Holding processes while they are read."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vmastore.recorder import proc, tape
from vmastore.recorder.hold import Holder
from vmastore.recorder.proc import parse_raw
from vmastore.recorder.spool import Shot, Spool, read_shot
from vmastore.recorder.watch import Point, Watch


def _shots(spool: Spool) -> list[tuple[Shot, bytes]]:
    spool.finish()
    return [read_shot(data) for kind, data in spool.messages() if kind == tape.SHOT]


def _processes(count: int) -> list[subprocess.Popen[bytes]]:
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(count)]
    for process in started:
        assert proc.wait_state(process.pid, "S", 60)
    return started


def test_the_tracer_is_stopped_for_the_reading_and_goes_on_after(tmp_path: Path) -> None:
    """Each point gives one observation, at the size of the log when all that was written had been read."""
    tracer, first, second = _processes(3)
    spool = Spool(str(tmp_path))
    states: list[str] = []

    def drain() -> list[Point]:
        states.append(proc.state_of(tracer.pid))
        spool.write(b"x" * 10)
        return [Point("check", second.pid)]

    try:
        holder = Holder(tracer.pid, Watch(launched=True), spool, drain)
        holder.take([Point("check", first.pid)])
        assert states == [proc.STOPPED]
        assert proc.wait_state(tracer.pid, "S", 60)
        spool.finish()
        shots = list(_shots(spool))
        assert [(shot.pid, shot.offset, shot.steady) for shot, _ in shots] == [
            (first.pid, 10, True),
            (second.pid, 10, True),
        ]
        assert parse_raw(shots[0][1], "x") == proc.snapshot(first.pid)
        assert (holder.missed, holder.late, holder.holds) == ([], 0, 1) and holder.held_s > 0
    finally:
        for process in (tracer, first, second):
            process.kill()
            process.wait()
        spool.close()


def test_what_cannot_be_read_is_counted_as_missed(tmp_path: Path) -> None:
    """A process that is gone, one that is past its exit, and all of them when the tracer is gone."""
    tracer, alive = _processes(2)
    spool = Spool(str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    try:
        holder = Holder(tracer.pid, Watch(launched=True), spool, list)
        holder.take([Point("exec", gone.pid), Point("exit", alive.pid)])
        assert holder.missed == [Point("exec", gone.pid), Point("exit", alive.pid)]
        holder.take([Point("exec", alive.pid)])
        assert holder.late == 1, "it is not held, but can be read"
        tracer.kill()
        tracer.wait()
        holder.take([Point("check", alive.pid)])
        assert holder.missed[-1] == Point("check", alive.pid) and spool.shots == 1
    finally:
        for process in (tracer, alive):
            process.kill()
            process.wait()
        spool.close()


def test_a_process_just_attached_to_is_read_when_each_thread_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that sleeps or computes has been let go by the tracer; one that is stopped otherwise is doubtful."""
    tracer, asleep, stopped = _processes(3)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    stopped.send_signal(signal.SIGSTOP)
    assert proc.wait_state(stopped.pid, proc.STOPPED, 60)
    spool = Spool(str(tmp_path))
    try:
        holder = Holder(tracer.pid, Watch(launched=True), spool, list)
        for process, patience in ((asleep, 60.0), (busy, 60.0), (stopped, 0.05)):
            monkeypatch.setattr("vmastore.recorder.hold._SETTLE_S", patience)
            holder.take([Point("attach", process.pid)])
        spool.finish()
        assert [shot.doubtful for shot, _ in _shots(spool)] == [[], [], [stopped.pid]]
    finally:
        for process in (tracer, asleep, stopped, busy):
            process.kill()
            process.wait()
        spool.close()


def test_a_program_executed_twice_since_is_missed_once(tmp_path: Path) -> None:
    """Two points of one thread in one look at the log: only the last can be what the process shows now."""
    tracer, alive = _processes(2)
    spool = Spool(str(tmp_path))
    try:
        holder = Holder(tracer.pid, Watch(launched=True), spool, list)
        holder.take([Point("exec", alive.pid, 10), Point("exec", alive.pid, 20)])
        assert holder.missed == [Point("exec", alive.pid, 10)] and spool.shots == 1
        holder.take([Point("check", alive.pid), Point("check", alive.pid)])
        assert spool.shots == 2, "once is enough"
    finally:
        for process in (tracer, alive):
            process.kill()
            process.wait()
        spool.close()
