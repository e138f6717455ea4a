"""From calls to events: which thread, process and address space each belongs to.

`Tracker.record` takes the joiner's records in order and appends to `out`. What calls do to
descriptors is in `filecalls`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vmastore.events.brief import Given
from vmastore.events.types import Arg, Event
from vmastore.importers.descriptors import Descriptions, FdTable
from vmastore.importers.processes import Processes, Thread
from vmastore.importers.strace import constants
from vmastore.importers.strace.account import Account
from vmastore.importers.strace.arguments import clone_flags, parse
from vmastore.importers.strace.folders import Folders
from vmastore.importers.strace.joiner import Called, Happened, Opened, Record
from vmastore.importers.strace.lexer import Kind
from vmastore.importers.strace.notes import attach_threads, signal_args
from vmastore.importers.strace.scan import Unparsed
from vmastore.importers.strace.tids import CLONES
from vmastore.importers.strace.tokens import decoration
from vmastore.importers.strace.values import FD

Handler = Callable[["Tracker", Thread, Called], None]


class _Birth:
    """A call that makes a thread and has not returned."""

    __slots__ = ("child", "opened")

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.child: int | None = None  # seen already: its event is emitted


class Tracker:
    """The state of one trace: threads, address spaces, descriptions, the sequence number."""

    def __init__(self, account: Account, handlers: Mapping[str, Handler]) -> None:
        self.account = account
        self.handlers = handlers
        self.seq = 0
        self.out: list[Given] = []
        self.stacks = False  # whether frames are wanted
        self.mark = 0  # where the last record's events begin in `out`
        self.processes = Processes()
        self.descriptions = Descriptions()
        self.folders = Folders()
        self.births: dict[int, _Birth] = {}  # by the parent's tid
        # the call that made a child, by its tid, where a look ahead found it; None: it was there before
        self.parents: dict[int, Called | None] = {}
        self.segments: dict[int, int] = {}  # shmid → file
        self.segment_sizes: dict[int, int] = {}
        self.huge_segments: set[int] = set()
        self.segment_keys: dict[int, int] = {}  # that they were made or found with
        self.uffd_mm: dict[int, int] = {}  # userfaultfd → the mm it watches
        self.unseen = 0  # threads of an attached process that have printed no line yet
        self.attached: Thread | None = None
        # threads that ran before the log are all of one process: its pid (0: the first one's); None: each is its own
        self.one_process: int | None = None
        self.adopted = 0  # address spaces that were there before the log
        self.saw: set[str] = set()  # facts for the header's note

    # -- records

    def record(self, record: Record) -> None:
        """Turn one record into events."""
        if isinstance(record, Happened) and record.kind is Kind.FRAME:
            if self.stacks:
                self._frame(record)
            return
        self.mark = len(self.out)
        if isinstance(record, Called):
            self._called(record)
        elif isinstance(record, Opened):
            self.births[self.thread(record.tid).tid] = _Birth(record)
        elif record.kind is Kind.SIGNAL:
            thread = self.thread(record.tid)
            self._plain(thread, record, "signal", signal_args(record.text))
        elif record.kind is Kind.NOTE:
            self._attached(record)
        else:
            self._ended(record)

    def take(self, *, last: bool = False) -> list[Given]:
        """The events so far; without the last record's while its stack frames may be still to come."""
        if last or not self.stacks:
            out, self.out = self.out, []
            return out
        out, self.out = self.out[: self.mark], self.out[self.mark :]
        self.mark = 0
        return out

    def _frame(self, record: Happened) -> None:
        frame = record.text.removeprefix(b" > ").decode("utf-8", "backslashreplace")
        for position in reversed(range(self.mark, len(self.out))):
            event = self.out[position]
            if isinstance(event, Event) and event.call not in ("release", "fault"):
                site = frame if event.site is None else f"{event.site}\n{frame}"
                self.out[position] = event._replace(site=site)
                return

    def _called(self, call: Called) -> None:
        if call.name in _EXECS:
            self._exec(call)
            return
        thread = self.thread(call.tid)
        if call.name in CLONES:
            self._cloned(thread, call)
            return
        if self.births:
            self.births.pop(call.tid, None)  # its return is missing in the log
        if call.name in _NOT_CALLS:  # i386 has a call of this name
            call = call._replace(name=f"sys_{call.name}")
        handler = self.handlers.get(call.name)
        try:
            if handler is not None:
                handler(self, thread, call)
            else:
                self.event(thread, call, parse(call.name, call.tokens))
        except Unparsed:
            self.account.reject_line(call.tid, call.name, "unparsed", call.line)

    def event(
        self, thread: Thread, call: Called, args: tuple[Arg, ...], file: int | None = None, *, mm: int | None = None
    ) -> None:
        """Emit the event of a call that returned."""
        result = call.result
        self.seq += 1
        self.out.append(
            Event(
                self.seq,
                (thread.mm or self.adopt(thread)) if mm is None else mm,
                thread.pid,
                thread.tid,
                call.time_ns,
                call.name,
                args,
                None if result.errno else result.value,
                result.errno,
                file,
                result.injected,
                None,
                call.line,
                call.offset,
            )
        )

    def _plain(
        self,
        thread: Thread,
        at: Happened | Called,
        call: str,
        args: tuple[Arg, ...],
        *,
        mm: int | None = None,
        file: int | None = None,
        result: int | None = 0,
    ) -> None:
        """Emit an event that is no system call."""
        self.seq += 1
        where = thread.mm if mm is None else mm
        event = Event(self.seq, where, thread.pid, thread.tid, at.time_ns, call, args, result, 0, file)
        self.out.append(event._replace(source_line=at.line, source_offset=at.offset))

    def released(self, thread: Thread, at: Happened | Called, files: list[int]) -> None:
        """Emit the release of userfaultfds whose last reference is gone."""
        for file in files:
            self._plain(thread, at, "release", (), file=file, mm=self.uffd_mm.get(file, thread.mm))

    def fetched(self, thread: Thread, at: Called, addr: int, length: int) -> None:
        """Emit that the kernel got the pages of [addr, addr + length) of the thread's process, to write to them."""
        # what was refused is not known
        self._plain(thread, at, "fault", (addr, length, "w", None, "gup"), result=None)

    # -- threads

    def thread(self, tid: int) -> Thread:
        """The thread of that tid; one that is new to the trace begins here."""
        return self.processes.threads.get(tid) or self._begin(tid)

    def adopt(self, thread: Thread) -> int:
        """Give an mm to a thread that is seen to have one already: it was there before the trace."""
        self.adopted += 1
        self.processes.move(thread, self.processes.new_mm())
        return thread.mm

    def adopt_all(self, thread: Thread) -> None:
        """Threads that no call of the log has made are of the process of this one."""
        self.attached, self.unseen = thread, _ALL

    def _begin(self, tid: int) -> Thread:
        call = self._maker_of(tid)
        if call is not None:
            birth = self.births[call.tid]
            birth.child = tid
            # the flags may be in the exit half only (before 5.0), the event belongs to the entry
            flags = clone_flags(call.name, call.tokens)
            return self._fork(self.processes.threads[call.tid], tid, birth.opened, flags)
        if self.unseen > 0 and self.attached is not None:
            self.unseen -= 1
            leader = self.attached
            return self.processes.add(tid, leader.pid, leader.mm or self.adopt(leader), leader.files)
        if self.one_process is None or self.attached is not None:
            return self.processes.add(tid, tid, 0, FdTable())
        self.adopt_all(self.processes.add(tid, self.one_process or tid, 0, FdTable()))
        return self.processes.threads[tid]

    def _maker_of(self, tid: int) -> Called | Opened | None:
        """The call in flight that made `tid`: the one seen ahead, else the oldest without a child."""
        if tid in self.parents:
            call = self.parents.pop(tid)
            return call if call is not None and call.tid in self.births else None
        for parent, birth in self.births.items():
            if birth.child is None and parent in self.processes.threads:
                return birth.opened
        return None

    def _fork(self, parent: Thread, tid: int, call: Called | Opened, flags: int | None) -> Thread:
        """Make the child and emit the event of the call that makes it."""
        if flags is None:
            self.saw.add("hidden flags")
        bits = _HIDDEN if flags is None else flags
        mm = parent.mm or self.adopt(parent)
        child_mm = mm if bits & constants.CLONE_VM else self.processes.new_mm()
        files = parent.files if bits & constants.CLONE_FILES else self.descriptions.copy(parent.files)
        pid = parent.pid if bits & constants.CLONE_THREAD else tid
        child = self.processes.add(tid, pid, child_mm, files)
        self.folders.forked(parent.pid, pid, bits)
        self.saw.add("processes")
        self.seq += 1
        event = Event(self.seq, mm, parent.pid, parent.tid, call.time_ns, call.name, (flags, child_mm), tid, 0)
        self.out.append(event._replace(source_line=call.line, source_offset=call.offset))
        return child

    def _cloned(self, thread: Thread, call: Called) -> None:
        birth = self.births.pop(thread.tid, None)
        flags = clone_flags(call.name, call.tokens)
        child = call.result.value
        if call.result.errno or call.result.injected or not child or not 0 < child < PID_END:
            self.event(thread, call, (flags, None))
        elif birth is None or birth.child != child:  # else its event was given when the child was first seen
            self._fork(thread, child, call, flags)

    def _exec(self, call: Called) -> None:
        """A new program: for a thread that is new to the trace nothing is left behind."""
        thread = self.thread(call.tid)
        try:
            path, argv, _ = parse(call.name, call.tokens)
        except Unparsed:  # the new program matters, whatever its name
            path, argv = b", ".join(call.tokens).decode("utf-8", "backslashreplace"), None
        self.saw.add("exec")
        if call.result.errno or call.result.injected:
            self.event(thread, call, (path, argv, None), mm=thread.mm)
            return
        for sibling in self.processes.siblings(thread):
            self.births.pop(sibling.tid, None)
            self.processes.remove(sibling.tid)
        old, new = thread.mm, self.processes.new_mm()
        self.processes.move(thread, new)
        self.unshare_files(thread)
        self.folders.executed(thread.pid, new, path, self._base(thread, call))
        self.event(thread, call, (path, argv, new), mm=old)
        self.released(thread, call, self.descriptions.exec(thread.files))

    def _base(self, thread: Thread, call: Called) -> str | None:
        """What the path of an execveat begins at, "" if that is not known; None: the current folder."""
        if call.name != "execveat" or b"AT_FDCWD" in call.first:
            if call.name == "execveat" and decoration(call.first):
                self.folders.shown(thread.pid, thread.mm, call.first)
            return None
        return self.path_of(thread, call.first) or ""

    def path_of(self, thread: Thread, token: bytes) -> str | None:
        """The path behind a descriptor, if the log shows it whole."""
        path = decoration(token)
        try:
            slot = thread.files.slots.get(FD[token])
        except Unparsed:
            slot = None
        if path is None and slot is not None:
            path = self.descriptions.files[slot.file - 1].path
        return path if path is not None and path.startswith("/") else None

    def unshare_files(self, thread: Thread) -> None:
        """Give a thread a descriptor table of its own."""
        if thread.files.users > 1:
            thread.files.users -= 1
            thread.files = self.descriptions.copy(thread.files)
            thread.files.users = 1

    def _ended(self, end: Happened) -> None:
        tid = end.tid
        if end.kind is Kind.SUPERSEDED:
            tid = int(end.detail)  # this id ceases to exist: its thread goes on under the leader's
            self._supersede(end.tid, tid)
        thread = self.thread(tid)
        self.births.pop(tid, None)
        mm = thread.mm
        _, last = self.processes.remove(tid) or (thread, False)
        signal = constants.SIGNALS.get(end.detail) if end.kind is Kind.KILLED else None
        status = int(end.detail) if end.kind is Kind.EXITED else None
        self._plain(thread, end, "exit", (status, signal, int(last)), mm=mm)
        self.released(thread, end, self.descriptions.drop(thread.files))

    def _supersede(self, leader: int, leaver: int) -> None:
        """The thread `leaver` is about to exec and takes over the leader's tid: they share everything."""
        thread = self.thread(leaver)
        if leader not in self.processes.threads:
            self.processes.add(leader, thread.pid, thread.mm, thread.files)

    def _attached(self, note: Happened) -> None:
        thread = self.thread(note.tid)
        count = attach_threads(note.text)
        if count > 1:
            self.attached, self.unseen = thread, count - 1
        self._plain(thread, note, "attach", (note.text.decode("utf-8", "backslashreplace"),))


# events that are no system calls
_NOT_CALLS = frozenset({"exit", "attach", "signal", "release", "fault", "stack_grow", "maps", "note"})
PID_END = 10**7  # beyond any process id
_ALL = 1 << 62
# what a clone3 that shows no flags is taken for: the C library calls it for threads and posix_spawn alone
_HIDDEN = constants.CLONE_VM | constants.CLONE_FILES
_EXECS = frozenset({"execve", "execveat"})
LIFE = CLONES | _EXECS  # the calls that make threads or change what they run
