"""A trace and a file of one name (a program beside its recording): a plain word is the trace, ./NAME the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_cli import SAMPLE, Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A store with the trace `prog`, beside a file `prog` that is no recording."""
    shell = Shell(tmp_path)
    shell.ok("import", SAMPLE, "--name", "prog")
    shutil.copy("/bin/true", tmp_path / "prog")
    return shell


def test_plain_word_is_the_trace(shell: Shell) -> None:
    """verify and the analyses that take either read the stored trace."""
    assert json.loads(shell.ok("verify", "prog", "--json"))["events"] > 0
    assert json.loads(shell.ok("headroom", "prog", "--json")) == json.loads(shell.ok("headroom", "prog@-1", "--json"))


def test_path_is_the_file(shell: Shell) -> None:
    """With a folder in front of it the file is meant, and named in the error."""
    assert "ELF file" in shell.fails("verify", "./prog")


def test_file_alone_is_read(tmp_path: Path) -> None:
    """Where no store or no such trace exists, a plain word is the file."""
    shell = Shell(tmp_path)
    shutil.copy(SAMPLE, tmp_path / "run.jsonl.gz")
    assert json.loads(shell.ok("verify", "run.jsonl.gz", "--json"))["events"] > 0
