"""The documentation is true: commands run and print what it says, pages are generated, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def sessions(page: Path) -> list[list[tuple[str, list[str]]]]:
    """The ```console blocks of a page: lists of (command, lines of output)."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.S):
        steps: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            else:
                steps[-1][1].append(line)
        found.append(steps)
    return found


def agrees(expected: list[str], got: list[str]) -> bool:
    """Whether the output is as documented; a line `…` stands for any lines."""
    if "…" not in expected:
        return expected == got
    cut = expected.index("…")
    return expected[:cut] == got[:cut] and (cut == len(expected) - 1 or agrees_tail(expected[cut + 1 :], got[cut:]))


def agrees_tail(expected: list[str], got: list[str]) -> bool:
    return any(agrees(expected, got[n:]) for n in range(len(got) + 1))


@pytest.mark.parametrize("page", [p for p in PAGES if sessions(p)], ids=lambda p: p.name)
def test_documented_sessions(page: Path, tmp_path: Path) -> None:
    """Every command of a console block succeeds and prints what the page says."""
    for number, steps in enumerate(sessions(page)):
        env = {**os.environ, "VMASTORE_STORE": str(tmp_path / f"{number}.db")}
        for command, expected in steps:
            words = shlex.split(command)
            assert words[0] == "vmastore", command
            run = [sys.executable, "-c", "from vmastore.cli.main import main; main()", *words[1:]]
            done = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True)
            assert done.returncode in (0, 1), (command, done.stderr)
            assert "Error" not in done.stderr, (command, done.stderr)
            assert agrees([e.rstrip() for e in expected], [g.rstrip() for g in done.stdout.splitlines()]), (
                command,
                done.stdout,
            )


def test_generated_pages_are_fresh() -> None:
    """docs/reference.md and docs/schema.md are what `make docs` would write."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files that exist."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_command_has_an_example() -> None:
    """Each command's help ends in an example."""
    text = (ROOT / "docs" / "reference.md").read_text()
    for section in text.split("\n## ")[1:]:
        name = section.splitlines()[0]
        assert "Example" in section, name


def test_nothing_names_a_private_place() -> None:
    """Tracked text names no path of the machine it was written on."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    for name in listing:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".ini", ""} and path.is_file() and path.name != "test_docs.py":
            assert "/work/" + "main" not in path.read_text(errors="replace"), name
