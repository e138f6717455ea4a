"""The stream of messages between the two parts of a recording."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from vmastore.recorder import tape


def test_a_message_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    """What was written comes back, in order; the end may be anywhere."""
    out = tape.FileTape(tmp_path / "tape")
    given = [(tape.LOG, b"one"), (tape.SHOT, b""), (tape.LOG, b"x" * 1000)]
    for message in given:
        out.put(*message)
    out.close()
    written = out.path.read_bytes()
    assert list(tape.messages(io.BytesIO(written))) == given
    for cut in (len(written) - 1, len(written) - 1000, len(written) - 1004):
        assert list(tape.messages(io.BytesIO(written[:cut]))) == given[:2]


def test_a_clock_comes_back() -> None:
    """All four facts."""
    clock = tape.Clock(1, 1 << 62, -5, True)
    assert tape.Clock.unpack(clock.pack()) == clock


def test_a_full_pipe_queues_what_comes() -> None:
    """put never waits; what has not been taken is counted, goes on in order, and is written in the end."""
    reader, writer = os.pipe()
    out = tape.PipeTape(writer)
    given = [(tape.LOG, bytes([n]) * 50_000) for n in range(10)]
    for message in given:
        out.put(*message)
    total = sum(5 + len(data) for _, data in given)
    with os.fdopen(reader, "rb") as stream:
        got = stream.read(total - out.queued)
        assert 0 < out.queued < total
        out.pump()
        while out.queued:
            got += stream.read(min(out.queued, 1 << 16) and 1 << 12)
            out.pump()
        out.close()
        os.close(writer)
        got += stream.read()
    assert list(tape.messages(io.BytesIO(got))) == given


def test_without_a_reader_it_fails_once() -> None:
    """The writer learns that nobody reads; what it writes while it cleans up is dropped."""
    reader, writer = os.pipe()
    out = tape.PipeTape(writer)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        out.put(tape.LOG, b"x")
    out.put(tape.LOG, b"y")
    assert out.queued == 0
    os.close(writer)
