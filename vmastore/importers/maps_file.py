"""/proc/PID/maps and smaps: saved files, and the files of a running process (``pid:1234``)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vmastore.errors import InputError
from vmastore.events.types import Event, FileInfo, ObservedVma, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.jsonlines import stem
from vmastore.importers.observed import VSYSCALL
from vmastore.importers.sources import Source

_LINE = re.compile(
    r"([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-][w-][x-][sp]) ([0-9a-f]{1,16}) ([0-9a-f]+:[0-9a-f]+) (\d+)(?: +(.*))?\Z"
)
_DETAIL = re.compile(r"([A-Z]\w*): *(.*?) *\Z")
_PID = re.compile(r"pid:(\d+)\Z")


def is_maps_line(text: str) -> bool:
    """Whether a line is one of /proc/PID/maps."""
    return _LINE.match(text) is not None


def parse_maps(lines: Iterable[str], name: str = "maps", *, vsyscall: bool = False) -> list[ObservedVma]:
    """The VMAs of maps or smaps text, by address. name: what the text is called in errors.

    VmFlags and `written` (some of its pages are anonymous, in memory or in swap) are there where
    the text is that of smaps. `[vsyscall]`, behind which stands no VMA, is dropped unless asked for.
    Raises InputError.
    """
    found: list[ObservedVma] = []
    for number, text in enumerate(lines, 1):
        text = text.rstrip("\r\n")
        match = _LINE.match(text)
        if match:
            found.append(_vma(match, f"{name}:{number}", found[-1].end if found else 0))
            continue
        detail = _DETAIL.match(text)
        if detail and found:
            found[-1] = _detailed(found[-1], detail[1], detail[2])
        elif text.strip():
            raise InputError(
                f"{name}:{number}: not a line of /proc/PID/maps or smaps: {text[:80]!r}",
                hint="Save one with: cat /proc/PID/smaps > FILE",
            )
    return found if vsyscall else [vma for vma in found if vma.start != VSYSCALL]


def _vma(match: re.Match[str], where: str, before: int) -> ObservedVma:
    start, end, perms, offset, dev, inode, name = match.groups()
    vma = ObservedVma(int(start, 16), int(end, 16), perms, int(offset, 16), dev, int(inode), name or "")
    if vma.name == "[rollup]":
        raise InputError(f"{where}: is smaps_rollup, which sums all VMAs up", hint="Use /proc/PID/smaps.")
    if not before <= vma.start < vma.end:
        raise InputError(f"{where}: the range {start}-{end} is empty or overlaps the one before it")
    return vma


def _detailed(vma: ObservedVma, key: str, value: str) -> ObservedVma:
    """A VMA with one more line of smaps."""
    if key == "VmFlags":
        return vma._replace(vm_flags=value)
    if key == "Anonymous" or (key == "Swap" and vma.perms[3] == "p"):
        return vma._replace(written=bool(vma.written) or not value.startswith("0 "))
    return vma


def process_of(target: str) -> int | None:
    """The PID of ``pid:1234``, None for anything else."""
    match = _PID.match(target)
    return int(match[1]) if match else None


def read_process(pid: int, *, vsyscall: bool = False) -> list[ObservedVma]:
    """The VMAs of a running process, from its smaps, or its maps where smaps cannot be read."""
    try:
        text = _read(pid, "smaps") or _read(pid, "maps")
    except FileNotFoundError:
        raise InputError(f"pid:{pid}: there is no such process") from None
    except PermissionError:
        raise InputError(
            f"pid:{pid}: may not be read", hint="Only its user or root may see a process's memory map: use sudo."
        ) from None
    except ProcessLookupError:
        text = ""
    if not text:
        raise InputError(f"pid:{pid}: has no address space (a kernel thread, or it has ended)")
    return parse_maps(text.splitlines(), f"/proc/{pid}", vsyscall=vsyscall)


def _read(pid: int, what: str) -> str:
    return Path(f"/proc/{pid}/{what}").read_bytes().decode("utf-8", "surrogateescape")


def read_maps(target: str | Path, *, vsyscall: bool = False) -> list[ObservedVma]:
    """The VMAs of ``pid:1234``, or of a saved maps or smaps file (``-``: standard input). Raises InputError."""
    pid = process_of(str(target))
    if pid is not None:
        return read_process(pid, vsyscall=vsyscall)
    return _saved(Source(target), vsyscall=vsyscall)


def _saved(source: Source, *, vsyscall: bool = False) -> list[ObservedVma]:
    vmas = parse_maps(_text(source), source.name, vsyscall=vsyscall)
    if not vmas:
        raise InputError(f"{source.name}: holds no VMA")
    return vmas


def _text(source: Source) -> Iterator[str]:
    for batch in source.batches():
        for line in batch:
            yield line.decode("utf-8", "surrogateescape")


class MapsReader:
    """A saved maps or smaps file, or a running process, as a trace of one event: a baseline."""

    def __init__(self, path: str | Path | Source, name: str | None = None) -> None:
        source = path if isinstance(path, Source) else Source(path)
        pid = process_of(source.path)
        self._pid = pid or 0
        self._vmas = _saved(source) if pid is None else read_process(pid)
        release, version = (None, None) if pid is None else (os.uname().release, os.uname().version)
        self.files: list[FileInfo] = []
        title = name or (source.path.replace(":", "-") if pid else stem(source.path))
        note = "one observation of an address space, no events"
        self.header = TraceHeader(title, source.name, "maps", release, version, note=note)

    def events(self) -> Iterator[Event]:
        """The one event."""
        args = ("baseline", len(self._vmas), None, [list(vma) for vma in self._vmas])
        yield Event(1, 1, self._pid, self._pid, None, "maps", args, None, 0, source_line=1, source_offset=0)

    def skips(self) -> list[Skip]:
        """Nothing is ever left out."""
        return []
