"""Preparing a recording: what can be said of it, and refused, before anything runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vmastore.errors import RecordError
from vmastore.events.types import TraceHeader
from vmastore.recorder import proc
from vmastore.recorder.job import Job
from vmastore.recorder.result import Result
from vmastore.recorder.strace import Hold, Strace, launched
from vmastore.recorder.system import system_config

HOLD = Hold()


class Plan(NamedTuple):
    """A recording to be made. attached: the processes there were before it, with their threads."""

    job: Job
    header: TraceHeader
    attached: dict[int, list[int]]

    def check(self, result: Result) -> None:
        """Raises RecordError if nothing was recorded at all."""
        if result.launched:
            return
        if self.attached:
            pid = next(iter(self.attached))
            raise RecordError(f"strace could not attach to process {pid}", hint="What it said stands above.")
        raise RecordError(
            f"{self.header.source} was not started (status {result.status})",
            hint="What strace or the system said stands above.",
        )


def of_command(
    argv: Sequence[str],
    *,
    name: str,
    faults: bool = True,
    hold: Hold = HOLD,
    seccomp: bool = True,
    check_every_s: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    spool_dir: str | None = None,
) -> Plan:
    """Recording a program. Raises RecordError when there is no strace, or no such program."""
    if not argv:
        raise RecordError("no command to record", hint="Give one after --, e.g.: vmastore record -- ls -l")
    Strace()
    target = launched(argv, env)
    job = Job(
        target,
        faults=faults,
        hold=hold,
        seccomp=seccomp,
        check_every_s=check_every_s,
        env=None if env is None else dict(env),
        cwd=None if cwd is None else str(cwd),
        spool_dir=spool_dir,
    )
    return Plan(job, _header(name, shlex.join(argv), None, faults), {})


def of_process(
    pid: int,
    *,
    name: str,
    faults: bool = True,
    hold: Hold = HOLD,
    check_every_s: float | None = None,
    duration_s: float | None = None,
    spool_dir: str | None = None,
) -> Plan:
    """Recording a process that runs. Raises RecordError when there is no strace, or it cannot be attached to."""
    threads = proc.threads_of(pid)
    if not threads:
        raise RecordError(f"there is no process {pid}")
    tracer = proc.tracer_of(pid)
    if tracer:
        raise RecordError(f"process {pid} is traced by process {tracer} already", hint="Only one can trace it.")
    Strace()
    job = Job(
        ["-p", str(pid)],
        attached=pid,
        faults=faults,
        hold=hold,
        seccomp=False,
        check_every_s=check_every_s,
        duration_s=duration_s,
        spool_dir=spool_dir,
    )
    return Plan(job, _header(name, f"pid:{pid}", pid, faults), {pid: threads})


def _header(name: str, source: str, pid: int | None, faults: bool) -> TraceHeader:
    """pid: the process whose limits count: they may not be ours, and it may be gone in the end."""
    system = os.uname()
    config = system_config(pid)
    return TraceHeader(
        name, source, "record", system.release, system.version, config, "partial" if faults else "none", None
    )
