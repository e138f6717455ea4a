"""tracefs: what the kernel's tracepoints are numbered, and where their fields lie.

It need not be mounted: who may mount it reads it through a mount of this process alone, which nobody else sees.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vmastore.recorder.rawcall import raw_call

_PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_COMMAND = f"mount -t tracefs tracefs {_PLACES[0]}"
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # system calls of Linux 5.2, numbered alike on all machines
_CREATE, _CLOEXEC = 6, 1  # FSCONFIG_CMD_CREATE; FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
_SAFE = 0xF  # MOUNT_ATTR_RDONLY, _NOSUID, _NODEV, _NOEXEC
_FIELD = re.compile(r"(?m)^\s*field:[^;]*?(\w+)(?:\[[^]]*\])?;\s*offset:(\d+);\s*size:(\d+);")


class Tracepoint(NamedTuple):
    """A tracepoint's number, and where its fields lie in a record's raw data: (offset, size)."""

    id: int
    fields: dict[str, tuple[int, int]]


def tracepoint(system: str, name: str) -> Tracepoint:
    """Looks a tracepoint up. Raises OSError where there is none, or tracefs may not be read."""
    missing: OSError = FileNotFoundError(errno.ENOENT, f"no tracepoint {system}:{name}")
    for place in _PLACES:
        try:
            return _read(Path(place), system, name)
        except OSError as error:
            if error.errno == errno.EACCES:
                missing = error
    if missing.errno == errno.EACCES or any(os.path.exists(f"{place}/events") for place in _PLACES):
        raise missing
    try:
        with _private_mount() as root:
            return _read(root, system, name)
    except FileNotFoundError:
        raise missing from None
    except OSError:
        raise FileNotFoundError(errno.ENOENT, f"nothing is mounted at {_PLACES[0]} ({_COMMAND})") from None


def _read(place: Path, system: str, name: str) -> Tracepoint:
    folder = place / "events" / system / name
    number = int((folder / "id").read_text())
    fields = _FIELD.findall((folder / "format").read_text())
    return Tracepoint(number, {field: (int(offset), int(size)) for field, offset, size in fields})


@contextlib.contextmanager
def _private_mount() -> Iterator[Path]:
    """tracefs mounted at no place, read-only, for as long as it is needed. Raises OSError."""
    with contextlib.ExitStack() as opened:
        context = raw_call(_FSOPEN, b"tracefs", _CLOEXEC)
        opened.callback(os.close, context)
        raw_call(_FSCONFIG, context, _CREATE, None, None, 0)
        mount = raw_call(_FSMOUNT, context, _CLOEXEC, _SAFE)
        opened.callback(os.close, mount)
        yield Path(f"/proc/self/fd/{mount}")
