"""strace's command line, and finding programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vmastore.errors import RecordError
from vmastore.recorder.strace import Hold, Strace, launched, resolve

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def test_without_strace_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RecordError) as caught:
        Strace()
    assert "not installed" in caught.value.message and "apt-get install strace" in str(caught.value.hint)


@needs_strace
def test_strace_accepts_the_command_line(tmp_path: Path) -> None:
    """The options that are given are ones that this strace has, and give the log's expected form."""
    log = tmp_path / "log"
    line = Strace().command(log, Hold(1, 1), seccomp=True, target=launched(["true"]))
    assert subprocess.run(line, check=False).returncode == 0
    text = log.read_text()
    assert "(DELAYED)" in text and "exit_group(0) = ?" in " ".join(text.split())
    assert "--seccomp-bpf" not in Strace().command(log, Hold(), seccomp=True, target=["-p", "1"])


def test_a_command_is_looked_up_as_execvp_does(tmp_path: Path) -> None:
    """By PATH, or as a path, relative or not; the launcher gets an absolute one, whatever is in it."""
    assert resolve("sh") == shutil.which("sh")
    program = tmp_path / "a=b"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    assert resolve("a=b", {"PATH": str(tmp_path)}) == str(program)
    assert os.path.isabs(resolve(os.path.relpath(program)))
    assert subprocess.run(launched([str(program)])[1:], check=False).returncode == 7


@pytest.mark.parametrize("command", ["no-such-command-anywhere", "/no/such/path", ""], ids=["name", "path", "empty"])
def test_a_command_that_is_not_there_is_named(command: str) -> None:
    """The error names what was looked for."""
    with pytest.raises(RecordError, match="no such command"):
        resolve(command)


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    """Without permission to execute it is another error."""
    (tmp_path / "text").write_text("hello")
    with pytest.raises(RecordError, match="cannot be executed"):
        resolve(str(tmp_path / "text"))
    with pytest.raises(RecordError, match="cannot be executed"):
        resolve(f"{tmp_path}/")
