"""A strace log, line by line, to events: lexer → joiner → look-ahead → tracker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vmastore.events.brief import Given, whole
from vmastore.events.types import Arg, Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.descriptors import FdTable
from vmastore.importers.strace.account import Account
from vmastore.importers.strace.fast import FastPath
from vmastore.importers.strace.filecalls import FILE_CALLS
from vmastore.importers.strace.joiner import Joiner
from vmastore.importers.strace.lookahead import Lookahead
from vmastore.importers.strace.remote import REMOTE_CALLS
from vmastore.importers.strace.tracker import Tracker

LOOKAHEAD = 20_000  # records


class StraceImporter:
    """Incremental importer of one strace log.

    Feed it the lines of the log in order; each call gives the events that are complete. Its state is
    bounded by what is alive (threads, descriptors, calls in flight), not by the log's length, except
    for `files`.

    with_process_calls: whether the log traces fork, exec and the like; None: find out.
    live: the lines arrive from a running strace. Nothing is held back to learn which of several
    forks in flight made a new thread.
    stacks: the log has stack frames (-k): an event is given only when the next one's line comes, with
    its frames as `site`.
    one_process: all threads that ran before the log began are of the process of that pid (0: of the first
    one's), and share its address space; None: each has its own, unless the log says otherwise.
    """

    def __init__(
        self,
        *,
        name: str,
        source: str,
        with_process_calls: bool | None = None,
        live: bool = False,
        stacks: bool = False,
        main_tid: int | None = None,
        one_process: int | None = None,
    ) -> None:
        self.account = Account()
        self.joiner = Joiner(self.account)
        self.joiner.tids.main = main_tid
        self.tracker = Tracker(self.account, FILE_CALLS | REMOTE_CALLS)
        self.tracker.stacks = stacks
        self.tracker.one_process = one_process
        self.lookahead = Lookahead(self.tracker, 0 if live else LOOKAHEAD)
        self._fast = FastPath(self.joiner, self.tracker, self.lookahead, self.step)
        self.number = 0  # of the last line fed
        self.offset = 0  # of the next line
        self._name = name
        self._source = source
        self._with_process_calls = with_process_calls

    # -- the log

    def feed(self, line: bytes) -> list[Event]:
        """The events that the next line of the log completes. The line may have its newline or not."""
        bare = line.removesuffix(b"\n")
        return self.feed_batch((bare,))

    def feed_batch(self, lines: Sequence[bytes]) -> list[Event]:
        """The events that the next lines complete: whole lines without their newlines."""
        return whole(self.feed_briefs(lines))

    def feed_briefs(self, lines: Sequence[bytes]) -> list[Given]:
        """The same for a store, as they are read."""
        first, offset = self.number + 1, self.offset
        self.number += len(lines)
        self.offset += sum(map(len, lines)) + len(lines)
        if self.tracker.stacks:
            self.account.lines += len(lines)
            for number, line in enumerate(lines, first):
                self.step(line, number, offset)
                offset += len(line) + 1
        else:
            self._fast.run(lines, first, offset)
        return self.tracker.take()

    def take(self) -> list[Event]:
        """The events of the lines stepped over."""
        return whole(self.tracker.take())

    def feed_cut(self, line: bytes) -> list[Event]:
        """The events of the last line of a log that ends without a newline."""
        self.number += 1
        self.account.lines += 1
        self.step(line, self.number, self.offset, cut=True)
        self.offset += len(line)
        return self.take()

    def step(self, line: bytes, number: int, offset: int, *, cut: bool = False) -> None:
        """Read one line the general way; `take` gives its events. cut: it has no newline."""
        account = self.account
        before = account.skipped_lines + account.halves + account.frames
        join = self.joiner.feed_cut if cut else self.joiner.feed
        records = join(line, number, offset)
        if account.skipped_lines + account.halves + account.frames == before:
            if records:
                account.recorded += 1
            else:
                account.unaccounted += 1
        for record in records:
            self.lookahead.push(record)

    def shift(self, by: int) -> None:
        """The events to come have numbers higher by so much: others were put between those that were given."""
        self.tracker.seq += by
        # whose stacks are to come
        self.tracker.out = [event._replace(seq=event.seq + by) for event in whole(self.tracker.out)]

    def finish(self) -> list[Event]:
        """The last events; after this, `skips` is complete."""
        self.joiner.finish()
        self.lookahead.flush()
        return whole(self.tracker.take(last=True))

    # -- what is known so far

    @property
    def header(self) -> TraceHeader:
        """The trace's facts. Its note is complete when the log is."""
        return TraceHeader(self._name, self._source, "strace", note=self._note())

    @property
    def files(self) -> list[FileInfo]:
        """The open file descriptions that events name, by number - 1."""
        return self.tracker.descriptions.files

    def skips(self) -> list[Skip]:
        """What became no event, counted by thread, call and reason."""
        return self.account.skips()

    def _note(self) -> str | None:
        saw = self.tracker.saw
        notes = []
        if self.tracker.one_process is not None:
            notes.append("assumed that the threads that ran before the log began are of one process")
        elif "processes" not in saw and "exec" not in saw and not self._with_process_calls:
            notes.append("no process calls in the log: assumed one address space per pid")
        elif self.tracker.adopted > 1:
            notes.append(
                f"{self.tracker.adopted} processes ran before the log began: assumed one address space per pid"
            )
        if "order" in saw:
            notes.append("several files without times: the order of calls of different threads is a guess")
        if "hidden flags" in saw:
            notes.append("a clone3 with flags that the log does not show: assumed the same address space")
        if "descriptors" not in saw:
            notes.append("no open or close in the log: a file is told from others by descriptor and path")
        return "; ".join(notes) or None

    # -- for a recorder

    def mm_of(self, tid: int) -> int:
        """The address space a thread runs in; 0 if it is not known to have one."""
        thread = self.tracker.processes.threads.get(tid)
        return thread.mm if thread else 0

    def pid_of(self, tid: int) -> int:
        """The process of a thread; 0 if the thread is not known."""
        thread = self.tracker.processes.threads.get(tid)
        return thread.pid if thread else 0

    def attach(self, pid: int, tids: Iterable[int]) -> int:
        """Declare a process that existed before the log, and threads of it. Returns their mm.

        Threads that come up later, and that no call of the log has made, are taken to be of this process too: it may
        have made them while strace was attaching to its threads one by one.
        """
        processes = self.tracker.processes
        leader = processes.threads.get(pid) or processes.add(pid, pid, processes.new_mm(), FdTable())
        for tid in tids:
            if tid != pid:
                processes.add(tid, pid, leader.mm, leader.files)
        self.tracker.adopt_all(leader)
        return leader.mm

    def emit(
        self,
        call: str,
        *,
        mm: int,
        pid: int,
        tid: int,
        ts_ns: int | None,
        args: tuple[Arg, ...],
        result: int | None = 0,
        file: int | None = None,
    ) -> Event:
        """An event from elsewhere (a fault, an observed maps), numbered after all given so far."""
        self.tracker.seq += 1
        return Event(self.tracker.seq, mm, pid, tid, ts_ns, call, args, result, 0, file)
