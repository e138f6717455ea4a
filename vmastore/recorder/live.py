"""The live part of a recording as a process of its own, so that nothing else delays an observation.

Its arguments are two descriptors. The job comes as the first line of the second, then requests to stop; messages
go to the first.
"""

from __future__ import annotations

import json
import os
import sys

from vmastore.errors import RecordError
from vmastore.recorder import tape
from vmastore.recorder.job import Job, run
from vmastore.recorder.requests import Requests
from vmastore.recorder.spool import Spool


def command(out: int, control: int) -> list[str]:
    """The command line of this process, which finds this package where the caller did, whatever the folder holds."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from vmastore.recorder.live import record; record()"
    return [sys.executable, "-P", "-c", code, str(out), str(control)]


def record() -> None:
    """Record. Ctrl-C and SIGTERM are blocked until requests are taken, which come through the second descriptor."""
    out, control = int(sys.argv[1]), int(sys.argv[2])
    for descriptor in (out, control):
        os.set_inheritable(descriptor, False)
    job = Job.from_json(_line(control))
    messages = tape.PipeTape(out)
    try:
        spool, requests = Spool(job.spool_dir, messages), Requests(control)
        try:
            with requests.taken():  # before strace is started, which would inherit that they are blocked
                run(job, spool, requests=requests)
        finally:
            spool.close()
    except RecordError as error:
        messages.put(tape.FAILED, json.dumps([error.message, error.hint]).encode())
        messages.close()
    except BrokenPipeError:  # whoever wanted the recording is gone, and the program has been ended
        sys.exit(1)


def _line(descriptor: int) -> str:
    """The first line that comes."""
    text = b""
    while not text.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece:
            sys.exit(1)
        text += piece
    return text.decode()
