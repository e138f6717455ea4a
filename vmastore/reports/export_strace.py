"""A trace as the log that `strace -f -y -ttt` would have written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TextIO

from vmastore.events.types import Event, FileInfo
from vmastore.importers.strace import constants
from vmastore.reports.strace_text import arguments, escaped, result

_SIGNALS = {number: name for name, number in constants.SIGNALS.items()}
_SHOWN_FIRST = frozenset({"dup", "dup2", "dup3"})  # calls whose first argument is shown with its path
_SHOWN_FIFTH = frozenset({"mmap", "mmap2"})
_SHOWN_RESULT = frozenset({"open", "openat", "openat2", "creat", "memfd_create"})
_DERIVED = frozenset({"release"})  # reading the log gives it again
_NO_PREFIX = frozenset({"attach"})


class Exported(NamedTuple):
    """What was written, and what a log of strace has no line for."""

    events: int
    left_out: dict[str, int]  # events by call: maps, fault, …


def export_strace(files: Sequence[FileInfo], events: Iterable[Event], out: TextIO) -> Exported:
    """Write the events as lines, in their order, each with its time of completion.

    Importing the lines gives the same calls: threads, address spaces, arguments, results, files. Observed maps,
    page faults and notes are no lines of strace's; they are counted.
    """
    paths = {info.file: _decoration(info.path) for info in files}
    written = 0
    left_out: Counter[str] = Counter()
    for event in events:
        line = _line(event, paths)
        if line is not None:
            out.write(line + "\n")
            for frame in (event.site or "").split("\n") if event.site else ():
                out.write(f" > {frame}\n")
            written += 1
        elif event.call not in _DERIVED:
            left_out[event.call] += 1
    return Exported(written, dict(left_out))


def _line(event: Event, paths: dict[int, str]) -> str | None:
    body = _body(event, paths)
    if body is None or event.call in _NO_PREFIX:
        return body
    prefix = f"{event.tid} " if event.tid else ""
    if event.ts_ns is not None and 0 <= event.ts_ns < 9 * 10**18:
        prefix += f"{event.ts_ns // 10**9:010d}.{event.ts_ns % 10**9:09d} "
    if event.call == "exit" and event.args[0] is None and event.args[1] is None:
        prefix = prefix.replace(str(event.tid), str(event.pid), 1)  # the leader says that it took over
    return prefix + body


def _body(event: Event, paths: dict[int, str]) -> str | None:
    """The line behind its prefix; None for what strace does not print."""
    call, args = event.call, event.args
    if call in ("maps", "fault", "stack_grow", "note", "release"):
        return None
    if call == "signal":
        return _signal(*args)
    if call == "exit":
        return _exit(event)
    if call == "attach":
        return str(args[0])
    return f"{_name(call)}({_shown(event, paths)}) = {_result(event, paths)}"


def _name(call: str) -> str:
    """i386's call of a name that we use for something else."""
    return call.removeprefix("sys_") if call in _RENAMED else call


_RENAMED = frozenset({"sys_exit", "sys_attach", "sys_signal", "sys_release", "sys_fault", "sys_maps", "sys_note"})


def _shown(event: Event, paths: dict[int, str]) -> str:
    text = arguments(event)
    path = paths.get(event.file or 0, "")
    if not path:
        return text
    if event.call in _SHOWN_FIRST:
        first, comma, rest = text.partition(",")
        return f"{first}{path}{comma}{rest}"
    if event.call in _SHOWN_FIFTH and event.args[4] >= 0:
        front, _, offset = text.rpartition(", ")
        return f"{front}{path}, {offset}"
    return text


def _result(event: Event, paths: dict[int, str]) -> str:
    text = result(event)
    if event.call in _SHOWN_RESULT and not event.errno and not event.injected:
        return text + paths.get(event.file or 0, "")
    return text


def _decoration(path: str | None) -> str:
    """The path behind a descriptor, where strace's -y would show such a one."""
    return f"<{escaped(path, '<>')}>" if path and path.startswith("/") else ""


def _signal(number: int | None, code: str | None, address: int | None) -> str:
    name = _SIGNALS.get(number or 0, "SIG_0")
    if code == "stopped":
        return f"--- stopped by {name} ---"
    where = "" if address is None else f", si_addr={hex(address) if address else 'NULL'}"
    return f"--- {name} {{si_signo={name}{'' if code is None else f', si_code={code}'}{where}}} ---"


def _exit(event: Event) -> str:
    status, signal, _ = event.args
    if status is not None:
        return f"+++ exited with {status} +++"
    if signal is not None:
        return f"+++ killed by {_SIGNALS.get(signal, signal)} +++"
    return f"+++ superseded by execve in pid {event.tid} +++"
