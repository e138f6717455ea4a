"""The live part of a recording, with something else in strace's place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vmastore.recorder import proc
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
    assert spool.log_path.read_bytes() == b'7 1.2 execve("/bin/x", []) = 0 <0.1>\n7 1.3 +++ ex'
    assert (session.status, session.watch.launched, session.watch.first_tid) == (3, True, 7)
    assert seen and seen[-1].seconds > 0 and session.wall_s > 0 and len(spool.clock) >= 2
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
