"""vmafuzz recordings: random memory calls with the whole VMA list after each (JSON lines).

One operation is one event, followed by a `maps` check of the same address space. `[vsyscall]` is
not a VMA and is left out of lists and counts. The differences must add up: to the count of every
line, and to the whole list of the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vmastore.errors import InputError
from vmastore.events.types import Arg, Event, FileInfo, ObservedVma, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.jsonlines import JsonLines, Record, stem
from vmastore.importers.observed import VmaList, parse_vma
from vmastore.importers.sources import Source

_UFFD_FDS = (70, 71)
_UFFD_FLAGS = 0o2004000  # O_CLOEXEC | O_NONBLOCK
_UFFD_FEATURES = 1 << 7  # UFFD_FEATURE_SIGBUS
_ANON_NAME = (0x53564D41, 0)  # PR_SET_VMA, PR_SET_VMA_ANON_NAME
_MAP_ANONYMOUS = 0x20
_SIGCHLD = 17
_PAGE = 4096
_MALFORMED = (KeyError, ValueError, TypeError, IndexError, AttributeError)

Known = dict[str, Any]  # result and errno, as the event's fields


class VmafuzzReader:
    """One recording as a trace. `events()` may be called again: it reads the file anew."""

    def __init__(self, path: str | Path | Source, name: str | None = None) -> None:
        self._lines = JsonLines(path)
        self._head = self._lines.first()
        self.files: list[FileInfo] = []
        try:
            self.header = _header(self._head, name or stem(self._lines.source.path), self._lines.source.name)
            self._begin()
        except _MALFORMED as error:
            raise self._lines.fail(1, f"not a vmafuzz header: {error!r}") from None

    def _begin(self) -> None:
        self.files.clear()  # the same list: whoever holds it sees what comes
        self._fds: dict[int, int] = {}
        self._describe_files()
        self._seq = self._ops = 0
        self._mm = self._mms = 1
        self._pid = int(self._head["pid"])
        self._vmas = VmaList(parse_vma(entry) for entry in self._head["vmas"])
        self._complete = False

    def _describe_files(self) -> None:
        # directories of tmpfs have odd sizes, those of disk file systems whole blocks
        tmpfs = any(fd["what"] == "tmpdir" and fd["size"] > 0 and fd["size"] % 512 for fd in self._head["fds"])
        for entry in self._head["fds"]:
            fd, same = entry["fd"], entry["same_description_as"]
            self._fds[fd] = self._fds[same] if same != fd else self._add_file(*_facts(entry, tmpfs))
        self._new_uffds()

    def _add_file(
        self, kind: str, mode: int, inode: int | None = None, size: int | None = None, flags: int | None = None
    ) -> int:
        number = len(self.files) + 1
        readable, writable = mode in (0, 2), mode in (1, 2)
        self.files.append(FileInfo(number, None, kind, readable, writable, None, inode, size, "inherited", flags))
        return number

    def _new_uffds(self) -> None:
        """A process that goes on makes its own; those of its parent stay open there."""
        if self._head["has"]["userfaultfd"]:
            for fd in _UFFD_FDS:
                self._fds[fd] = self._add_file("uffd", 2, flags=_UFFD_FLAGS)

    def events(self) -> Iterator[Event]:
        """All events, in order. Raises InputError naming the line."""
        self._begin()
        yield self._maps(self._baseline(), 1, 0)
        for record in self._lines.records():
            if record.line == 1:
                continue
            try:
                yield from self._record(record)
            except _MALFORMED as error:
                raise self._lines.fail(record.line, f"unexpected record: {error}") from None

    def skips(self) -> list[Skip]:
        """What became no event: the rest of a recording that was cut off."""
        return [] if self._complete else [Skip(None, None, "truncated", self._lines.cut, 1)]

    def _baseline(self) -> tuple[Arg, ...]:
        """The header's list. The recorder itself has written to its writable private mappings."""
        kind, count, removed, lines = self._vmas.whole("baseline")
        written = [[*line[:8], True] if line[2][1] == "w" and line[2][3] == "p" else line for line in lines]
        return kind, count, removed, written

    def _record(self, record: Record) -> Iterator[Event]:
        data = record.data
        if self._complete:
            raise ValueError("a line after the end")
        if "end" in data:
            yield self._end(record)
            return
        if data["op"] == "fork":
            yield from self._fork(record)
            return
        self._ops += 1
        added = [parse_vma(entry) for entry in data["+"]]
        yield self._operation(record, added)
        yield self._check(record, added)

    def _end(self, record: Record) -> Event:
        if record.data["end"] != self._ops:
            raise ValueError(f"the end counts {record.data['end']} operations, {self._ops} were read")
        whole = [parse_vma(entry) for entry in record.data["vmas"]]
        if not self._vmas.agrees(whole):
            raise ValueError("the differences do not add up to the last list")
        self._complete = True
        return self._maps(VmaList(whole).whole("check"), record.line, record.offset)

    def _event(self, call: str, args: tuple[Arg, ...], line: int, offset: int, **more: Any) -> Event:
        self._seq += 1
        known = {"result": None, "errno": 0, **more}
        return Event(
            self._seq,
            self._mm,
            self._pid,
            self._pid,
            None,
            call,
            args,
            source_line=line,
            source_offset=offset,
            **known,
        )

    def _operation(self, record: Record, added: list[ObservedVma]) -> Event:
        data = record.data
        op = data["op"]
        args = [int(text, 16) for text in data["a"]]
        known: Known = {"result": int(data["r"], 16) if "r" in data else None, "errno": data.get("e", 0)}
        special = _SPECIAL.get(op)
        call, typed, fd = special(data, args) if special else (op, tuple(args), None)
        known["file"] = None if fd is None else self._fds.get(fd)
        if op == "mmap" and known["file"] and "r" in data:
            self._observe_file(known["file"], known["result"], added)
        return self._event(call, typed, record.line, record.offset, **known)

    def _observe_file(self, file: int, address: int, added: list[ObservedVma]) -> None:
        """Take a file's path and device from the first line that shows it mapped."""
        info = self.files[file - 1]
        if info.path is not None:
            return
        for line in added:
            if line.start <= address < line.end and line.inode == info.inode and line.inode:
                self.files[file - 1] = info._replace(path=line.name, dev=line.dev)

    def _fork(self, record: Record) -> Iterator[Event]:
        data = record.data
        call = "clone" if int(data["a"][0], 16) else "fork"
        at = record.line, record.offset
        failed = "e" in data
        self._ops += failed or data["who"] == "child"
        if failed:
            yield self._event(call, (_SIGCHLD, None), *at, errno=data["e"])
        elif data["who"] == "child":
            yield from self._forked(record, call)
            return
        yield self._check(record, [parse_vma(entry) for entry in data["+"]])

    def _forked(self, record: Record, call: str) -> Iterator[Event]:
        """The child's line: its list is the parent's with this difference."""
        data, at = record.data, (record.line, record.offset)
        parent = self._mm, self._pid, self._vmas
        self._mms += 1
        yield self._event(call, (_SIGCHLD, self._mms), *at, result=data["child"])
        self._mm, self._pid, self._vmas = self._mms, int(data["child"]), self._vmas.copy()
        if data["cont"] == "child":
            self._new_uffds()
        self._change(data, [parse_vma(entry) for entry in data["+"]])
        yield self._maps(self._vmas.whole("check"), *at)
        if data["cont"] == "parent":
            yield self._event("exit", (0, None, 1), *at, result=0)
            self._mm, self._pid, self._vmas = parent

    def _change(self, data: dict[str, Any], added: list[ObservedVma]) -> list[int]:
        removed = [int(start, 16) for start in data["-"]]
        self._vmas.change(removed, added, data["n"])
        return removed

    def _check(self, record: Record, added: list[ObservedVma]) -> Event:
        removed = self._change(record.data, added)
        return self._maps(self._vmas.check("check", removed, added), record.line, record.offset)

    def _maps(self, args: tuple[Arg, ...], line: int, offset: int) -> Event:
        return self._event("maps", args, line, offset)


