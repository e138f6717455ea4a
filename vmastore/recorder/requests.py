"""Requests to stop (Ctrl-C, SIGTERM), taken instead of suffered."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import deque
from collections.abc import Iterator

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Requests:
    """The requests that have come since `taken()` was entered, to be popped from `come`."""

    def __init__(self) -> None:
        self.come: deque[int] = deque()

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """While inside, signals are noted; only the main thread may handle signals, any other gets none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in _STOPS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: object) -> None:
        self.come.append(number)
