"""Running children and comparing what they saw with rule sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vmastore.conform.calls import SCRIPTS
from vmastore.conform.kernel import FILE_PAGES, PAGE
from vmastore.conform.special import fill_calls
from vmastore.errors import RecordError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import PRESETS, SWITCHES, RuleSet, preset
from vmastore.recorder.system import system_config
from vmastore.replay.verify import Report, Verifier
from vmastore.replay.world import World

CALLS_A_CHILD = 250
BATTERIES = (*SCRIPTS, "brk", "map limit")
_PATIENCE_S = 120
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

    def add(self, call: str, args: tuple[Any, ...], result: int | None, errno: int, file: int | None = None) -> None:
        """Append an event of the one address space."""
        self.events.append(Event(len(self.events) + 1, 1, 1, 1, None, call, args, result, errno, file))


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
    """Compare the running kernel with `rules`: the batteries, then random calls for so many seconds.

    Raises RecordError where it cannot be done here.
    """
    if os.uname().machine != "x86_64":
        raise RecordError(f"conform knows the system calls of x86-64 only, this is {os.uname().machine}")
    result = Conformance(rules.name)
    runs: list[Run] = []
    for run in _runs(seed, seconds):
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


def _runs(seed: int, seconds: float) -> Iterator[Run]:
    for script in BATTERIES:
        yield child(seed, 0, script)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield child(seed, CALLS_A_CHILD)
        seed += 1


def child(seed: int, count: int, script: str | None = None) -> Run:
    """Run one child and read what it saw. Raises RecordError if it dies."""
    words = [sys.executable, "-m", "vmastore.conform.child", str(seed), str(count), *([script] if script else [])]
    name = script or f"seed {seed}"
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise RecordError(f"conform: the child ({name}) did not end within {_PATIENCE_S} s") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise RecordError(f"conform: the child ({name}) ended early: {last[0]}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return _run(name, lines[0], lines[1:])


def _run(name: str, facts: dict[str, Any], steps: list[dict[str, Any]]) -> Run:
    uname = os.uname()
    config = {**system_config(), **{key: facts[key] for key in facts if key not in ("baseline", "window", "room")}}
    if facts.get("room") is not None:
        config["max_map_count"] = facts["room"]
    header = TraceHeader(name, "conform", "conform", uname.release, uname.version, config, "recorded")
    before = facts.get("baseline", [])
    run = Run(name, header, [])
    run.add("maps", ("baseline", len(before), None, before), None, 0)
    if facts.get("room") is not None:
        for call, args in fill_calls(facts["room"]):
            run.add(call, tuple(args), args[0], 0)
    for step in steps:
        call, args = step["call"], step["args"]
        file = 9 if call == "ioctl" else args[4] if call == "mmap" and args[4] > 0 else None
        run.add(call, tuple(args), None if call == "fault" else step["result"], step["errno"], file)
        if "arena" in step:
            run.add("maps", ("check", len(step["arena"]), None, step["arena"]), None, 0)
    return run


def check(run: Run, rules: RuleSet) -> Report:
    """One run against one rule set."""
    world = World(run.header, {info.file: info for info in _files()}, rules)
    return Verifier(world).run(run.events)


def _files() -> list[FileInfo]:
    """The descriptions; an unlinked file of tmpfs is to the kernel what a memfd is."""
    tmpfs = os.stat(tempfile.gettempdir()).st_size % 512 != 0  # directories of disk file systems are whole blocks
    return [info._replace(kind="memfd", size=_SIZE) if tmpfs and info.file == 4 else info for info in FILES]


def _skipped(runs: list[Run]) -> list[str]:
    """What the kernel or its limits do not allow here, and what an arena cannot show."""
    found = ["stack growth (it is not confined to the arena)"]
    if any(run.name == "map limit" and len(run.events) < 3 for run in runs):
        found.append("the map limit (vm.max_map_count is above 200,000)")
    config = runs[0].header.config if runs else {}
    for key, what in (("uffd", "userfaultfd"), ("mseal", "mseal"), ("anon_name", "PR_SET_VMA_ANON_NAME")):
        if not config.get(key):
            found.append(f"{what} (not in this kernel, or not permitted)")
    return found


def _fit(result: Conformance, runs: list[Run], rules: RuleSet) -> None:
    """Differences under every preset; if there are some under `rules`, which flipped switch has fewer."""
    sample = [run for run in runs if run.name != "map limit"][:24]
    for name in PRESETS:
        if name != "series-v1":
            result.presets[name] = sum(differences(check(run, preset(name))) for run in sample)
    if not result.differences:
        return
    bad = [run for run in runs if run.name in result.differing and run.name != "map limit"][:20]
    now = sum(differences(check(run, rules)) for run in bad)
    for switch in SWITCHES:
        flipped = rules.with_rule(switch, not getattr(rules, switch.replace("-", "_")))
        count = sum(differences(check(run, flipped)) for run in bad)
        if count < now:
            result.switches[switch] = count
