"""Programs whose files give rights (setuid, setgid, capabilities), which the kernel withholds under a tracer."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_SHOWN = 3  # programs that a note names
_CAPABILITIES = "security.capability"
_CAP_EFF = re.compile(r"(?m)^CapEff:\s*([0-9a-f]+)")
_IDS = re.compile(r"(?m)^[UG]id:\s+\d+\s+(\d+)")


class Withheld(NamedTuple):
    """What the file of an executed program should have given its process, and did not."""

    path: str
    kind: str  # "setuid", "setgid", "file capabilities"


def withheld(pid: int) -> Withheld | None:
    """What was withheld from a process that has just executed a program; None: nothing, or it cannot be told."""
    program = f"/proc/{pid}/exe"
    try:
        info, path = os.stat(program), os.readlink(program)
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    kind = _withheld(info, _has_capabilities(program), status)
    return Withheld(path.removesuffix(" (deleted)"), kind) if kind else None


def _withheld(info: os.stat_result, capabilities: bool, status: str) -> str | None:
    """status: of the process, as /proc shows it."""
    uid, gid = (int(number) for number in _IDS.findall(status))
    if info.st_mode & stat.S_ISUID and info.st_uid != uid:
        return "setuid"
    if info.st_mode & stat.S_ISGID and info.st_mode & stat.S_IXGRP and info.st_gid != gid:
        return "setgid"
    effective = _CAP_EFF.search(status)
    if capabilities and uid and effective is not None and not int(effective[1], 16):
        return "file capabilities"
    return None


def _has_capabilities(path: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.getxattr(path, _CAPABILITIES))
    return False


def note(found: Sequence[Withheld]) -> str | None:
    """A word about these programs for the trace's header."""
    if not found:
        return None
    counts = Counter(f"{each.path} ({each.kind})" for each in found)
    shown = [f"{what} {times} times" if times > 1 else what for what, times in counts.most_common(_SHOWN)]
    if len(counts) > _SHOWN:
        shown.append(f"{len(counts) - _SHOWN} others")
    way = "from Python, record(…, seccomp=False)" if os.geteuid() == 0 else "record as root"
    return (
        f"{len(found)} programs ran with their callers' rights, since their files' own do not work under strace: "
        f"{', '.join(shown)} ({way})"
    )
