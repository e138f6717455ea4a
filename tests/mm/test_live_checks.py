"""100 observed outcomes on each of five kernels: the engine predicts every one from the calls alone."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from checks import SCENARIOS, Check, Live

from vmastore.mm.mm import Config

KERNELS = ("6.1", "6.8", "6.12", "6.18", "7.3")
DATA = Path(__file__).parent.parent / "data" / "live-checks"
_CHECK = re.compile(r"(?:ok  |DIFF) (\S+) .*? got (-?\d+) want -?\d+ (.*)")
_RETURN = re.compile(r"     (4[78]) ret (?:ok|fail) errno (\d+)")
_NAME = re.compile(r"     PR_SET_VMA_ANON_NAME r=(?:0|-1) errno=(\d+) vmas=")


@cache
def observed(kernel: str) -> dict[str, tuple[int, str | None]]:
    """What the kernel answered: check -> (got, the lines of maps, in pages)."""
    found: dict[str, tuple[int, str | None]] = {}
    for line in (DATA / f"{kernel}.txt").read_text(errors="replace").splitlines():
        if match := _CHECK.match(line):
            found[match[1]] = int(match[2]), match[3].rstrip()
        elif match := _RETURN.match(line):
            found[f"{match[1]} ret"] = int(match[2]), None
        elif match := _NAME.match(line):
            found["name"] = int(match[1]), None
    return found


@cache
def predicted(kernel: str) -> dict[str, Check]:
    """What the engine predicts, by check."""
    found = {}
    for scenario in SCENARIOS:
        process = Live(kernel, Config(anon_name=kernel == "6.8"))
        for check in scenario(process):
            assert check[0] not in found, f"{check[0]} is checked twice"
            found[check[0]] = check
    return found


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_observed_check_is_predicted(kernel: str) -> None:
    """The engine makes exactly the checks that the kernel was asked."""
    assert set(predicted(kernel)) == set(observed(kernel))
    assert len(observed(kernel)) >= 100


@pytest.mark.parametrize(
    ("kernel", "check"), [(k, c) for k in KERNELS for c in observed(k)], ids=lambda value: value.replace(" ", "-")
)
def test_live_check(kernel: str, check: str) -> None:
    """The engine predicts what the real kernel showed: how many VMAs, which, or which errno."""
    _, got, lines = predicted(kernel)[check]
    want, shown = observed(kernel)[check]
    assert got == want
    if lines is not None and shown is not None:
        assert lines == shown
