"""Arguments as older versions of vmastore stored them, brought to today's form one step at a time.

A stored event is never rewritten: its hash covers it as it was. What changes is how it is read. The
store keeps with each call the version of its arguments (`call_t.version`, 1 at first); a change of the
arguments in `CALLS` adds one step here, and appends go on under the next version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vmastore.events.types import Arg

Args = tuple[Arg, ...]
Step = Callable[[Args], Args]

# STEPS[call][n - 1] turns arguments of version n into those of version n + 1. Pure: no clock, no globals.
STEPS: Mapping[str, tuple[Step, ...]] = {}


def version_of(call: str) -> int:
    """The version under which a call's arguments are stored today, from 1."""
    return len(STEPS.get(call, ())) + 1


def steps_from(call: str, version: int) -> tuple[Step, ...]:
    """What turns a call's arguments of `version` into today's, in order. Raises ValueError for a newer one."""
    if version > version_of(call):
        raise ValueError(f"{call} is stored in version {version}, this vmastore reads up to {version_of(call)}")
    return STEPS.get(call, ())[version - 1 :]


def chained_name(call: str, version: int) -> str:
    """A call as the hash chain covers it: a version that was changed would be found."""
    return call if version == 1 else f"{call}@{version}"
