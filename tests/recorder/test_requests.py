"""Requests to stop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from vmastore.recorder.requests import Requests


def test_signals_are_noted_inside_and_work_as_before_outside() -> None:
    """SIGINT and SIGTERM raise nothing while they are taken, and do again afterwards."""
    requests = Requests()
    with requests.taken():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert sorted(requests.come) == [signal.SIGINT, signal.SIGTERM]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_another_thread_handles_no_signals() -> None:
    """Outside of the main thread nothing is installed, and nothing fails."""
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def run() -> None:
        with Requests().taken():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
