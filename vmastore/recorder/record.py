"""Recording a program, or a process that runs already: all of it first, the trace afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vmastore.recorder.job import run
from vmastore.recorder.plan import HOLD, Plan, of_command, of_process
from vmastore.recorder.result import Cost
from vmastore.recorder.session import Progress
from vmastore.recorder.spool import Spool
from vmastore.recorder.strace import Hold
from vmastore.recorder.trace import RecordedTrace

Out = Callable[[Progress], None]


class Recording(NamedTuple):
    """A finished recording. Its trace is still to be read: `trace.events()`."""

    trace: RecordedTrace
    status: int  # the program's exit status; 128 + N where signal N ended it
    signal: str | None  # the name of that signal
    interrupted: bool  # Ctrl-C, or a request to stop, came in between
    cost: Cost


def record(
    argv: Sequence[str],
    *,
    name: str,
    out: Out | None = None,
    faults: bool = True,
    hold: Hold = HOLD,
    seccomp: bool = True,
    check_every_s: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    spool_dir: str | None = None,
) -> Recording:
    """Run a program under strace, and return when it and all its descendants have ended.

    out: called ten times a second while the program runs. faults: record page faults, where perf may.
    seccomp: let only the traced calls stop the program (`strace --seccomp-bpf`): many times faster, but a
    setuid program then keeps its caller's rights. check_every_s: observe all address spaces this often.
    What was seen lies in a folder of TMPDIR until the trace is read; see `start` for what takes no room.
    Raises RecordError when strace or the program cannot be run.
    """
    plan = of_command(
        argv,
        name=name,
        faults=faults,
        hold=hold,
        seccomp=seccomp,
        check_every_s=check_every_s,
        env=env,
        cwd=cwd,
        spool_dir=spool_dir,
    )
    return _recording(plan, out)


def attach(
    pid: int,
    *,
    name: str,
    out: Out | None = None,
    faults: bool = True,
    hold: Hold = HOLD,
    check_every_s: float | None = None,
    duration_s: float | None = None,
    spool_dir: str | None = None,
) -> Recording:
    """Record a running process (all its threads, and its children to be) until it ends, or SIGINT comes.

    duration_s: detach after this time, counted from the first observation. The process goes on afterwards.
    Raises RecordError.
    """
    plan = of_process(
        pid,
        name=name,
        faults=faults,
        hold=hold,
        check_every_s=check_every_s,
        duration_s=duration_s,
        spool_dir=spool_dir,
    )
    return _recording(plan, out)


def _recording(plan: Plan, out: Out | None) -> Recording:
    spool = Spool(plan.job.spool_dir)
    try:
        result = run(plan.job, spool, out=out)
        plan.check(result)
    except BaseException:
        spool.close()
        raise
    trace = RecordedTrace(spool.messages(), plan.header, attached=plan.attached, close=spool.close, result=result)
    return Recording(trace, result.status, result.signal, result.interrupted, result.cost)
