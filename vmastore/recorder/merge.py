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

import re
from collections.abc import Iterable, Iterator
from typing import Any

from vmastore.events.types import Arg, Event, ObservedVma
from vmastore.importers.faults import Fault, Locked
from vmastore.importers.strace import StraceImporter
from vmastore.mm.flags import PAGE_MASK, PAGE_SIZE
from vmastore.recorder.areas import Areas
from vmastore.recorder.copies import Copies, is_copy
from vmastore.recorder.loglines import Log, LogLine, Quiet, born_of
from vmastore.recorder.marks import NEVER, Mark, Marks, Passed
from vmastore.recorder.proc import parse_raw
from vmastore.recorder.shots import NOWHERE, Shots
from vmastore.recorder.spool import Shot
from vmastore.recorder.watch import CHANGES_VMAS, is_held_exec

_EXECS = frozenset({"execve", "execveat"})
_CLONES = frozenset({"clone", "clone3", "fork", "vfork"})
_LIFE = _EXECS | _CLONES
_ORDERED = _CLONES | {name.decode() for name in CHANGES_VMAS}  # calls that a lock puts in order
_BASELINES = frozenset({"exec", "attach"})
_RETURNS_ZERO = frozenset({"munmap", "mprotect", "pkey_mprotect", "madvise", "mlock", "mlock2", "munlock", "mbind"})
_RETURNS_ADDRESS = frozenset({"mmap", "mremap", "brk", "shmat"})
_NOT_ZERO = re.compile(rb"\) += [1-9]\d*(?= |$)")
_NO_ADDRESS = re.compile(rb"\) += (?:\d+|0x[0-9a-f]{1,3})(?= |$)")
_MAX_WAITING = 10_000  # faults of one thread kept until its call returns
_BATCH = 500
_LOCK_WAIT_NS = 1_000_000_000  # how much later than its line tells a call can have got its lock


def _without_result(line: LogLine) -> bytes:
    """The text of a line after a process's end began, without a result that is none.

    When a thread is killed between two calls, strace takes a number that lies in the register by then
    (the next call's, or 0) for the result of the last one.
    """
    wrong = _NO_ADDRESS if line.name in _RETURNS_ADDRESS else _NOT_ZERO if line.name in _RETURNS_ZERO else None
    return line.text if wrong is None else wrong.sub(b") = ?", line.text)


