"""Recording a program, or a process that runs already."""

from __future__ import annotations

import os
import shlex
import signal
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vmastore.errors import RecordError
from vmastore.events.types import TraceHeader
from vmastore.recorder import proc
from vmastore.recorder.session import Progress, Session
from vmastore.recorder.spool import Spool
from vmastore.recorder.strace import Hold, Strace, launched
from vmastore.recorder.system import system_config
from vmastore.recorder.trace import RecordedTrace

Out = Callable[[Progress], None]
HOLD = Hold()


class Cost(NamedTuple):
    """What recording cost."""

    wall_s: float  # from the program's start to its end
    strace_s: float  # processor time of strace
    program_s: float  # processor time of the program and its descendants, as far as they have ended; 0: attached
    holds: int  # times that all was stopped to be observed
    held_s: float  # time during which all was stopped to be observed
    lines: int  # of strace's log
    log_bytes: int
    observations: int
    missed: int  # observations that came too late: the process was gone
    late: int  # observations made when the program had gone on a little after its exec


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
    Raises RecordError when strace or the program cannot be run.
    """
    if not argv:
        raise RecordError("no command to record", hint="Give one after --, e.g.: vmastore record -- ls -l")
    strace = Strace()
    target = launched(argv, env)
    notes = _setuid_note(target[4])
    spool = Spool(spool_dir)
    try:
        command = strace.command(spool.fifo_path, hold, seccomp=seccomp, target=target)
        session = Session(command, spool, faults=faults, out=out, check_every_s=check_every_s, env=env, cwd=cwd)
        session.run()
        if not session.watch.launched:
            raise RecordError(
                f"{argv[0]} was not started (status {session.status})",
                hint="What strace or the system said stands above.",
            )
        return _recording(session, name, shlex.join(argv), {}, notes, system_config())
    except BaseException:
        spool.close()
        raise


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
    threads = proc.threads_of(pid)
    _check_attachable(pid, threads)
    strace = Strace()
    config = system_config(pid)  # its limits may not be ours, and it may be gone in the end
    spool = Spool(spool_dir)
    try:
        command = strace.command(spool.fifo_path, hold, seccomp=False, target=["-p", str(pid)])
        session = Session(
            command,
            spool,
            attached=pid,
            faults=faults,
            out=out,
            check_every_s=check_every_s,
            duration_s=duration_s,
        )
        session.run()
        if session.status not in (0, -signal.SIGTERM, 128 + signal.SIGTERM) and not spool.shots:
            raise RecordError(f"strace could not attach to process {pid}", hint="What it said stands above.")
        return _recording(session, name, f"pid:{pid}", {pid: threads}, [], config)
    except BaseException:
        spool.close()
        raise


def _check_attachable(pid: int, threads: list[int]) -> None:
    if not threads:
        raise RecordError(f"there is no process {pid}")
    tracer = proc.tracer_of(pid)
    if tracer:
        raise RecordError(f"process {pid} is traced by process {tracer} already", hint="Only one can trace it.")


def _setuid_note(path: str) -> list[str]:
    """A word about a program that should run with another user's rights, and cannot under a tracer."""
    mode = os.stat(path).st_mode
    if os.geteuid() == 0 or not mode & (stat.S_ISUID | stat.S_ISGID):
        return []
    return [f"{path} is setuid, which does not work under strace: it ran with its caller's rights (record as root)"]


def _recording(
    session: Session,
    name: str,
    source: str,
    attached: dict[int, list[int]],
    notes: list[str],
    config: dict[str, Any],
) -> Recording:
    status, spool, holder = session.status, session.spool, session.holder
    killed = -status if status < 0 and session.attached is None else 0
    cost = Cost(
        session.wall_s,
        session.strace_s,
        session.program_s,
        holder.holds,
        holder.held_s,
        session.watch.lines,
        spool.size,
        spool.shots,
        len(holder.missed),
        holder.late,
    )
    header = _header(session, name, source, notes, config)
    trace = RecordedTrace(spool, session.perf, header, attached=attached, ignore=(session.pid,))
    code = 128 + killed if killed else 0 if session.attached is not None else status
    return Recording(trace, code, signal.Signals(killed).name if killed else None, session.interrupted, cost)


def _header(session: Session, name: str, source: str, notes: list[str], config: dict[str, Any]) -> TraceHeader:
    system = os.uname()
    faults, why = _faults(session)
    notes = [*notes, *why, *_misses(session)]
    return TraceHeader(
        name,
        source,
        "record",
        system.release,
        system.version,
        config,
        faults,
        "; ".join(notes) or None,
    )


def _faults(session: Session) -> tuple[str, list[str]]:
    """How well page faults are known, and why not better."""
    perf = session.perf
    if perf is None:
        return "none", ["page faults were not recorded"]
    if perf.mode is None:
        return "none", [f"no page faults: {perf.why_not}"]
    if not perf.mode.tells_writes:
        return "partial", [f"page faults without a difference between write and read: {perf.why_not}"]
    return "recorded", []


def _misses(session: Session) -> list[str]:
    holder = session.holder
    notes = []
    for kind, count in sorted(Counter(point.kind for point in holder.missed).items()):
        notes.append(f"{count} observations at {kind} were missed")
    if holder.late:
        notes.append(f"{holder.late} observations at exec were made late")
    if holder.unread:
        notes.append(f"{len(holder.unread)} processes could not be read (another user's, or setuid)")
    return notes
