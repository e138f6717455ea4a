"""Recording a program, or a process that runs already: all of it first, the trace afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Unpack

from vmastore.recorder.job import run
from vmastore.recorder.plan import CommandOptions, Plan, ProcessOptions, of_command, of_process
from vmastore.recorder.result import Cost
from vmastore.recorder.session import Progress
from vmastore.recorder.spool import Spool
from vmastore.recorder.trace import RecordedTrace

Out = Callable[[Progress], None]


class Recording(NamedTuple):
    """A finished recording. Its trace is still to be read: `trace.events()`."""

    trace: RecordedTrace
    status: int  # the program's exit status; 128 + N where signal N ended it
    signal: str | None  # the name of that signal
    interrupted: bool  # Ctrl-C, or a request to stop, came in between
    cost: Cost


def record(argv: Sequence[str], *, name: str, out: Out | None = None, **options: Unpack[CommandOptions]) -> Recording:
    """Run a program under strace, and return when it and all its descendants have ended.

    out: called ten times a second while the program runs. options: see `CommandOptions`.
    What was seen lies in a folder of TMPDIR until the trace is read; `Live` takes no room.
    Raises RecordError when strace or the program cannot be run.
    """
    return _recording(of_command(argv, name=name, **options), out)


def attach(pid: int, *, name: str, out: Out | None = None, **options: Unpack[ProcessOptions]) -> Recording:
    """Record a running process (all its threads, and its children to be) until it ends, or SIGINT comes.

    options: see `ProcessOptions`. The process goes on afterwards. Raises RecordError.
    """
    return _recording(of_process(pid, name=name, **options), out)


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
