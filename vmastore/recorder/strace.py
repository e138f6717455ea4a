"""Running strace: which options it understands, and what it is asked to trace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vmastore.errors import RecordError
from vmastore.recorder.copies import COPYING
from vmastore.recorder.traced import KNOWS_ALL, traced

_NO_STRACE = "strace is not installed"
_INSTALL = "Install it: apt-get install strace (Debian, Ubuntu), dnf install strace (Fedora)."


class Hold(NamedTuple):
    """How long strace holds a process for its observation, in microseconds.

    Shorter at exec: a failed execve is held too, and an observation that comes late is good as well, though
    the calls before it then stand before the baseline. After exit_group there is nothing left to observe.
    """

    exec_us: int = 5_000
    exit_us: int = 20_000


class Strace:
    """The strace of this machine. Raises RecordError when there is none."""

    def __init__(self) -> None:
        path = shutil.which("strace")
        if path is None:
            raise RecordError(_NO_STRACE, hint=_INSTALL)
        self.path = path
        self.version = _version(path)

    def command(
        self, output: Path, hold: Hold, *, seccomp: bool, target: Sequence[str], copies: bool = False
    ) -> list[str]:
        """The command line. target: what to trace, `-p PID` or a command and its arguments.

        copies: trace the calls of COPYING too, with their raw arguments.
        """
        line = [self.path, "-f", "-q", "-y", "-s", "256", "-o", str(output), *self._times()]
        if seccomp and target[0] != "-p" and self.version >= (5, 3):
            line.append("--seccomp-bpf")
        line += ["-e", f"trace={traced(copies=copies, by_name=self.version >= KNOWS_ALL)}"]
        if copies:
            line += ["-e", f"raw={COPYING}"]
        line += ["-e", f"inject=execve,?execveat:delay_exit={hold.exec_us}"]
        line += ["-e", f"inject=exit_group:delay_enter={hold.exit_us}"]
        return line + list(target)

    def _times(self) -> list[str]:
        if self.version >= (5, 6):
            return ["--absolute-timestamps=format:unix,precision:ns", "--syscall-times=ns"]
        return ["-ttt", "-T"]


def _version(path: str) -> tuple[int, int]:
    try:
        text = subprocess.run([path, "-V"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RecordError(f"{path} cannot be run: {error}") from None
    found = re.search(r"version (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def resolve(command: str, env: Mapping[str, str] | None = None) -> str:
    """The path of a command, as execvp finds it. Raises RecordError."""
    path = (os.environ if env is None else env).get("PATH", os.defpath)
    found = shutil.which(command, path=path)
    if found is not None:
        return os.path.abspath(found)
    if os.sep in command and os.path.exists(command):
        raise RecordError(f"{command}: cannot be executed (a directory, or without permission)")
    raise RecordError(f"{command}: no such command", hint="Give the program as on a shell's command line, after --.")


def launched(argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
    """`argv` behind a launcher, since strace cannot hold a process at the first exec, which is its own.

    `nice -n 0` changes nothing and starts at once. It sees the command's path, already looked up, so that
    no failed execve of a search is held either.
    """
    launcher = shutil.which("nice") or "/usr/bin/nice"
    return ["--", launcher, "-n", "0", resolve(argv[0], env), *argv[1:]]
