"""A state to look at: TRACE[@N], a running process (pid:N), or a saved maps or smaps file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmastore.cli.common import check_faults, choose_rules, is_stored, open_existing, open_target, state

if TYPE_CHECKING:
    from vmastore.events import ObservedVma, TraceHeader
    from vmastore.mm.mm import Mm
    from vmastore.mm.rules import RuleSet

TARGET_HELP = "TRACE or TRACE@N, pid:N (a running process), or a saved maps or smaps file."


@dataclass(frozen=True)
class View:
    """One address space at one point."""

    name: str
    mm: Mm
    rules: RuleSet
    at: int  # the event after which it is seen; 0 for an observation
    lines: tuple[ObservedVma, ...] | None = None  # an observation, as it was read


def is_observation(target: str, store: str | None) -> bool:
    """Whether a target is a process or a file; of a trace and a file of one name, the trace is meant."""
    from vmastore.importers.maps_file import process_of

    if target == "-" or process_of(target) is not None or "/" in target:
        return True
    return Path(target).is_file() and not is_stored(store, target)


def observe_target(
    target: str,
    kernel: str | None,
    rule: list[str] | None,
    faults: str,
    max_map_count: int | None = None,
) -> tuple[View, TraceHeader]:
    """The address space of a process or a saved file, as a baseline. Raises InputError."""
    from vmastore.events import Event, TraceHeader
    from vmastore.importers.maps_file import process_of, read_maps
    from vmastore.replay.world import World

    check_faults(faults)
    pid = process_of(target)
    lines = read_maps(target)
    if pid is None:
        header = TraceHeader(target, target, "maps")
    else:
        from vmastore.recorder.system import system_config

        uname = os.uname()
        header = TraceHeader(target, target, "maps", uname.release, uname.version, system_config(pid))
    rules = choose_rules(header, kernel, rule)
    world = World(header, [], rules, faults=faults, max_map_count=max_map_count)
    args = ("baseline", len(lines), None, [list(line) for line in lines])
    world.apply(Event(1, 1, pid or 0, pid or 0, None, "maps", args, None, 0))
    space = world.mms[1]
    heap = next((line for line in lines if line.name == "[heap]"), None)
    if heap is not None:
        space.start_brk, space.brk = heap.start, heap.end
    return View(target, space, rules, 0, tuple(lines)), header


def open_view(
    target: str,
    store: str | None,
    mm: int | None,
    kernel: str | None,
    rule: list[str] | None,
    faults: str,
    max_map_count: int | None = None,
) -> View:
    """The state that a target names. Raises InputError."""
    if is_observation(target, store):
        return observe_target(target, kernel, rule, faults, max_map_count)[0]
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        rules = choose_rules(trace.header, kernel, rule)
        space = state(trace, at, mm, rules, faults=faults, max_map_count=max_map_count)
        return View(trace.header.name, space, rules, at)
