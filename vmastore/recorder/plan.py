"""Preparing a recording: what can be said of it, and refused, before anything runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

from vmastore.errors import RecordError
from vmastore.events.types import TraceHeader
from vmastore.recorder import proc, refusal
from vmastore.recorder.job import Job
from vmastore.recorder.result import Result
from vmastore.recorder.strace import Hold, Strace, launched
from vmastore.recorder.system import system_config


class Options(TypedDict, total=False):
    """How to record.

    faults: record page faults, where perf may. hold: how long strace holds a process to be observed. check_every_s:
    observe all address spaces this often. spool_dir: where the recording's folder is made, else in TMPDIR.
    """

    faults: bool
    hold: Hold
    check_every_s: float | None
    spool_dir: str | None


class CommandOptions(Options, total=False):
    """How to record a program.

    seccomp: let only the traced calls stop it (`strace --seccomp-bpf`): many times faster, but a setuid program then
    keeps its caller's rights. env, cwd: its environment and current folder, else ours.
    """

    seccomp: bool
    env: Mapping[str, str] | None
    cwd: str | Path | None


class ProcessOptions(Options, total=False):
    """How to record a process that runs. duration_s: detach after this time, counted from the first observation."""

    duration_s: float | None


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
            why = refusal.likely(pid)
            if why is not None:
                raise RecordError(why.message, hint=why.hint)
            raise RecordError(f"strace could not attach to process {pid}", hint="What it said stands above.")
        raise RecordError(
            f"{self.header.source} was not started (status {result.status})",
            hint="What strace or the system said stands above.",
        )


def of_command(argv: Sequence[str], *, name: str, **options: Unpack[CommandOptions]) -> Plan:
    """Recording a program. Raises RecordError when there is no strace, or no such program."""
    if not argv:
        raise RecordError("no command to record", hint="Give one after --, e.g.: vmastore record -- ls -l")
    Strace()
    job = Job(launched(argv, options.get("env")), **options)
    return Plan(job, _header(name, shlex.join(argv), job), {})


def of_process(pid: int, *, name: str, **options: Unpack[ProcessOptions]) -> Plan:
    """Recording a process that runs. Raises RecordError when there is no strace, or it cannot be attached to."""
    threads = proc.threads_of(pid)
    why_not = refusal.certain(pid)
    if why_not is not None:
        raise RecordError(why_not.message, hint=why_not.hint)
    Strace()
    job = Job(["-p", str(pid)], attached=pid, seccomp=False, **options)
    return Plan(job, _header(name, f"pid:{pid}", job), {pid: threads})


def _header(name: str, source: str, job: Job) -> TraceHeader:
    """An attached process's limits count now: they may not be ours, and it may be gone in the end."""
    system = os.uname()
    config, faults = system_config(job.attached), "partial" if job.faults else "none"
    return TraceHeader(name, source, "record", system.release, system.version, config, faults, None)
