"""What is to be recorded, and running it: the part of a recording that goes on while the program runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vmastore.recorder import tape
from vmastore.recorder.perf import tells_writes
from vmastore.recorder.requests import Requests
from vmastore.recorder.result import Result, result_of
from vmastore.recorder.session import Progress, Session
from vmastore.recorder.spool import Spool
from vmastore.recorder.strace import Hold, Strace


class Job(NamedTuple):
    """What to record; all of it can be written as JSON.

    target: what strace is to trace, `-p PID` or a command and its arguments. attached: the process of `-p`.
    """

    target: list[str]
    attached: int | None = None
    faults: bool = True
    hold: Hold = Hold()
    seccomp: bool = True
    check_every_s: float | None = None
    duration_s: float | None = None
    env: Mapping[str, str] | None = None
    cwd: str | Path | None = None
    spool_dir: str | None = None

    def to_json(self) -> str:
        """As one JSON document."""
        env, cwd = None if self.env is None else dict(self.env), None if self.cwd is None else str(self.cwd)
        return json.dumps(self._asdict() | {"hold": list(self.hold), "env": env, "cwd": cwd})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What `to_json` gave."""
        value: dict[str, Any] = json.loads(text)
        return cls(**(value | {"hold": Hold(*value["hold"])}))


def run(
    job: Job,
    spool: Spool,
    *,
    out: Callable[[Progress], None] | None = None,
    requests: Requests | None = None,
) -> Result:
    """Record into the spool until the program has ended, or the process was let go. Raises RecordError."""
    copies = job.faults and not tells_writes()
    command = Strace().command(spool.fifo_path, job.hold, seccomp=job.seccomp, target=job.target, copies=copies)
    session = Session(
        command,
        spool,
        attached=job.attached,
        faults=job.faults,
        out=out,
        check_every_s=job.check_every_s,
        duration_s=job.duration_s,
        env=job.env,
        cwd=job.cwd,
        requests=requests,
        copies=copies,
    )
    session.run()
    result = result_of(session)
    spool.tape.put(tape.END, json.dumps(result.to_json()).encode())
    spool.finish()
    return result
