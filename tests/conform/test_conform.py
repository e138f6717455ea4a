"""The running kernel does what its rule set says, and another rule set is told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from vmastore.conform.calls import Chooser
from vmastore.conform.compare import BATTERIES, again, check, child, differences, reduce_run
from vmastore.errors import RuleError
from vmastore.mm.rules import PRESETS, RuleSet, preset, resolve

PLANTED = "mprotect-drops-account"


def running() -> RuleSet:
    """The rule set of the running kernel; skipped where none of the observed ones is near."""
    uname = os.uname()
    if uname.machine != "x86_64":
        pytest.skip("the calls are made by their x86-64 numbers")
    try:
        return resolve(uname.release, uname.version)
    except RuleError:
        pytest.skip(f"no rule set for {uname.release}")


@pytest.mark.parametrize("seed", range(900, 906))
def test_random_calls_on_the_running_kernel(seed: int) -> None:
    """Every step of a random sequence ends in the VMAs, flags and answers that replay predicts."""
    run = child(seed, 200)
    report = check(run, running())
    assert differences(report) == 0, (report.first_mismatch, report.first_errno_mismatch)
    assert report.compared == sum(event.call == "maps" for event in run.events) - 1 > 150


def test_all_kinds_of_calls_are_made() -> None:
    """Forks with calls in the child, guard pages and SysV segments are among the random calls, and agree."""
    rules = running()
    runs = [child(seed, 200) for seed in (920, 921)]
    assert [differences(check(run, rules)) for run in runs] == [0, 0]
    events = [event for run in runs for event in run.events]
    made = {event.call for event in events}
    assert made >= {"fork", "exit", "mmap", "munmap", "mprotect", "mremap", "madvise", "fault"}
    assert len({event.mm for event in events}) > 2
    if runs[0].header.config["shm"]:
        assert "shmat" in made
    assert {event.args[2] for event in events if event.call == "madvise"} & {102, 103}


def test_a_difference_is_shortened() -> None:
    """Under a wrong rule set a sequence differs; the shortest still does, and needs every one of its calls."""
    wrong = planted(running())
    run = next(r for r in (child(seed, 60) for seed in range(930, 960)) if differences(check(r, wrong)))
    short = reduce_run(run, wrong)
    assert 0 < len(short.steps) < 8 < len(run.steps)
    assert differences(check(again(short.steps), wrong)) and not differences(check(again(short.steps), running()))
    for left_out in range(len(short.steps)):
        rest = short.steps[:left_out] + short.steps[left_out + 1 :]
        assert not rest or not differences(check(again(rest), wrong)), f"call {left_out} is not needed"


def planted(rules: RuleSet) -> RuleSet:
    """The rules with a switch the wrong way round that random calls soon come across."""
    return rules.with_rule(PLANTED, not getattr(rules, PLANTED.replace("-", "_")))


@pytest.mark.parametrize("script", BATTERIES)
def test_scripts_on_the_running_kernel(script: str) -> None:
    """Batteries that change the whole process, the heap and the map limit among them, agree too."""
    report = check(child(0, 0, script), running())
    assert differences(report) == 0, (report.first_mismatch, report.first_errno_mismatch)


def test_a_wrong_rule_set_differs() -> None:
    """The comparison can fail: some other preset gives differences on the same calls."""
    run = child(901, 200)
    others = [name for name in PRESETS if name not in (running().name, "series-v1")]
    assert max(differences(check(run, preset(name))) for name in others) > 0


def test_calls_are_deterministic() -> None:
    """The same seed and the same arena give the same calls."""
    lines = [[0x100000000000, 0x100000004000, "rw-p", 0, "00:00", 0, "", "rd wr", None]]
    a, b = Chooser(5, uffd=True, mseal=True), Chooser(5, uffd=True, mseal=True)
    assert [a.next(lines) for _ in range(200)] == [b.next(lines) for _ in range(200)]


def test_the_command() -> None:
    """`conform --json` reports steps, differences and how the presets fit."""
    running()
    command = [
        sys.executable,
        "-c",
        "from vmastore.cli.main import main; main()",
        "conform",
        "--seconds",
        "2",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    document = json.loads(done.stdout)
    assert done.returncode == (1 if document["differences"] else 0)
    assert document["steps"] > 0 and set(document["presets"]) == {"6.1", "6.7", "6.8", "6.12", "6.18", "7.3"}
