"""A recording's three sources in one order: strace's log, page faults, observed address spaces.

A call that changes VMAs stands where its thread got hold of the address space, if perf has recorded that:
strace sees calls return in another order than the kernel made them, when threads call at the same time.
Any other call stands where it returned. A fault of a thread stands between that thread's calls by its time;
one taken while the thread is in a call (a copy by the kernel) stands after it, since calls copy their
results out when their work is done. An observation stands where the log was when it was made; a call that
had done its work by then, though its line came later, is moved before it. The return of a clone or fork
is moved before the first sign of the child.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vmastore.events.types import Event
from vmastore.importers.faults import Fault, Locked
from vmastore.importers.strace import StraceImporter
from vmastore.mm.flags import PAGE_MASK, PAGE_SIZE
from vmastore.recorder.areas import Areas
from vmastore.recorder.loglines import Log, LogLine
from vmastore.recorder.proc import parse_raw
from vmastore.recorder.spool import Shot
from vmastore.recorder.watch import CHANGES_VMAS

_EXECS = frozenset({"execve", "execveat"})
_CLONES = frozenset({"clone", "clone3", "fork", "vfork"})
_BASELINES = frozenset({"exec", "attach"})
_MAX_WAITING = 10_000  # faults of one thread kept until its call returns


class Merger:
    """Folds one recording into events. `events()` is to be called once."""

    def __init__(
        self,
        importer: StraceImporter,
        log: Log,
        shots: Iterable[tuple[Shot, bytes]],
        marks: Iterable[Fault | Locked],
        *,
        thp: str = "madvise",
        ignore: Iterable[int] = (),
    ) -> None:
        """ignore: threads whose faults are nobody's (strace itself)."""
        self._importer = importer
        self._log = log
        self._shots = iter(shots)
        self._marks = iter(marks)
        self._thp = thp
        self._ignore = frozenset(ignore)
        self._at = LogLine(1, 0, b"", 0, "", 0, 0, False, False)  # the line whose turn it is
        self._shot = next(self._shots, None)
        self._mark = next(self._marks, None)
        self._areas: dict[int, Areas] = {}  # by mm
        self._busy: dict[int, str] = {}  # threads in a call: which
        self._waiting: dict[int, list[Fault]] = {}  # faults of threads in a call
        self._execing: dict[int, int] = {}  # threads in execve, or just out of it: until when (ns)
        self._based: set[int] = set()  # mms that have a baseline
        self._final: set[int] = set()  # mms observed at their end
        self.unobserved = 0  # address spaces that ended without an observation
        self.faults_seen = 0
        self.faults_kept = 0
        self.faults_nobody = 0  # of threads that the log does not know

    def events(self) -> Iterator[Event]:
        """All events, in order."""
        while (line := self._log.next()) is not None:
            self._at = line
            yield from self._observations(line)
            if line.tid and not line.ends:
                yield from self._birth(line.tid)
            yield from self._marks_until(line.time_ns)
            if self._at is line:  # else a lock has moved it forward
                yield from self._line(line)
        yield from self._rest()

    def _rest(self) -> Iterator[Event]:
        """What stands behind the log's last line."""
        while self._shot is not None:
            yield from self._observation(*self._shot)
            self._shot = next(self._shots, None)
        for event in self._importer.finish():
            yield event
            self._follow(event)
        yield from self._marks_until(1 << 63)

    def _line(self, line: LogLine) -> Iterator[Event]:
        tid = line.tid
        if line is self._at:
            self._at = line._replace(tid=0)
        if line.begins:
            self._busy[tid] = line.name
        else:
            self._busy.pop(tid, None)
        if line.name in _EXECS:
            self._execing[tid] = (1 << 63) if line.begins else line.time_ns
        importer = self._importer
        importer.number, importer.offset = line.number - 1, line.offset
        for event in importer.feed(line.text):
            yield event
            if event.call == "exit" and event.args[2]:
                yield from self._end(event)
            self._follow(event)
        if not line.begins:
            yield from self._release(tid)

    def _advance(self, tid: int) -> Iterator[Event]:
        """Feed the lines of a call in flight now."""
        if self._at.tid == tid and not self._at.begins:
            yield from self._line(self._at)
            return
        for line in self._log.completion(tid):
            yield from self._line(line)

    def _birth(self, tid: int) -> Iterator[Event]:
        """Before the first sign of a thread: the return of the call that made it."""
        if self._importer.pid_of(tid):
            return
        line = self._log.birth(tid, self._at)
        if line is not None and self._importer.pid_of(line.tid):
            yield from self._line(line)

    # -- faults and locks

    def _marks_until(self, time_ns: int) -> Iterator[Event]:
        while self._mark is not None and self._mark.time_ns < time_ns:
            mark = self._mark
            self._mark = next(self._marks, None)
            if isinstance(mark, Locked):
                yield from self._lock(mark)
            elif self._in_call(mark):
                self._wait(mark)
            else:
                yield from self._emit(mark)

    def _in_call(self, mark: Fault | Locked) -> bool:
        """Whether a thread is in a call, by what was fed and by the line whose turn it is."""
        at = self._at
        return mark.tid in self._busy or (
            at.tid == mark.tid and at.entry_ns is not None and mark.time_ns >= at.entry_ns
        )

    def _lock(self, mark: Locked) -> Iterator[Event]:
        """The thread's call changes VMAs now."""
        name = self._busy.get(mark.tid) or (self._at.name if self._in_call(mark) else "")
        if name.encode() in CHANGES_VMAS or name in _CLONES:
            yield from self._advance(mark.tid)

    def _wait(self, fault: Fault) -> None:
        waiting = self._waiting.setdefault(fault.tid, [])
        if len(waiting) < _MAX_WAITING:
            waiting.append(fault)

    def _release(self, tid: int) -> Iterator[Event]:
        for fault in self._waiting.pop(tid, ()):
            yield from self._emit(fault)

    def _emit(self, fault: Fault) -> Iterator[Event]:
        """The event of a fault, if it can matter."""
        self.faults_seen += 1
        tid = fault.tid
        if fault.time_ns <= self._execing.get(tid, 0):
            return  # of the new program's image: its baseline shows it
        yield from self._birth(tid)
        mm = self._importer.mm_of(tid)
        if not mm:
            self.faults_nobody += tid not in self._ignore
            return
        access = self._area(mm).keep(fault.addr, fault.access, tid)
        if access is None:
            return
        self.faults_kept += 1
        yield self._importer.emit(
            "fault",
            mm=mm,
            pid=self._importer.pid_of(tid),
            tid=tid,
            ts_ns=fault.time_ns,
            args=(fault.addr & PAGE_MASK, PAGE_SIZE, access, None, fault.source),
            result=None,
        )

    # -- observations

    def _observations(self, line: LogLine) -> Iterator[Event]:
        """Those made before all of a line was written."""
        while self._shot is not None and self._shot[0].offset < line.end:
            yield from self._marks_until(self._shot[0].ts_ns)
            yield from self._observation(*self._shot)
            self._shot = next(self._shots, None)

    def _observation(self, shot: Shot, text: bytes) -> Iterator[Event]:
        for tid in shot.done:
            if tid in self._busy or self._at.tid == tid:
                yield from self._advance(tid)
        yield from self._birth(shot.tid)
        mm = self._importer.mm_of(shot.tid)
        if mm:
            yield from self._observe(shot, mm, text)

    def _observe(self, shot: Shot, mm: int, text: bytes) -> Iterator[Event]:
        lines = parse_raw(text, f"/proc/{shot.pid}/smaps")
        kind = "baseline" if shot.kind in _BASELINES or mm not in self._based else "check"
        self._based.add(mm)
        if shot.kind == "exit":
            self._final.add(mm)
        if kind == "baseline":
            self._areas[mm] = Areas.observed(lines, self._thp)
        pid = self._importer.pid_of(shot.tid) or shot.pid
        if shot.doubtful or not shot.steady:
            facts: dict[str, Any] = {"in_flight": shot.doubtful, "steady": shot.steady}
            yield self._importer.emit(
                "note", mm=mm, pid=pid, tid=shot.tid, ts_ns=shot.ts_ns, args=("observation", facts)
            )
        args = (kind, len(lines), None, [list(line) for line in lines])
        yield self._importer.emit("maps", mm=mm, pid=pid, tid=shot.tid, ts_ns=shot.ts_ns, args=args)
        heap = [line.end for line in lines if line.name == "[heap]"]
        if shot.kind == "attach" and shot.start_brk:  # a program that starts asks for it itself
            brk = {"start_brk": shot.start_brk, "brk": max(heap, default=shot.start_brk)}
            yield self._importer.emit("note", mm=mm, pid=pid, tid=shot.tid, ts_ns=shot.ts_ns, args=("brk", brk))

    def _end(self, event: Event) -> Iterator[Event]:
        """Say so where an address space went unobserved."""
        mm = event.mm
        if mm in self._final:
            self._final.discard(mm)
        elif mm:
            signal = event.args[1]
            why = f"killed by signal {signal}" if signal else "not held at its exit"
            facts = {"pid": event.pid, "why": why}
            yield self._importer.emit(
                "note", mm=mm, pid=event.pid, tid=event.tid, ts_ns=event.ts_ns, args=("no-final-observation", facts)
            )
            self.unobserved += 1

    # -- address spaces

    def _area(self, mm: int) -> Areas:
        found = self._areas.get(mm)
        if found is None:
            found = self._areas[mm] = Areas(self._thp)
        return found

    def _follow(self, event: Event) -> None:
        """Keep the picture of each address space up to date."""
        call = event.call
        if call in _CLONES:
            child = event.args[1]
            if isinstance(child, int) and child != event.mm and not event.errno:
                self._areas[child] = self._area(event.mm).copy()
                if event.mm in self._based:
                    self._based.add(child)  # all of it is known: what is seen of it later is a check
        elif call == "exit":
            if event.args[2]:
                self._areas.pop(event.mm, None)
                self._based.discard(event.mm)
        elif call in _EXECS:
            if not any(thread.mm == event.mm for thread in self._importer.tracker.processes.threads.values()):
                self._areas.pop(event.mm, None)
                self._based.discard(event.mm)
        elif event.mm:
            self._area(event.mm).apply(event)
