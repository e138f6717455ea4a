"""The traces of docs/questions.md are what their script writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_examples_are_not_stale() -> None:
    """`python docs/examples.py` would change nothing."""
    command = [sys.executable, str(ROOT / "docs" / "examples.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