class Merger:
    """Folds one recording into events. `events()` is to be called once."""

    def __init__(
        self,
        importer: StraceImporter,
        log: Log,
        shots: Shots,
        marks: Iterable[Mark | Passed] | None,
        *,
        thp: str = "madvise",
        ignore: Iterable[int] = (),
        copies: bool = False,
    ) -> None:
        """marks: None where there are neither faults nor locks. ignore: threads whose faults are nobody's (strace).
        copies: the log has the calls of COPYING, raw.

        The sources are read no further than is needed, so that they can be those of a program that still
        runs. What comes out does not depend on how far they had got when they were read.
        """
        self._importer = importer
        self._log = log
        self._shots = shots
        self._marks = Marks(() if marks is None else marks)
        self._thp = thp
        self._ignore = frozenset(ignore)
        self._out: list[Event] = []
        self._batch: list[bytes] = []  # lines that are to be fed
        self._next_line = 0  # the number of the one that may join them
        self._at = LogLine(1, 0, b"", 0, "", 0, 0, False, False)  # the line whose turn it is
        self._fed = True  # it has been taken already
        self._marked = marks is not None
        self._copies = Copies() if copies else None
        self._areas: dict[int, Areas] = {}  # by mm
        self._known: set[int] = set()  # threads seen
        self._busy: dict[int, str] = {}  # threads in a call: which
        self._waiting: dict[int, list[Fault]] = {}  # faults of threads in a call
        self._execing: dict[int, int] = {}  # threads in execve, or just out of it: until when (ns)
        self._based: set[int] = set()  # mms that have a baseline, or are copies of one that has
        self._final: set[int] = set()  # mms observed at their end
        self.unobserved = 0  # address spaces that ended without an observation
        self.faults_seen = 0
        self.faults_kept = 0
        self.faults_nobody = 0  # of threads that the log does not know

    def events(self) -> Iterator[Event]:
        """All events, in order."""
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[Event]]:
        """The same in lists, one where many have come together, and where the log is quiet (it may be empty)."""
        while (found := self._log.next()) is not None:
            if isinstance(found, Quiet):
                self._quiet(found)
            else:
                self._turn(found)
                if len(self._out) <= _BATCH:
                    continue
            yield self._given()
        self._rest()
        yield self._given()

    def _given(self) -> list[Event]:
        out, self._out = self._out, []
        return out

    def _turn(self, line: LogLine) -> None:
        """The next line, and what stands before it."""
        self._at, self._fed = line, False
        if self._shots.next_offset < line.end:
            self._observations(line.end)
        if line.tid not in self._known and not line.ends:
            self._birth(line.tid)
        if self._marked:
            self._marks_until(line.time_ns)
            if not self._fed and not line.begins and not line.ends and line.name in _ORDERED:
                self._await_lock(line)
        if not self._fed:
            self._line(line)

    def _quiet(self, place: Quiet) -> None:
        """Take the marks that stand before the lines to come, whatever these are."""
        self._flush()
        until = place.until_ns
        if self._shots.next_offset != NOWHERE:
            until = min(until, self._shots.next.ts_ns)
        while (mark := self._marks.first(until)) is not None and mark.tid != place.open_tid:
            self._mark(self._marks.pop())

    def _rest(self) -> None:
        """What stands behind the log's last line."""
        self._observations(NOWHERE)
        self._flush()
        self._take(self._importer.finish())
        self._marks_until(NEVER)

    # -- lines

    def _line(self, line: LogLine) -> None:
        """Feed a line, now or soon."""
        tid, name = line.tid, line.name
        if line is self._at:
            self._fed = True
        self._known.add(tid)
        if self._copies is not None and is_copy(name):
            self._copy(line, self._copies)
            return
        self._feed(line)
        self._goes(line)
        if name in _EXECS:
            self._execs(line)
        if not name:  # an end, a signal
            self._flush()
            if not self._importer.pid_of(tid):
                self._known.discard(tid)
        self._came_back(line)

    def _feed(self, line: LogLine) -> None:
        """Let the importer read a line, soon."""
        if self._batch and (line.number != self._next_line or len(self._batch) >= _BATCH):
            self._flush()
        if not self._batch:
            self._importer.number, self._importer.offset = line.number - 1, line.offset
        self._batch.append(_without_result(line) if self._final else line.text)
        self._next_line = line.number + 1

    def _goes(self, line: LogLine) -> None:
        """A thread begins a call, or has returned from it."""
        if line.begins:
            self._busy[line.tid] = line.name
        else:
            self._busy.pop(line.tid, None)

    def _came_back(self, line: LogLine) -> None:
        """The faults that waited for the thread's call."""
        if line.tid in self._waiting and not line.begins:
            for fault in self._waiting.pop(line.tid):
                self._emit(fault)

    def _copy(self, line: LogLine, copies: Copies) -> None:
        """A line of a call that is no event, but writes to memory: what it wrote is."""
        self._goes(line)
        wrote = copies.written(line.tid, line.name, line.text, begins=line.begins, ends=line.ends)
        if wrote is not None:
            self._flush()
            mm = self._importer.mm_of(line.tid)
            for addr in self._area(mm).wrote(*wrote) if mm else ():
                self._fault(mm, line.tid, line.time_ns, addr, "w", "kernel")
        self._came_back(line)

    def _execs(self, line: LogLine) -> None:
        """From an exec on, until it is observed, faults are of the image that the observation shows."""
        if line.begins:
            self._execing[line.tid] = NEVER
            return
        baseline = self._shots.baseline_of(line.tid) if is_held_exec(line.text) else None
        self._execing[line.tid] = line.time_ns if baseline is None else max(line.time_ns, baseline.ts_ns)

    def _flush(self) -> None:
        """Feed the lines that were held back."""
        if self._batch:
            batch, self._batch = self._batch, []
            self._take(self._importer.feed_batch(batch))

    def _take(self, events: list[Event]) -> None:
        for event in events:
            self._out.append(event)
            if event.call in _LIFE or event.call == "exit":
                self._lives(event)
            elif (self._marked or self._copies is not None) and event.mm:
                self._area(event.mm).apply(event)

    def _advance(self, tid: int) -> None:
        """Take the lines of a call in flight now."""
        at = self._at
        if at.tid == tid and not self._fed:
            self._line(at)
            if not at.begins:
                return
        for line in self._log.completion(tid):
            self._line(line)

    def _birth(self, tid: int) -> None:
        """Before the first sign of a thread: the return of the call that made it."""
        self._flush()
        if self._importer.pid_of(tid):
            return
        at = self._at
        if not self._fed and born_of(at) == tid:
            self._line(at)
        else:
            makers = [maker for maker, name in self._busy.items() if name in _CLONES]
            line = self._log.birth(tid, makers)
            if line is not None and self._importer.pid_of(line.tid):
                self._line(line)
        self._flush()

    # -- faults and locks

    def _marks_until(self, time_ns: int) -> None:
        while self._marks.first(time_ns) is not None:
            self._mark(self._marks.pop())

    def _mark(self, mark: Mark) -> None:
        if isinstance(mark, Locked):
            if self._call_of(mark) in _ORDERED:
                self._advance(mark.tid)
        elif self._call_of(mark):
            self._wait(mark)
        else:
            self._emit(mark)

    def _await_lock(self, line: LogLine) -> None:
        """Go on to the lock of a whole call, which may be later than its time and duration add up to.

        The time is that of the line's beginning, the duration counts from when it had been written. The
        next line's beginning is later than both.
        """
        when = self._marks.lock_of(line.tid, self._log.next_ns(line.time_ns + _LOCK_WAIT_NS))
        if when is not None:
            self._marks_until(when + 1)

    def _call_of(self, mark: Mark) -> str:
        """The call in which a thread is, by what was taken and by the line whose turn it is; "": none."""
        name = self._busy.get(mark.tid)
        if name is not None:
            return name
        at = self._at
        if at.tid != mark.tid or self._fed or at.entry_ns is None or mark.time_ns < at.entry_ns:
            return ""
        return at.name

    def _wait(self, fault: Fault) -> None:
        waiting = self._waiting.setdefault(fault.tid, [])
        if len(waiting) < _MAX_WAITING:
            waiting.append(fault)

    def _emit(self, fault: Fault) -> None:
        """The event of a fault, if it can matter."""
        tid = fault.tid
        if tid in self._ignore:
            return
        self.faults_seen += 1
        if fault.time_ns <= self._execing.get(tid, 0):
            return  # of the new program's image: its baseline shows it
        self._flush()
        mm = self._importer.mm_of(tid)
        if not mm:
            self._birth(tid)
            mm = self._importer.mm_of(tid)
        if not mm:
            self.faults_nobody += 1
            return
        access = self._area(mm).keep(fault.addr, fault.access, tid)
        if access is None:
            return
        self.faults_kept += 1
        self._fault(mm, tid, fault.time_ns, fault.addr, access, fault.source)

    def _fault(self, mm: int, tid: int, time_ns: int, addr: int, access: str, source: str) -> None:
        args = (addr & PAGE_MASK, PAGE_SIZE, access, None, source)
        pid = self._importer.pid_of(tid)
        self._out.append(self._importer.emit("fault", mm=mm, pid=pid, tid=tid, ts_ns=time_ns, args=args, result=None))

    # -- observations

    def _observations(self, end: int) -> None:
        """Those made before the log had been written up to `end`."""
        while self._shots.next_offset < end:
            self._marks_until(self._shots.next.ts_ns)
            self._observation(*self._shots.pop())

    def _observation(self, shot: Shot, text: bytes) -> None:
        for tid in shot.done:
            if tid in self._busy or (self._at.tid == tid and not self._fed):
                self._advance(tid)
        self._birth(shot.tid)
        if shot.threads:
            self._importer.attach(shot.pid, (tid for tid in shot.threads if not self._importer.pid_of(tid)))
        mm = self._importer.mm_of(shot.tid)
        if mm:
            self._observe(shot, mm, parse_raw(text, f"/proc/{shot.pid}/smaps"))

    def _observe(self, shot: Shot, mm: int, lines: list[ObservedVma]) -> None:
        kind = "baseline" if shot.kind in _BASELINES or mm not in self._based else "check"
        self._based.add(mm)
        if shot.kind == "exit":
            self._final.add(mm)
        if kind == "baseline":
            self._areas[mm] = Areas.observed(lines, self._thp)
        if shot.doubtful or not shot.steady:
            self._note(shot, mm, "observation", {"in_flight": shot.doubtful, "steady": shot.steady})
        self._add(shot, mm, "maps", (kind, len(lines), None, [list(line) for line in lines]))
        heap = [line.end for line in lines if line.name == "[heap]"]
        if shot.withheld is not None:
            path, rights = shot.withheld
            self._note(shot, mm, "rights-withheld", {"path": path, "kind": rights})
        if shot.kind == "attach" and shot.start_brk:  # a program that starts asks for it itself
            brk = {"start_brk": shot.start_brk, "brk": max(heap, default=shot.start_brk)}
            self._note(shot, mm, "brk", brk)
        if shot.own_image:
            self._note(shot, mm, "own-image", True)

    def _note(self, at: Shot | Event, mm: int, kind: str, value: Any) -> None:
        self._add(at, mm, "note", (kind, value))

    def _add(self, at: Shot | Event, mm: int, call: str, args: tuple[Arg, ...]) -> None:
        pid = self._importer.pid_of(at.tid) or at.pid
        self._out.append(self._importer.emit(call, mm=mm, pid=pid, tid=at.tid, ts_ns=at.ts_ns, args=args))

    # -- address spaces

    def _area(self, mm: int) -> Areas:
        found = self._areas.get(mm)
        if found is None:
            found = self._areas[mm] = Areas(self._thp)
        return found

    def _lives(self, event: Event) -> None:
        """A thread or an address space begins or ends."""
        mm = event.mm
        if event.call == "exit":
            if event.args[2]:
                self._end(event)
                self._forget(mm)
        elif event.call in _EXECS:
            threads = self._importer.tracker.processes.threads.values()
            if not event.errno and not any(thread.mm == mm for thread in threads):
                self._forget(mm)
        elif not event.errno and isinstance(event.args[1], int) and event.args[1] != mm:
            child = event.args[1]
            self._areas[child] = self._area(mm).copy()
            if mm in self._based:
                self._based.add(child)

    def _forget(self, mm: int) -> None:
        self._areas.pop(mm, None)
        self._based.discard(mm)
        self._final.discard(mm)

    def _end(self, event: Event) -> None:
        """Say so where an address space went unobserved."""
        if event.mm and event.mm not in self._final:
            signal = event.args[1]
            why = f"killed by signal {signal}" if signal else "not held at its exit"
            self._note(event, event.mm, "no-final-observation", {"pid": event.pid, "why": why})
            self.unobserved += 1
