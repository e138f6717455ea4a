"""The live part of a recording, with something else in strace's place."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vmastore.recorder import proc, tape
from vmastore.recorder.session import Progress, Session
from vmastore.recorder.spool import Spool

WRITER = """
import fcntl, struct, sys, termios
with open(sys.argv[1], "wb", buffering=0) as log:
    program = b', []) = 0 <0.1>\\n7 1.2 execve("/bin/x", []) = 0 <0.1>\\n'
    for piece in [b'7 1.1 execve("/bin/nice"', program, b"7 1.3 +++ ex"]:
        log.write(piece)
        while struct.unpack("i", fcntl.ioctl(log, termios.FIONREAD, b"0000"))[0]:
            pass  # until it has been read
sys.exit(3)
"""


def _session(spool: Spool, *command: str, **options: object) -> Session:
    return Session(command, spool, faults=False, **options)  # type: ignore[arg-type]


def test_the_log_is_read_until_its_writer_is_gone(tmp_path: Path) -> None:
    """All that is written after the launcher's lines is spooled, the last half line too, and progress told."""
    seen: list[Progress] = []
    spool = Spool(str(tmp_path))
    session = _session(spool, sys.executable, "-c", WRITER, str(spool.fifo_path), out=seen.append)
    session.run()
    spool.finish()
    messages = list(spool.messages())
    log = b"".join(data for kind, data in messages if kind == tape.LOG)
    assert log == b'7 1.2 execve("/bin/x", []) = 0 <0.1>\n7 1.3 +++ ex'
    assert (session.status, session.watch.launched, session.watch.first_tid) == (3, True, 7)
    assert seen and seen[-1].seconds > 0 and session.wall_s > 0
    assert [kind for kind, _ in messages[:2]] == [tape.CLOCK, tape.LAYOUT] and messages[-1][0] == tape.CLOCK
    spool.close()


def test_a_writer_that_never_comes_ends_the_session(tmp_path: Path) -> None:
    """If strace ends before it opens its log there is nothing to wait for."""
    spool = Spool(str(tmp_path))
    session = _session(spool, sys.executable, "-c", "import sys; sys.exit(4)")
    session.run()
    assert (session.status, session.watch.launched, spool.size) == (4, False, 0)
    spool.close()


@pytest.mark.parametrize("late", ["", "time.sleep(1.5)"], ids=["at once", "opening late"])
def test_an_error_of_ours_leaves_nothing_running(tmp_path: Path, late: str) -> None:
    """When reading fails, the writer is not left behind, not even one that has yet to open the log."""

    def fail(progress: Progress) -> None:
        raise RuntimeError("no terminal")

    spool = Spool(str(tmp_path))
    writer = f"import time; {late}\n{WRITER}"
    session = _session(spool, sys.executable, "-c", writer, str(spool.fifo_path), out=fail)
    with pytest.raises(RuntimeError, match="no terminal"):
        session.run()
    assert session.status != 0 and proc.state_of(session.pid) == ""
    spool.close()


LINES = """
import sys
with open(sys.argv[1], "wb", buffering=0) as log:
    for n in range(2000):
        log.write(b"7 1.%09d brk(NULL) = 0x55 <0.000000001>\\n" % n * 10)
"""


def test_a_program_that_is_too_fast_is_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody takes the messages no more than so much waits; it is counted, and all comes in the end."""
    monkeypatch.setattr("vmastore.recorder.session._QUEUE", 1 << 17)
    reader, writer = os.pipe()
    out = tape.PipeTape(writer)
    spool = Spool(str(tmp_path), out)
    session = _session(spool, sys.executable, "-c", LINES, str(spool.fifo_path), attached=os.getpid())
    most = 0

    def read() -> bytes:
        nonlocal most
        while not session.held_back:
            time.sleep(0.001)
        got = b""
        with os.fdopen(reader, "rb", buffering=0) as stream:
            while piece := stream.read(1 << 12):
                most = max(most, out.queued)
                got += piece
        return got

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        session.run()
        spool.finish()
        os.close(writer)
        messages = list(tape.messages(io.BytesIO(reading.result())))
    log = b"".join(data for kind, data in messages if kind == tape.LOG)
    assert log.count(b"\n") == 20_000 and session.held_back >= 1 and session.held_back_s > 0
    assert most < (1 << 17) + 3 * (1 << 20), "what is queued is bounded by the limit and by what a pipe holds"
    spool.close()


IN_FLIGHT = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCONT, signal.SIGTERM])
with open(sys.argv[1], "wb", buffering=0) as log:
    log.write(b"7 1.0 mmap(NULL, 4096, 3, 0x22, -1, 0 <unfinished ...>\\n9 1.0 wait4(-1,  <unfinished ...>\\n")
    log.write(b"8 1.1 munmap(0x7000, 4096")
    signal.sigwait([signal.SIGCONT])  # it was stopped to be observed
    returned = b"7 1.2 <... mmap resumed>) = 0x8000 <0.2>\\n8 1.3 <... munmap resumed>) = 0 <0.2>\\n"
    for rest in (b" <unfinished ...>\\n", returned):
        if signal.sigtimedwait([signal.SIGTERM], 0.3):
            sys.exit(1)
        log.write(rest)
    signal.sigwait([signal.SIGTERM])
"""


def test_what_the_last_observation_saw_done_returns_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call in flight, and one whose line is not complete, return before strace is told to let go; not a wait."""
    monkeypatch.setattr("vmastore.recorder.session._RETURN_S", 60)

    def out(progress: Progress) -> None:
        if progress.lines == 2 and not session.interrupted:
            os.kill(os.getpid(), signal.SIGINT)

    spool = Spool(str(tmp_path))
    session = _session(spool, sys.executable, "-c", IN_FLIGHT, str(spool.fifo_path), attached=os.getpid(), out=out)
    session.run()
    assert session.status == 0 and session.watch.lines == 5 and session.interrupted
    spool.close()
