"""Recording straight into a store: the trace is made while the program runs, and nothing waits on disk."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, BinaryIO

from vmastore.errors import RecordError
from vmastore.events.types import Event
from vmastore.recorder import tape
from vmastore.recorder.live import command
from vmastore.recorder.plan import Plan
from vmastore.recorder.result import Result
from vmastore.recorder.trace import RecordedTrace

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Live:
    """A recording that runs in a process of its own. To be used in a `with` statement.

    `trace.batches()` gives the events as they come, and ends when the recording has; `result` is then known.
    Leaving it earlier ends the program (lets an attached process go). While inside, Ctrl-C and SIGTERM are
    passed on to the recording, which ends in order.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self._stream: BinaryIO | None = None
        self._control = -1
        self._before: dict[int, Any] = {}
        self._early: list[int] | None = []  # requests that came before the job was handed over, which is first
        self.trace = RecordedTrace(self._messages(), plan.header, attached=plan.attached, forget=True)

    def __enter__(self) -> Live:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._pass_on) for number in _STOPS}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # which the process inherits: `Requests` takes them
        try:
            self._start()
        except BaseException:
            self._restore()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        early, self._early = self._early or [], None
        for number in early:
            self._pass_on(number, None)
        return self

    def _start(self) -> None:
        read, write = os.pipe()
        heard, self._control = os.pipe()
        try:
            self._process = subprocess.Popen(command(write, heard), pass_fds=(write, heard))
        finally:
            os.close(write)
            os.close(heard)
        self._stream = os.fdopen(read, "rb", buffering=1 << 20)
        os.write(self._control, self._plan.job.to_json().encode() + b"\n")

    def __exit__(self, *_: object) -> None:
        os.close(self._control)
        if self._stream is not None:
            self._stream.close()
        assert self._process is not None
        self._process.wait()
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._early is not None:
            self._early.append(number)
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, bytes([number]))

    def batches(self, tick: Callable[[int], None] = lambda lines: None) -> Iterator[list[Event]]:
        """The trace's events as they come. tick: told how many lines strace has written. Raises RecordError."""
        for batch in self.trace.batches():
            tick(self.trace.log_lines)
            yield batch

    def _messages(self) -> Iterator[tape.Message]:
        assert self._stream is not None
        for kind, data in tape.messages(self._stream):
            if kind == tape.FAILED:
                message, hint = json.loads(data)
                raise RecordError(message, hint=hint)
            yield kind, data

    @property
    def result(self) -> Result:
        """How the recording ended. Raises RecordError if it did not end as it should, or nothing was recorded."""
        result = self.trace.result
        if result is None:
            raise RecordError("the recording was killed", hint="What had been stored until then is kept.")
        self._plan.check(result)
        return result
