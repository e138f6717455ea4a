"""/proc of the processes being recorded: states of threads, and address spaces read so that they are whole."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import NamedTuple

from vmastore.errors import RecordError
from vmastore.events.types import ObservedVma
from vmastore.importers.maps_file import parse_maps

STOPPED, TRACED = "T", "t"  # by job control; by its tracer
_PF_FORKNOEXEC, _PF_KTHREAD = 0x40, 0x200000  # of the flags in /proc/PID/stat
_GONE = (FileNotFoundError, ProcessLookupError)
_NEEDED = re.compile(rb"(?m)^(?:[0-9a-f]+-[0-9a-f]+ .*|(?:Anonymous|Swap|VmFlags):.*)$")
_HEADS = re.compile(rb"(?m)^[0-9a-f]+-[0-9a-f]+ .*$")
_TRIES = 8


class Raw(NamedTuple):
    """An address space as read: the lines of smaps that count (of maps where smaps may not be read)."""

    text: bytes
    steady: bool  # maps read before and after were the same


def state_of(tid: int) -> str:
    """The state letter of a thread; "" if it is gone or has no thread left to run."""
    try:
        letter = _stat(tid)[0]
    except _GONE:
        return ""
    return "" if letter in "ZX" else letter


def has_executed(pid: int) -> bool:
    """Whether a process has executed a program since it was forked, so that it has inherited no memory."""
    try:
        return not int(_stat(pid)[6]) & _PF_FORKNOEXEC
    except _GONE:
        return False


def is_kernel_thread(pid: int) -> bool:
    """Whether it is a thread of the kernel's own."""
    try:
        return bool(int(_stat(pid)[6]) & _PF_KTHREAD)
    except _GONE:
        return False


def cpu_ticks(pid: int) -> int:
    """User and system time of a process, in clock ticks; 0 if it is gone."""
    try:
        fields = _stat(pid)
    except _GONE:
        return 0
    return int(fields[11]) + int(fields[12])


def reaped_ticks(pid: int) -> int:
    """User and system time of the children that a process has waited for, and of theirs; 0 if it is gone."""
    try:
        fields = _stat(pid)
    except _GONE:
        return 0
    return int(fields[13]) + int(fields[14])


def user_ticks(pid: int, tid: int) -> int:
    """The time that one thread has computed, outside of the kernel, in clock ticks; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/task/{tid}/stat").read_text(errors="replace")
    except _GONE:
        return 0
    return int(text.rpartition(")")[2].split()[11])


def start_brk_of(pid: int) -> int:
    """Where the heap of a process begins; 0 if that may not be read."""
    try:
        return int(_stat(pid)[44])
    except (*_GONE, IndexError):
        return 0


def _stat(tid: int) -> list[str]:
    """The fields of /proc/TID/stat from the third (the state) on."""
    return Path(f"/proc/{tid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def syscall_of(tid: int) -> tuple[int, list[int]] | None:
    """Number and arguments of the call that a blocked or stopped thread is in; None if that cannot be told."""
    try:
        words = Path(f"/proc/{tid}/syscall").read_text().split()
    except (*_GONE, PermissionError):
        return None
    if not words or words[0] == "running":
        return None
    return int(words[0]), [int(word, 16) for word in words[1:7]]


def leader_of(tid: int) -> int:
    """The process of a thread; 0 if it is gone."""
    try:
        status = Path(f"/proc/{tid}/status").read_text(errors="replace")
    except _GONE:
        return 0
    found = re.search(r"(?m)^Tgid:\s+(\d+)$", status)
    return int(found[1]) if found else 0


def tracer_of(tid: int) -> int:
    """The process that traces a thread; 0: none."""
    try:
        status = Path(f"/proc/{tid}/status").read_text(errors="replace")
    except _GONE:
        return 0
    found = re.search(r"(?m)^TracerPid:\s+(\d+)$", status)
    return int(found[1]) if found else 0


def threads_of(pid: int) -> list[int]:
    """The threads of a process, its leader first; none if it is gone."""
    try:
        return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())
    except _GONE:
        return []


def traced_by(tracer: int) -> list[int]:
    """The processes that `tracer` traces."""
    found = []
    mark = re.compile(rf"(?m)^TracerPid:\s+{tracer}$")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text(errors="replace")
            except _GONE:
                continue
            if mark.search(status):
                found.append(int(entry.name))
    return sorted(found)


def read_raw(pid: int) -> Raw | None:
    """The address space of a process, bracketed by two readings of maps; None if it has none (any more).

    Raises PermissionError where even maps may not be read.
    """
    text, steady = b"", False
    for _ in range(_TRIES):
        try:
            before = _read(pid, "maps")
            text = _smaps(pid) or before
            steady = before == _read(pid, "maps") == b"".join(head + b"\n" for head in _HEADS.findall(text))
        except _GONE:
            return None
        if steady:
            break
    return Raw(text, steady) if text else None


def _smaps(pid: int) -> bytes:
    try:
        whole = _read(pid, "smaps")
    except PermissionError:
        return b""
    return b"\n".join(_NEEDED.findall(whole)) + b"\n" if whole else b""


def _read(pid: int, what: str) -> bytes:
    return Path(f"/proc/{pid}/{what}").read_bytes()


def parse_raw(text: bytes, where: str) -> list[ObservedVma]:
    """The VMAs of what `read_raw` gave."""
    return parse_maps(text.decode("utf-8", "surrogateescape").splitlines(), where)


def snapshot(pid: int) -> list[ObservedVma]:
    """The VMAs of a running process: one moment's, since maps was the same before and after.

    Raises RecordError if the process is gone, may not be read or never holds still.
    """
    try:
        raw = read_raw(pid)
    except PermissionError:
        raise RecordError(
            f"process {pid} may not be read", hint="Only its user or root may see a process's memory map: use sudo."
        ) from None
    if raw is None:
        raise RecordError(f"process {pid} does not exist or has no address space")
    if not raw.steady:
        raise RecordError(
            f"the address space of process {pid} changed during each of {_TRIES} readings",
            hint=f"Record it with: vmastore record -p {pid}",
        )
    return parse_raw(raw.text, f"/proc/{pid}/smaps")


def wait_state(pid: int, states: str, seconds: float) -> bool:
    """Wait until a process is in one of `states` (letters of /proc/PID/stat). False: it was not in time."""
    end = time.monotonic() + seconds
    while state_of(pid) not in states:
        if time.monotonic() > end:
            return False
        time.sleep(0.0002)
    return True
