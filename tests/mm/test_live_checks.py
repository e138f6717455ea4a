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


# what differs between the kernels, in their order: the answers to each check (-: the kernel was not asked)
DIFFERENCES = {
    "15b": "2 2 2 1 1",  # a written range beside an unwritten neighbour
    "16b": "3 3 3 1 1",  # mlock and munlock of a middle
    "05b": "2 1 1 1 1",  # write permission taken from unwritten memory
    "08": "1 2 2 2 2",  # MAP_STACK beside plain memory
    "26b": "3 2 2 2 2",  # the head of a SysV shm fragment back to its left neighbour's protection
    "26c": "3 2 2 2 2",
    "26e": "3 3 2 2 2",  # the tail, to its right neighbour's
    "34": "1 1 2 2 2",  # the stray split of a failing MAP_FIXED
    "29": "- 2 2 1 1",  # new mappings under PR_SET_MEMORY_MERGE
    "35": "0 0 0 3 3",  # mremap across several VMAs
    "35b": "0 0 0 1 1",
    "47": "0 0 0 1 1",  # and into a hole behind them
    "47 ret": "14 14 14 0 0",
    "48": "0 0 0 1 1",  # whether an invalid mremap destroys its target
    "39": "2 2 2 1 2",  # a written private file mapping moved beside its file neighbour
    "41": "2 1 2 1 2",  # MREMAP_DONTUNMAP to the adjacent place
    "42": "3 1 3 1 3",  # and of a part of a locked VMA
    "43": "1 1 1 1 2",  # userfaultfd without EVENT_REMAP
    "24b": "2 2 1 2 2",  # MADV_GUARD_INSTALL: is there, and makes its VMA a written one
    "23": "1 1 3 3 3",  # mseal
    "23b": "2 2 3 3 3",
    "23c": "0 0 1 1 1",
    "23d": "1 1 3 3 3",
    "23e": "0 0 1 1 1",
    "03b": "2 2 1 1 1",  # a new range between an unwritten and a written neighbour
    "03": "2 2 2 2 2",  # between two that were written apart: which one grows
}
GROWS = {"03": "next next prev prev prev"}
ASKED_WHERE_NAMES_ARE = {"name", "38", "38b", "38c"}  # CONFIG_ANON_VMA_NAME: only 6.8 was built with it


@pytest.mark.parametrize("check", DIFFERENCES)
def test_differences_between_kernels(check: str) -> None:
    """Both sides of every difference: observed so, and predicted so."""
    for answers in (observed, predicted):
        found = [answers(kernel).get(check) for kernel in KERNELS]
        numbers = [a[-2] if a else "-" for a in found]  # both end with (got, lines)
        assert " ".join(map(str, numbers)) == DIFFERENCES[check]


def test_which_neighbour_grows() -> None:
    """The boundary that a new range moves is the lower neighbour's since 6.12, before the upper one's."""
    for kernel, side in zip(KERNELS, GROWS["03"].split(), strict=True):
        assert predicted(kernel)["03"][2] == ("[0-2 rw-p][2-3 rw-p]" if side == "prev" else "[0-1 rw-p][1-3 rw-p]")


def test_everything_else_is_the_same_everywhere() -> None:
    """All other checks have one answer on the five kernels."""
    for check in observed("6.18").keys() - DIFFERENCES.keys() - ASKED_WHERE_NAMES_ARE:
        assert len({predicted(kernel)[check][1] for kernel in KERNELS}) == 1, check
