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
from vmastore.conform.kernel import FILE_PAGES, PAGE, SHM_SIZE
from vmastore.conform.special import fill_calls
from vmastore.errors import RecordError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import PRESETS, SWITCHES, RuleSet, preset
from vmastore.recorder.system import system_config
from vmastore.replay.verify import Verifier
from vmastore.replay.verify_report import Report
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
    FileInfo(5, "/SYSV00000000 (deleted)", "shm", True, True, size=SHM_SIZE),
    FileInfo(9, None, "uffd", True, True),
]
Steps = list[list[Any]]  # [address space, call, arguments]


@dataclass
class Run:
    """What one child did: events with an observation after each."""

    name: str
    header: TraceHeader
    events: list[Event]
    steps: Steps = field(default_factory=list)  # the calls, as they can be made again

    def add(
        self,
        call: str,
        args: tuple[Any, ...],
        result: int | None,
        errno: int,
        file: int | None = None,
        mm: int = 1,
    ) -> None:
        """Append an event."""
        self.events.append(Event(len(self.events) + 1, mm, mm, mm, None, call, args, result, errno, file))


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
    reduced: Run | None = None  # the first random sequence that differs, as short as it still does

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
    worst = next((run for run in runs if run.name in result.differing and run.steps), None)
    if worst is not None:
        result.reduced = reduce_run(worst, rules)
    return result


def _runs(seed: int, seconds: float) -> Iterator[Run]:
    for script in BATTERIES:
        yield child(seed, 0, script)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield child(seed, CALLS_A_CHILD)
        seed += 1


def again(steps: Steps) -> Run:
    """Make the calls of a random sequence once more, in a child. Raises RecordError if it dies."""
    return child(0, 0, "-", steps=steps)


def child(seed: int, count: int, script: str | None = None, *, steps: Steps | None = None) -> Run:
    """Run one child and read what it saw. Raises RecordError if it dies."""
    words = [sys.executable, "-m", "vmastore.conform.child", str(seed), str(count), *([script] if script else [])]
    name = script or f"seed {seed}"
    given = None if steps is None else json.dumps(steps)
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=_PATIENCE_S)
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
    if facts.get("uffd"):
        run.add("userfaultfd", (1,), 9, 0, 9)  # the first process made it
    if facts.get("room") is not None:
        for call, args in fill_calls(facts["room"]):
            run.add(call, tuple(args), args[0], 0)
    for step in steps:
        mm = step.get("mm", 1)
        if "call" in step:
            call, args = step["call"], step["args"]
            file = (
                9
                if call == "ioctl"
                else 5
                if call == "shmat"
                else args[4]
                if call == "mmap" and args[4] > 0
                else None
            )
            run.add(call, tuple(args), step["result"], step["errno"], file, mm)
            if name not in BATTERIES and call != "exit":
                run.steps.append([mm, call, args])
        if "arena" in step:
            run.add("maps", ("check", len(step["arena"]), None, step["arena"]), None, 0, mm=mm)
    return run


def reduce_run(run: Run, rules: RuleSet, most: int = 150) -> Run:
    """The shortest sequence found that still differs: no single call of it can be left out.

    most: how many sequences are tried at most. Every one runs on the kernel anew, since what a call does
    hangs on those before it.
    """
    report = check(run, rules)
    cut = report.first_mismatch.seq if report.first_mismatch is not None else run.events[-1].seq
    count = sum(e.call not in ("maps", "exit") for e in run.events[:cut])
    best, tried = run, 0

    def differs(steps: Steps) -> bool:
        nonlocal best, tried
        tried += 1
        try:
            new = again(steps)
        except RecordError:
            return False
        if not differences(check(new, rules)):
            return False
        best = new
        return True

    steps = run.steps[:count]
    if not differs(steps):
        steps = run.steps
    size = max(len(steps) // 2, 1)
    while tried < most:
        shorter = _without_some(steps, size, lambda s: tried < most and differs(s))
        if len(shorter) == len(steps) and size == 1:
            break
        steps, size = shorter, max(size // 2, 1)
    return best


def _without_some(steps: Steps, size: int, differs: Callable[[Steps], bool]) -> Steps:
    """Leave out every piece of `size` calls that the difference does not need."""
    at = 0
    while at < len(steps):
        rest = steps[:at] + steps[at + size :]
        if rest and differs(rest):
            steps = rest
        else:
            at += size
    return steps


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
    for key, what in (
        ("uffd", "userfaultfd"),
        ("mseal", "mseal"),
        ("anon_name", "PR_SET_VMA_ANON_NAME"),
        ("shm", "SysV shared memory"),
    ):
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
