"""What a recording came to, beside its events."""

from __future__ import annotations

import signal
from collections import Counter
from typing import Any, NamedTuple

from vmastore.recorder import rights
from vmastore.recorder.session import Session


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
    held_back: int  # times that the program was stopped until the store had caught up
    held_back_s: float


class Result(NamedTuple):
    """How a recording ended."""

    status: int  # the program's exit status; 128 + N where signal N ended it
    signal: str | None  # the name of that signal
    interrupted: bool  # Ctrl-C, or a request to stop, came in between
    faults: str  # "recorded", "partial", "none": how well page faults are known
    notes: list[str]  # for the trace's header
    launched: bool  # the program was started at all
    cost: Cost

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return self._asdict() | {"cost": list(self.cost)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Result:
        """What `to_json` gave."""
        return cls(**(value | {"cost": Cost(*value["cost"])}))


def result_of(session: Session) -> Result:
    """What a session came to that has run."""
    status, holder, attached = session.status, session.holder, session.attached is not None
    killed = -status if status < 0 and not attached else 0
    cost = Cost(
        session.wall_s,
        session.strace_s,
        session.program_s,
        holder.holds,
        holder.held_s,
        session.watch.lines,
        session.spool.size,
        session.spool.shots,
        len(holder.missed),
        holder.late,
        session.held_back,
        session.held_back_s,
    )
    faults, notes = _faults(session)
    return Result(
        128 + killed if killed else 0 if attached else status,
        signal.Signals(killed).name if killed else None,
        session.interrupted,
        faults,
        notes + _misses(session),
        session.watch.launched and not (attached and _never_attached(session)),
        cost,
    )


def _never_attached(session: Session) -> bool:
    return session.status not in (0, -signal.SIGTERM, 128 + signal.SIGTERM) and not session.spool.shots


def _faults(session: Session) -> tuple[str, list[str]]:
    """How well page faults are known, and why not better."""
    perf = session.perf
    if perf is None:
        return "none", ["page faults were not recorded"]
    if perf.mode is None:
        return "partial", [f"no page faults ({perf.why_not}) but what read and the like wrote"]
    if not perf.mode.tells_writes:
        return "partial", [f"page faults without a difference between write and read: {perf.why_not}"]
    if perf.uncounted:
        return "partial", [
            f"page faults of up to {perf.uncounted} threads are missing: they began while it was attached to"
        ]
    return "recorded", []


def _misses(session: Session) -> list[str]:
    holder = session.holder
    notes = []
    for kind, count in sorted(Counter(point.kind for point in holder.missed).items()):
        notes.append(f"{count} observations at {kind} were missed")
    if holder.late:
        notes.append(f"{holder.late} observations at exec were made late")
    lost = rights.note(holder.withheld)
    if lost is not None:
        notes.append(lost)
    if holder.unread:
        notes.append(f"{len(holder.unread)} processes could not be read (another user's, or setuid)")
    return notes
