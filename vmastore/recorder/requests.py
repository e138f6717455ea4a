"""Requests to stop (Ctrl-C, SIGTERM), taken instead of suffered."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Requests:
    """The requests that have come since `taken()` was entered, to be popped from `come`.

    control: a pipe through which they come, a byte with the signal's number each; signals themselves are then
    passed over. None: there is no such pipe.
    """

    def __init__(self, control: int | None = None) -> None:
        self.come: deque[int] = deque()
        self._control = control
        if control is not None:
            os.set_blocking(control, False)

    def descriptors(self) -> list[int]:
        """Ready to be read when there may be something for `listen`."""
        return [] if self._control is None else [self._control]

    def listen(self) -> None:
        """Take what came through the pipe. Raises BrokenPipeError when its other end is gone."""
        if self._control is None:
            return
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(self._control, 64)
            if not numbers:
                raise BrokenPipeError("nobody wants the recording any more")
            self.come.extend(numbers)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """While inside, signals are noted; only the main thread may handle signals, any other gets none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in _STOPS}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)  # blocked until here, where another process started us
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: object) -> None:
        if self._control is None:
            self.come.append(number)