Typed = tuple[str, tuple[Arg, ...], int | None]  # call, arguments, the descriptor that the event names


def _mmap(_: dict[str, Any], a: list[int]) -> Typed:
    fd = max(_c_int(a[4]), -1)
    return "mmap", (*a[:4], fd, a[5]), None if a[3] & _MAP_ANONYMOUS else fd


def _pkey_mprotect(_: dict[str, Any], a: list[int]) -> Typed:
    return "pkey_mprotect", (*a[:3], _c_int(a[3])), None


def _mbind(_: dict[str, Any], a: list[int]) -> Typed:
    """The mask is passed by value; with no bits in it the pointer was NULL."""
    return "mbind", (*a[:3], a[3] if a[4] else None, *a[4:]), None


def _anon_name(data: dict[str, Any], a: list[int]) -> Typed:
    return "prctl", (*_ANON_NAME, a[0], a[1], 0, data["s"]), None


def _uffd_register(_: dict[str, Any], a: list[int]) -> Typed:
    return "ioctl", (a[0], "UFFDIO_REGISTER", a[1], a[2], a[3], None), a[0]


def _uffd_unregister(_: dict[str, Any], a: list[int]) -> Typed:
    return "ioctl", (a[0], "UFFDIO_UNREGISTER", a[1], a[2], None, None), a[0]


