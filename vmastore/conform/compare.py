"""Running children and comparing what they saw with rule sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vmastore.conform.calls import SCRIPTS
from vmastore.conform.kernel import FILE_PAGES, PAGE
from vmastore.errors import RecordError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import PRESETS, SWITCHES, RuleSet, preset
from vmastore.recorder.system import system_config
from vmastore.replay.verify import Report, Verifier
from vmastore.replay.world import World

CALLS_A_CHILD = 250
_SIZE = FILE_PAGES * PAGE
FILES = [
    FileInfo(1, None, "memfd", True, True, size=_SIZE),
    FileInfo(2, None, "memfd", True, True, size=_SIZE),
    FileInfo(3, None, "memfd", True, False, size=_SIZE),
    FileInfo(4, None, "regular", True, True, size=None),
    FileInfo(9, None, "uffd", True, True),
]


@dataclass
class Run:
    """What one child did: events with an observation after each."""

    name: str
    header: TraceHeader
    events: list[Event]


@dataclass
class Conformance:
    """What came of it."""

    rules: str
    runs: int = 0
    steps: int = 0
    report: Report = field(default_factory=Report)
    differing: list[str] = field(default_factory=list)  # runs with differences
    presets: dict[str, int] = field(default_factory=dict)  # preset -> differences
    switches: dict[str, int] = field(default_factory=dict)  # switch that, flipped, gives fewer -> differences
    skipped: list[str] = field(default_factory=list)

    @property
    def differences(self) -> int:
        return differences(self.report)


def differences(report: Report) -> int:
    """Mismatches of VMA lists and of errno."""
    return report.mismatches + report.mismatches_assumed + report.errno_mismatches


def conform(
    rules: RuleSet, *, seconds: float, seed: int = 1, progress: Callable[[int], None] | None = None
) -> Conformance:
    """Compare the running kernel with `rules` for about so many seconds. Raises RecordError."""
    if os.uname().machine != "x86_64":
        raise RecordError(f"conform knows the system calls of x86-64 only, this is {os.uname().machine}")
    result = Conformance(rules.name)
    runs: list[Run] = []
    end = time.monotonic() + seconds
    for run in _runs(seed, end):
        runs.append(run)
        result.runs += 1
        report = check(run, rules)
        result.steps += report.events
        result.report.add(report)
        if differences(report):
            result.differing.append(run.name)
        if progress is not None:
            progress(result.steps)
    result.skipped = _skipped(runs)
    _fit(result, runs, rules)
    return result


def _runs(seed: int, end: float) -> Iterator[Run]:
    for script in SCRIPTS:
        yield child(seed, 0, script)
    while time.monotonic() < end:
        yield child(seed, CALLS_A_CHILD)
        seed += 1


def child(seed: int, count: int, script: str | None = None) -> Run:
    """Run one child and read what it saw. Raises RecordError if it dies."""
    words = [sys.executable, "-m", "vmastore.conform.child", str(seed), str(count), *([script] if script else [])]
    done = subprocess.run(words, capture_output=True, text=True)
    name = script or f"seed {seed}"
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise RecordError(f"conform: the child ({name}) ended early: {last[0]}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return _run(name, lines[0], lines[1:])


def _run(name: str, facts: dict[str, Any], steps: list[dict[str, Any]]) -> Run:
    uname = os.uname()
    config = {**system_config(), "anon_name": facts["anon_name"], "uffd": facts["uffd"], "mseal": facts["mseal"]}
    header = TraceHeader(name, "conform", "conform", uname.release, uname.version, config, "recorded")
    events = [Event(1, 1, 1, 1, None, "maps", ("baseline", 0, None, []), None, 0)]
    for step in steps:
        call, args = step["call"], step["args"]
        file = None
        if call == "mmap" and args[4] > 0:
            file = args[4]
        elif call == "ioctl":
            file = 9
        result = None if call == "fault" else step["result"]
        events.append(Event(len(events) + 1, 1, 1, 1, None, call, tuple(args), result, step["errno"], file))
        seen = ("check", len(step["arena"]), None, step["arena"])
        events.append(Event(len(events) + 1, 1, 1, 1, None, "maps", seen, None, 0))
    return Run(name, header, events)


def check(run: Run, rules: RuleSet) -> Report:
    """One run against one rule set."""
    world = World(run.header, {info.file: info for info in FILES}, rules)
    return Verifier(world).run(run.events)


def _skipped(runs: list[Run]) -> list[str]:
    """What the kernel or its limits do not allow here, and what an arena cannot show."""
    found = ["brk, stack growth and the map limit (they are not confined to the arena)"]
    config = runs[0].header.config if runs else {}
    for key, what in (("uffd", "userfaultfd"), ("mseal", "mseal"), ("anon_name", "PR_SET_VMA_ANON_NAME")):
        if not config.get(key):
            found.append(f"{what} (not in this kernel, or not permitted)")
    return found


def _fit(result: Conformance, runs: list[Run], rules: RuleSet) -> None:
    """Differences under every preset; if there are some under `rules`, which flipped switch has fewer."""
    sample = runs[: len(SCRIPTS) + 20]
    for name in PRESETS:
        if name != "series-v1":
            result.presets[name] = sum(differences(check(run, preset(name))) for run in sample)
    if not result.differences:
        return
    bad = [run for run in runs if run.name in result.differing][:20]
    now = sum(differences(check(run, rules)) for run in bad)
    for switch in SWITCHES:
        flipped = rules.with_rule(switch, not getattr(rules, switch.replace("-", "_")))
        count = sum(differences(check(run, flipped)) for run in bad)
        if count < now:
            result.switches[switch] = count
