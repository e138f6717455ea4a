"""One sequence of calls on the running kernel, folded through the engine and compared after each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vmastore.conform.arena import ABOVE, BASE, BELOW
from vmastore.conform.facts import Facts
from vmastore.conform.operations import SIGCHLD, Op, Typed, escaped, typed
from vmastore.conform.session import Answer, Worker
from vmastore.conform.worker import DISK, DISK_AGAIN, FILE_PAGES, MEMFD, MEMFD_B, MEMFD_DUP, MEMFD_RO, UFFDS, ZERO
from vmastore.events import Event, FileInfo, ObservedVma
from vmastore.mm.flags import PAGE_SIZE
from vmastore.mm.rules import RuleSet
from vmastore.replay.verify import Report, Verifier
from vmastore.replay.world import World

# slot -> file number of the trace; a dup shares the open file description
_FILES = {MEMFD: 1, MEMFD_DUP: 1, MEMFD_RO: 2, MEMFD_B: 3, DISK: 4, DISK_AGAIN: 5, ZERO: 6}
_SHM_FILE = 7
_SHM_SIZE = 4 * PAGE_SIZE


def file_table(facts: Facts) -> list[FileInfo]:
    """The open file descriptions that every worker starts with."""
    size = FILE_PAGES * PAGE_SIZE
    disk = "memfd" if facts.tmpfs else "regular"
    rows = [("memfd", True, size), ("memfd", False, size), ("memfd", True, size), (disk, True, size)]
    rows += [(disk, True, size), ("zero", True, None), ("shm", True, _SHM_SIZE)]  # type: ignore[list-item]
    return [
        FileInfo(number, None, kind, True, writable, None, None, length, "inherited")
        for number, (kind, writable, length) in enumerate(rows, 1)
    ]


@dataclass
class Sequence:
    """What was done and seen: enough to verify it again under other rules."""

    files: list[FileInfo]
    events: list[Event] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)

    def verify(self, facts: Facts, rules: RuleSet) -> Report:
        """Compare the same observations with another rule set."""
        return Verifier(World(facts.header, self.files, rules)).run(self.events)


def differences(report: Report) -> int:
    """How many comparisons differed, results included."""
    return report.mismatches + report.mismatches_assumed + report.errno_mismatches


class Drive:
    """A sequence under way. `step` makes one call; a context manager that ends what it forked."""

    def __init__(self, worker: Worker, facts: Facts, rules: RuleSet) -> None:
        self.worker = worker
        self.sequence = Sequence(file_table(facts))
        self.verifier = Verifier(World(facts.header, self.sequence.files, rules))
        self.lines: list[ObservedVma] = []  # the arena after the last call
        self.died: str | None = None  # the call in which a child was killed
        self._spaces: list[int] = []  # address spaces, the innermost child last
        self._made = 0
        self._uffds: list[list[int | None]] = []  # file numbers by slot, for each of them

    def __enter__(self) -> Drive:
        self._enter(self.worker.ask(Op("fork")), None)
        return self

    def __exit__(self, *_: object) -> None:
        while self._spaces:
            self._leave(self.worker.ask(Op("exit")), compare=False)

    @property
    def depth(self) -> int:
        """How many children deep the sequence is."""
        return len(self._spaces) - 1

    @property
    def differs(self) -> bool:
        return self.died is not None or differences(self.verifier.report) > 0

    def run(self, ops: Iterable[Op]) -> Drive:
        """Make calls until one differs."""
        for op in ops:
            if self.differs:
                break
            self.step(op)
        return self

    def step(self, op: Op) -> None:
        """Make one call and compare. An `exit` of the outermost process is passed over."""
        if op.name == "exit" and not self.depth:
            return
        self.sequence.ops.append(op)
        answer = self.worker.ask(op)
        if op.name == "exit":
            self._leave(answer)
        elif op.name == "fork":
            self._fork(answer)
        elif isinstance(answer.extra, int):
            self._killed(op, answer)
        elif op.name == "uffd_open":
            self._uffd(op, answer)
        else:
            self._call(op, answer)

    # -- events ------------------------------------------------------------------------------------

    def _event(self, call: str, args: tuple[object, ...], result: int | None, errno: int, file: int | None) -> None:
        events = self.sequence.events
        space = self._spaces[-1]
        event = Event(len(events) + 1, space, space, space, None, call, args, result, errno, file)
        events.append(event)
        self.verifier.step(event)

    def _look(self, kind: str, lines: list[ObservedVma]) -> None:
        self.lines = lines
        self._event("maps", (kind, len(lines), None, [list(line) for line in lines]), None, 0, None)

    def _call(self, op: Op, answer: Answer) -> None:
        event = typed(op, answer.extra)
        self._event(event.call, event.args, answer.result, answer.errno, self._file(event))
        outside = escaped(op, answer.result)
        if outside is not None and not BASE - BELOW <= outside[0] < BASE + ABOVE:
            back = Op("munmap", outside)
            answer = self.worker.ask(back)
            self._event("munmap", outside, answer.result, answer.errno, None)
        self._look("check", answer.lines)

    def _file(self, event: Typed) -> int | None:
        if event.call == "shmat":
            return _SHM_FILE
        if event.slot is None:
            return None
        return self._uffds[-1][event.slot] if event.uffd else _FILES.get(event.slot)

    def _uffd(self, op: Op, answer: Answer) -> None:
        """A new userfaultfd; the last reference to the one in its place is gone."""
        slot = op.args[0]
        old = self._uffds[-1][slot]
        if old is not None:
            self._event("release", (), 0, 0, old)
        if answer.errno:
            self._uffds[-1][slot] = None
        else:
            self._uffds[-1][slot] = self._new_uffd()
        self._look("check", answer.lines)

    def _new_uffd(self) -> int:
        files = self.sequence.files
        files.append(FileInfo(len(files) + 1, None, "uffd", True, True, origin="open"))
        return len(files)

    # -- processes ---------------------------------------------------------------------------------

    def _enter(self, answer: Answer, child: int | None) -> None:
        if child is not None:
            self._event("fork", (SIGCHLD, child), answer.result, 0, None)
        self._made += 1
        self._spaces.append(self._made)
        self._uffds.append([None] * UFFDS)
        self._look("baseline" if child is None else "check", answer.lines)

    def _fork(self, answer: Answer) -> None:
        if answer.errno:
            self._event("fork", (SIGCHLD, None), None, answer.errno, None)
            self._look("check", answer.lines)
            return
        self._enter(answer, self._made + 1)

    def _leave(self, answer: Answer, *, compare: bool = True) -> None:
        self._event("exit", (0, None, 1), 0, 0, None)
        self._spaces.pop()
        self._uffds.pop()
        if self._spaces and compare:
            self._look("check", answer.lines)

    def _killed(self, op: Op, answer: Answer) -> None:
        """The innermost process died in a call: nothing that any rule set predicts."""
        self.died = f"{op}: the process was killed (wait status {answer.extra})"
        self._spaces.pop()
        self._uffds.pop()


def verify_all(sequences: Iterable[Sequence], facts: Facts, rules: RuleSet) -> Iterator[Report]:
    """Each sequence compared with a rule set."""
    for sequence in sequences:
        yield sequence.verify(facts, rules)