def _touch(data: dict[str, Any], a: list[int]) -> Typed:
    """The result counts the pages that were not served."""
    outcome = data["t"]
    return "fault", (a[0], len(outcome) * _PAGE, "w" if a[2] else "r", outcome, "user"), None


_SPECIAL: dict[str, Callable[[dict[str, Any], list[int]], Typed]] = {
    "mmap": _mmap,
    "pkey_mprotect": _pkey_mprotect,
    "mbind": _mbind,
    "anon_name": _anon_name,
    "uffd_register": _uffd_register,
    "uffd_unregister": _uffd_unregister,
    "touch": _touch,
}


def _c_int(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _facts(entry: dict[str, Any], tmpfs: bool) -> tuple[str, int, int | None, int | None]:
    """Kind, mode, inode and size of a descriptor in the header's table.

    An unlinked tmpfs file is to the kernel what a memfd is (shmem_anon_vm_ops).
    """
    what, size = entry["what"], entry["size"]
    kind = {"/dev/zero": "zero", "tmpdir": "directory"}.get(what, "tmpfs" if tmpfs else "regular")
    if what.startswith("memfd:") or (tmpfs and "unlinked" in what):
        kind = "memfd"
    return kind, entry["mode"], entry["ino"] or None, size if size >= 0 else None


_INTS = ("max_map_count", "overcommit_memory", "mmap_min_addr", "ksm_run")
_FEATURES = ("anon_name", "userfaultfd", "ksm", "hugepage", "numa", "mseal", "guard", "home_node")


def _header(head: dict[str, Any], name: str, path: str) -> TraceHeader:
    if head.get("vmafuzz") != 1:
        raise InputError(f"{path}: vmafuzz format {head.get('vmafuzz')!r} is not known", hint="Upgrade vmastore.")
    config: dict[str, Any] = {key: int(head[key]) for key in _INTS if key in head}
    config.update({key: _chosen(head[key]) for key in ("thp", "shmem_thp") if key in head})
    config.update({key: bool(head["has"][key]) for key in _FEATURES if key in head["has"]})
    config["soft_dirty"] = _soft_dirty(head)
    config["start_brk"] = config["brk0"] = int(head["start_brk"], 16)
    config["arena"] = [int(bound, 16) for bound in head["arena"]]
    config["uffd_features"] = _UFFD_FEATURES
    note = f"profile {head['profile']}, seed {head['seed']}"
    return TraceHeader(name, path, "vmafuzz", head["release"], head["version"], config, "recorded", note)


def _chosen(text: str) -> str:
    """The choice in brackets of a sysfs file."""
    return text.partition("[")[2].partition("]")[0] or text


def _soft_dirty(head: dict[str, Any]) -> bool:
    """The kernel's configuration, which new recordings leave out; else whether VmFlags show it."""
    known = head.get("config") or {}
    if "MEM_SOFT_DIRTY" in known:
        return bool(known["MEM_SOFT_DIRTY"])
    return any("sd" in (entry[7] or "").split() for entry in head["vmas"])
