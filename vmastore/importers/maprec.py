"""maprec recordings: real programs, each memory call with the change of the map after it (JSON lines).

A call is one event, followed by a `maps` check where the recording shows the map. What changed with
no call is a `stack_grow` event if it is the growth of a stack, else a `maps` event of kind "async".
Descriptor calls are tracked, so that events name the file they map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vmastore.errors import InputError
from vmastore.events.types import Arg, Event, FileInfo, ObservedVma, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.descriptors import FdTable
from vmastore.importers.jsonlines import JsonLines, Record, stem
from vmastore.importers.observed import VmaList, parse_vma
from vmastore.importers.processes import CLONE_FILES, Processes, Thread
from vmastore.importers.rawcalls import clone_flags, typed
from vmastore.importers.rawfiles import FileTracker
from vmastore.importers.sources import Source

_MALFORMED = (KeyError, ValueError, TypeError, IndexError, AttributeError)
_CLONES = frozenset({"clone", "clone3", "fork", "vfork"})
_EXECS = frozenset({"execve", "execveat"})


class MaprecReader:
    """One recording as a trace. `events()` may be called again: it reads the file anew."""

    def __init__(self, path: str | Path | Source, name: str | None = None) -> None:
        self._lines = JsonLines(path)
        head = self._lines.first()
        source = self._lines.source
        if head.get("maprec") != 1:
            raise InputError(
                f"{source.name}: maprec format {head.get('maprec')!r} is not known", hint="Upgrade vmastore."
            )
        try:
            note = "the program: " + " ".join(head["argv"])
            self.header = TraceHeader(name or stem(source.path), source.name, "maprec", head["release"], note=note)
            self._first_pid = int(head["pid"])
        except _MALFORMED as error:
            raise self._lines.fail(1, f"not a maprec header: {error!r}") from None
        self.files: list[FileInfo] = []
        self._begin()

    def _begin(self) -> None:
        self._seq = self._count = 0
        self.files.clear()  # the same list: whoever holds it sees what comes
        self._files = FileTracker(self.files)
        self._processes = Processes()
        self._maps: dict[int, VmaList] = {}  # by mm
        self._unplaced: Skip | None = None
        self._complete = False
        self._at = 1, 0  # line and offset of the record at hand
        self._thread(self._first_pid, self._first_pid, 1)

    def events(self) -> Iterator[Event]:
        """All events, in order. Raises InputError naming the line."""
        self._begin()
        for record in self._lines.records():
            if record.line == 1:
                continue
            self._at = record.line, record.offset
            try:
                yield from self._record(record)
            except _MALFORMED as error:
                raise self._lines.fail(record.line, f"unexpected record: {error}") from None

    def skips(self) -> list[Skip]:
        """VmFlags of VMAs that no line of the map showed; the rest of a recording that was cut off."""
        lost = [self._unplaced] if self._unplaced else []
        return lost if self._complete else [*lost, Skip(None, None, "truncated", self._lines.cut, 1)]

    # -- records

    def _record(self, record: Record) -> Iterator[Event]:
        data = record.data
        if "end" in data:
            self._expect(data["end"], "the end counts")
            self._complete = True
            return
        self._expect(data["i"], "the line has number")
        self._count += 1
        call = data["sc"]
        special = _RECORDS.get(call)
        if special is not None:
            yield from special(self, data)
        elif call in _CLONES:
            yield from self._clone(data, call)
        elif call in _EXECS:
            yield from self._exec(data, call)
        else:
            yield from self._call(data, call)

    def _expect(self, number: int, what: str) -> None:
        if number != self._count or self._complete:
            raise ValueError(f"{what} {number} where {self._count} lines were read")

    def _event(self, where: Thread, call: str, args: tuple[Arg, ...], **more: Any) -> Event:
        self._seq += 1
        known = {"result": 0, "errno": 0, "mm": where.mm, **more}
        mm, (line, offset) = known.pop("mm"), self._at
        return Event(
            self._seq, mm, where.pid, where.tid, None, call, args, source_line=line, source_offset=offset, **known
        )

    def _thread(self, tid: int, pid: int, mm: int, files: FdTable | None = None) -> Thread:
        known = self._processes.threads.get(tid)
        return known or self._processes.add(tid, pid, mm, files or FdTable())

    def _of(self, data: dict[str, Any]) -> Thread:
        """The thread of a record; those about a whole address space name the process only."""
        return self._thread(data.get("tid", data["pid"]), data["pid"], data["mm"])

    # -- calls

    def _call(self, data: dict[str, Any], call: str) -> Iterator[Event]:
        thread = self._of(data)
        registers = _registers(data)
        args = typed(call, registers, data.get("s"))
        result, errno = _answer(data)
        change = self._change(data) if "-" in data else None
        file, released = self._files.effect(thread, call, args, result, errno)
        if call == "shmat":
            args, file = self._attached(args, result, change)
        elif file is not None and call == "mmap" and result is not None:
            self._observe(file, result, change)
        mm = self._files.uffd_mm.get(file or 0, 0) if call == "ioctl" else 0  # what it acts on, whoever inherited it
        mm = mm if self._processes.in_use(mm) else thread.mm
        yield self._event(thread, call, args, result=result, errno=errno, file=file, mm=mm)
        for uffd in released:
            yield self._released(thread, uffd)
        if change:
            yield self._check(thread, "check", *change)

    def _attached(self, args: tuple[Arg, ...], result: int | None, change: Change | None) -> tuple[Any, int | None]:
        """shmat's arguments with the segment's size, and its file."""
        file = None
        if result is not None:
            file = self._files.attach_segment(args[0], _line_at(change, result), result)
        return (*args[:3], self._files.segment_size(args[0])), file

    def _observe(self, file: int, address: int, change: Change | None) -> None:
        line = _line_at(change, address)
        if line is not None:
            self._files.observe(file, line)

    def _released(self, thread: Thread, uffd: int) -> Event:
        mm = self._files.uffd_mm.get(uffd, thread.mm)
        return self._event(thread, "release", (), file=uffd, mm=mm)

    # -- process life

    def _clone(self, data: dict[str, Any], call: str) -> Iterator[Event]:
        thread = self._of(data)
        flags = clone_flags(call, _registers(data), data.get("s"))
        result, errno = _answer(data)
        child_mm = data.get("child_mm")
        if child_mm is not None:
            shares = (flags or 0) & CLONE_FILES
            table = thread.files if shares else self._files.descriptions.copy(thread.files)
            self._processes.add(data["child"], data["child_pid"], child_mm, table)
        yield self._event(thread, call, (flags, child_mm), result=result, errno=errno)
        if "-" in data:
            yield self._check(thread, "check", *self._change(data))

    def _forked(self, data: dict[str, Any]) -> Iterator[Event]:
        """The child's map, told as the difference to its parent's."""
        child = self._of(data)
        self._maps[child.mm] = self._maps[data["parent_mm"]].copy()
        if "-" in data:
            self._change(data)
            yield self._whole(child, "check")

    def _exec(self, data: dict[str, Any], call: str) -> Iterator[Event]:
        thread = self._of(data)
        result, errno = _answer(data)
        path, argv, _ = typed(call, _registers(data), data.get("s"))
        if errno:
            yield self._event(thread, call, (path, argv, None), result=result, errno=errno)
            return
        for sibling in self._processes.siblings(thread):
            self._processes.remove(sibling.tid)
        old, new = thread.mm, data["mm"]
        if self._processes.move(thread, new):
            self._maps.pop(old, None)
        self._files.unshare(thread)
        yield self._event(thread, call, (path, argv, new), result=result, mm=old)
        for uffd in self._files.descriptions.exec(thread.files):
            yield self._released(thread, uffd)
        yield from self._start(data)

    def _start(self, data: dict[str, Any]) -> Iterator[Event]:
        self._maps[data["mm"]] = VmaList()
        if "+" in data:
            self._change(data)
            yield self._whole(self._of(data), "baseline")

    def _exiting(self, data: dict[str, Any]) -> Iterator[Event]:
        """A thread on its way out, still with its address space: `exit` follows when it is gone."""
        lines = self._maps[data["mm"]].lines
        if len(lines) != data["n"]:
            raise ValueError(f"the differences add up to {len(lines)} VMAs, the recording says {data['n']}")
        yield from ()

    def _exit(self, data: dict[str, Any]) -> Iterator[Event]:
        thread = self._of(data)
        _, last = self._processes.remove(thread.tid) or (thread, False)
        if last:
            self._maps.pop(thread.mm, None)
        status = data["status"]
        signal = status & 0x7F
        code = None if signal else status >> 8
        yield self._event(thread, "exit", (code, signal or None, int(last)))
        for uffd in self._files.descriptions.drop(thread.files):
            yield self._released(thread, uffd)

    # -- maps

    def _change(self, data: dict[str, Any]) -> Change:
        """Apply a record's difference to its address space's list."""
        removed = [int(start, 16) for start in data["-"]]
        added = [parse_vma(entry) for entry in data["+"]]
        self._maps[data["mm"]].change(removed, added, data["n"])
        return removed, added

    def _check(self, thread: Thread, kind: str, removed: list[int], added: list[ObservedVma]) -> Event:
        args = self._maps[thread.mm].check(kind, removed, added)
        return self._event(thread, "maps", args, result=None)

    def _whole(self, thread: Thread, kind: str) -> Event:
        return self._event(thread, "maps", self._maps[thread.mm].whole(kind), result=None)

    def _async(self, data: dict[str, Any]) -> Iterator[Event]:
        before = dict(self._maps[data["mm"]].lines)
        removed, added = self._change(data)
        thread = self._of(data)
        kind = "async"
        if _is_growth([before[start] for start in removed], added):
            yield self._event(thread, "stack_grow", (added[0].start,))
            kind = "check"
        yield self._check(thread, kind, removed, added)

    def _flags(self, data: dict[str, Any]) -> Iterator[Event]:
        """VmFlags, read from smaps, of the lines that are known already."""
        lines = self._maps[data["mm"]].lines
        shown = []
        for start, flags in ((int(text, 16), flags) for text, flags in data["flags"]):
            line = lines.get(start)
            if line is None:
                self._lost_flags()
                continue
            lines[start] = line._replace(vm_flags=flags)
            shown.append(lines[start])
        yield self._check(self._of(data), "check", [], shown)

    def _lost_flags(self) -> None:
        first = self._unplaced or Skip(None, "flags", "no-such-vma", self._at[0], 0)
        self._unplaced = first._replace(count=first.count + 1)


Change = tuple[list[int], list[ObservedVma]]  # starts removed, lines added

_RECORDS: dict[str, Callable[[MaprecReader, dict[str, Any]], Iterator[Event]]] = {
    "start": MaprecReader._start,
    "async": MaprecReader._async,
    "forked": MaprecReader._forked,
    "exiting": MaprecReader._exiting,
    "exit": MaprecReader._exit,
    "flags": MaprecReader._flags,
}


def _registers(data: dict[str, Any]) -> list[int]:
    """The six arguments; those left out at the end are zeros."""
    values = [int(text, 16) for text in data["a"]]
    return values + [0] * (6 - len(values))


def _answer(data: dict[str, Any]) -> tuple[int | None, int]:
    """Result and errno."""
    return (None, data["e"]) if "e" in data else (int(data["r"], 16), 0)


def _line_at(change: Change | None, address: int) -> ObservedVma | None:
    """The line of a difference that holds an address."""
    lines = change[1] if change else []
    return next((line for line in lines if line.start <= address < line.end), None)


def _is_growth(before: list[ObservedVma], after: list[ObservedVma]) -> bool:
    """Whether exactly one stack has grown downwards and nothing else has changed."""
    if len(before) != 1 or len(after) != 1:
        return False
    old, new = before[0], after[0]
    stack = old.name == "[stack]" or "gd" in (old.vm_flags or "").split()
    return stack and new.start < old.start and old[1:3] == new[1:3] and old[4:7] == new[4:7]
