"""vmafuzz recordings: random memory calls with the whole VMA list after each (JSON lines).

One operation is one event, followed by a `maps` check of the same address space. `[vsyscall]` is
not a VMA and is left out of lists and counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from vmastore.errors import InputError
from vmastore.events import Event, FileInfo, ObservedVma, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.sources import open_lines

_VSYSCALL = 0xFFFFFFFFFF600000
_UFFD_FDS = (70, 71)
_ANON_NAME = (0x53564D41, 0)  # PR_SET_VMA, PR_SET_VMA_ANON_NAME
_SIGNED = {"mmap": (4,), "pkey_mprotect": (3,)}  # arguments that the program passed as C int


def is_header(record: dict[str, Any]) -> bool:
    return "vmafuzz" in record


class VmafuzzReader:
    """One recording as a trace. Raises InputError naming the line."""

    def __init__(self, path: str, name: str | None = None) -> None:
        self.path = path
        self._head = self._first()
        self.files: list[FileInfo] = []
        self._fds: dict[int, int] = {}
        self.header = _header(self._head, name or path, path)
        self._describe_files()
        self._seq = 0
        self._mm, self._pid, self._mms = 1, int(self._head["pid"]), 1

    def _first(self) -> dict[str, Any]:
        for number, line in open_lines(self.path):
            return self._parse(number, line)
        raise InputError(f"{self.path}: empty")

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{self.path}:{number}: not JSON: {error}") from None
        if not isinstance(record, dict):
            raise InputError(f"{self.path}:{number}: not a JSON object")
        return record

    def _describe_files(self) -> None:
        for fd in self._head["fds"]:
            if fd["same_description_as"] != fd["fd"]:
                self._fds[fd["fd"]] = self._fds[fd["same_description_as"]]
                continue
            self._fds[fd["fd"]] = self._add_file(
                _kind(fd["what"]),
                readable=fd["mode"] in (0, 2),
                writable=fd["mode"] in (1, 2),
                inode=fd["ino"] or None,
                size=fd["size"] if fd["size"] >= 0 else None,
            )
        self._new_uffds()

    def _new_uffds(self) -> None:
        if self._head["has"]["userfaultfd"]:
            for fd in _UFFD_FDS:
                self._fds[fd] = self._add_file("uffd", readable=True, writable=True)

    def _add_file(self, kind: str, **facts: Any) -> int:
        number = len(self.files) + 1
        self.files.append(FileInfo(number, None, kind, origin="inherited", **facts))
        return number

    def events(self) -> Iterator[Event]:
        yield self._maps("baseline", self._head["vmas"], None)
        for number, line in open_lines(self.path):
            if number == 1:
                continue
            record = self._parse(number, line)
            try:
                yield from self._record(record, number)
            except (KeyError, ValueError, TypeError, IndexError) as error:
                raise InputError(f"{self.path}:{number}: unexpected record: {error!r}") from None

    def skips(self) -> list[Skip]:
        return []

    def _record(self, record: dict[str, Any], line: int) -> Iterator[Event]:
        if "end" in record:
            yield self._maps("check", record["vmas"], None, line=line)
        elif record["op"] == "fork":
            yield from self._fork(record, line)
        else:
            yield self._operation(record, line)
            yield self._check(record, line)

    def _event(self, call: str, args: tuple[Any, ...], line: int, **more: Any) -> Event:
        self._seq += 1
        mm = more.pop("mm", self._mm)
        result, errno = more.pop("result", 0), more.pop("errno", 0)
        return Event(self._seq, mm, self._pid, self._pid, None, call, args, result, errno, source_line=line, **more)

    def _operation(self, record: dict[str, Any], line: int) -> Event:
        op = record["op"]
        args = [int(a, 16) for a in record["a"]]
        for n in _SIGNED.get(op, ()):
            args[n] = _signed(args[n])
        result = int(record["r"], 16) if "r" in record else None
        known: dict[str, Any] = {"result": result, "errno": record.get("e", 0)}
        if op == "touch":
            access = "w" if args[2] else "r"
            return self._event("fault", (args[0], args[1], access, record["t"], "user"), line, **known)
        if op == "anon_name":
            return self._event("prctl", (*_ANON_NAME, args[0], args[1], 0, record["s"]), line, **known)
        if op == "uffd_register":
            uffd = self._fds.get(args[0])
            call = (args[0], "UFFDIO_REGISTER", args[1], args[2], args[3], None)
            return self._event("ioctl", call, line, file=uffd, **known)
        if op == "uffd_unregister":
            uffd = self._fds.get(args[0])
            call = (args[0], "UFFDIO_UNREGISTER", args[1], args[2], None, None)
            return self._event("ioctl", call, line, file=uffd, **known)
        file = None
        if op == "mmap" and not args[3] & 0x20:
            file = self._fds.get(args[4])
        if op == "mbind" and not args[4]:
            return self._event("mbind", (*args[:3], None, *args[4:]), line, **known)
        return self._event(op, tuple(args), line, file=file, **known)

    def _fork(self, record: dict[str, Any], line: int) -> Iterator[Event]:
        call = "clone" if int(record["a"][0], 16) else "fork"
        if "e" in record:
            yield self._event(call, (17, None), line, result=None, errno=record["e"])
            yield self._check(record, line)
            return
        if record["who"] == "parent":
            yield self._check(record, line)
            return
        self._mms += 1
        child, parent = self._mms, self._mm
        yield self._event(call, (17, child), line, result=record["child"])
        self._mm, pid, self._pid = child, self._pid, record["child"]
        if record["cont"] == "child":
            self._new_uffds()
            yield self._check(record, line)
            return
        yield self._check(record, line)
        yield self._event("exit", (0, None, 1), line)
        self._mm, self._pid = parent, pid

    def _check(self, record: dict[str, Any], line: int) -> Event:
        return self._maps("check", record["+"], record["-"], line=line, count=record["n"])

    def _maps(
        self, kind: str, lines: list[Any], removed: list[str] | None, *, line: int = 1, count: int | None = None
    ) -> Event:
        added = [v for v in (_vma(entry, kind) for entry in lines) if v.start != _VSYSCALL]
        gone = None if removed is None else [int(s, 16) for s in removed]
        total = len(added) if count is None else count - self._vsyscall
        return self._event("maps", (kind, total, gone, [list(v) for v in added]), line, result=None)

    @property
    def _vsyscall(self) -> int:
        return sum(int(v[0], 16) == _VSYSCALL for v in self._head["vmas"])


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _kind(what: str) -> str:
    if what.startswith("memfd:"):
        return "memfd"
    return {"/dev/zero": "zero", "tmpdir": "directory"}.get(what, "regular")


def _vma(entry: list[Any], kind: str) -> ObservedVma:
    start, end, perms, offset, dev, inode, name, flags = entry
    # the recorder itself has run in its own writable mappings
    written = True if kind == "baseline" and perms[1] == "w" and perms[3] == "p" else None
    return ObservedVma(int(start, 16), int(end, 16), perms, int(offset, 16), dev, inode, name, flags, written)


def _header(head: dict[str, Any], name: str, path: str) -> TraceHeader:
    has, config = head["has"], head.get("config") or {}
    flags = {v[7] for v in head["vmas"] if v[7]}
    facts: dict[str, Any] = {
        key: int(head[key]) for key in ("max_map_count", "overcommit_memory", "mmap_min_addr") if key in head
    }
    for key in ("thp", "shmem_thp"):
        if key in head:
            facts[key] = head[key].split("[")[1].split("]")[0]
    facts.update({key: bool(has[key]) for key in ("anon_name", "userfaultfd", "ksm", "hugepage", "numa")})
    facts["soft_dirty"] = config.get("MEM_SOFT_DIRTY", any("sd" in f.split() for f in flags))
    facts["start_brk"] = facts["brk0"] = int(head["start_brk"], 16)
    return TraceHeader(
        name, path, "vmafuzz", head["release"], head["version"], facts, "recorded", head.get("profile")
    )
