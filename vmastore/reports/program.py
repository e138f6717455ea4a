"""What a reproducer needs to know of a trace, whatever language it is written in.

The steps of an isolated trace, each with the answer and the lines of maps that are expected after it,
in an arena of its own; and a refusal, by name, of what a small program cannot do again.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmastore.errors import InputError
from vmastore.events import Event, FileInfo, ObservedVma, TraceHeader
from vmastore.mm.flags import PAGE_SIZE, VM_UFFD_FLAGS, VM_UFFD_MISSING
from vmastore.mm.mm import Mm
from vmastore.mm.rules import RuleSet
from vmastore.replay.maps import observe
from vmastore.replay.memory import MemoryTrace
from vmastore.replay.ranges import spans
from vmastore.replay.relocate import Regions, relocated, used_ranges
from vmastore.replay.text import call_text
from vmastore.replay.world import Outcome, World
from vmastore.syscalls.uapi import MAP_HUGETLB

MAX_STEPS = 2000  # a longer program is no reproducer
MAX_LINES = 60_000  # expected lines in all
_NOT_HERE = {
    "brk": "the heap is the program's own",
}
# advice that process_madvise takes for the own address space alone: that it succeeded tells whose it was
_OWN_ONLY = {0, 1, 2, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 22, 23, 24, 102, 103}
_FILES = ("regular", "memfd", "zero", "uffd", "shm", "tmpfs", "shmem", "unknown")


@dataclass(frozen=True)
class Step:
    """One operation: the event with its expected answer, and the arena's lines after it."""

    event: Event
    outcome: Outcome
    lines: list[ObservedVma]

    @property
    def text(self) -> str:
        return call_text(self.event._replace(result=self.outcome.result, errno=self.outcome.errno))


@dataclass(frozen=True)
class Program:
    """A trace as a program does it: steps in an arena [base, end), with the files they need.

    limit: vm.max_map_count that the outcomes hang on, None where they do not. oops: the last step
    crashes the kernel under these rules.
    """

    name: str
    rules: RuleSet
    base: int
    end: int
    steps: list[Step]
    files: dict[int, FileInfo]
    limit: int | None
    oops: bool
    header: TraceHeader
    notes: list[str]  # what was left out, in sentences

    def page(self, addr: int) -> int:
        """The page of the arena that an address lies in."""
        return (addr - self.base) // PAGE_SIZE


def program(trace: MemoryTrace, rules: RuleSet) -> Program:
    """The program of an isolated trace. Raises InputError for what a program cannot do again."""
    if not trace.events:
        raise InputError("no operation on VMAs is left", hint="name a TRACE@N that has some, or another --mm")
    if len(trace.events) > MAX_STEPS:
        raise InputError(
            f"{len(trace.events)} operations are too many for a program", hint="`vmastore reduce TRACE --to c` first"
        )
    trace, notes = _possible(trace, rules)
    compact = _compact(trace, rules)
    steps, world = _run(compact, rules, compact.header.config.get("max_map_count"))
    used = used_ranges(compact.events)
    base = min((start for start, _ in used), default=0)
    end = max((end for _, end in used), default=base + PAGE_SIZE)
    limit = _limit(compact, rules, steps)
    start, name = base & -(2 << 20), trace.header.name
    return Program(name, rules, start, end, steps, trace.files, limit, world.oops, compact.header, notes)


def _possible(trace: MemoryTrace, rules: RuleSet) -> tuple[MemoryTrace, list[str]]:
    """Without what a program cannot do, if the rest comes out the same. Raises InputError where it does not."""
    why = {n: text for n, event in enumerate(trace.events) if (text := _impossible(event, trace.files))}
    if not why:
        return trace, []
    regions = [span for n in why for span in spans(trace.events[n])]
    heap = trace.header.config.get("start_brk")
    ends = [event.args[0] for event in trace.events if event.call == "brk"]
    regions += [(heap, max(ends))] if heap and ends else []
    left = [
        n
        for n, event in enumerate(trace.events)
        if n not in why
        and not (spans(event) and all(_inside(span, regions) for span in spans(event)))
        and not (event.call == "fault" and _meets(event, regions))
    ]
    rest = MemoryTrace(trace.header, trace.files, [trace.events[n] for n in left])
    before, after = _outcomes(trace, rules), _outcomes(rest, rules)
    first = min(why)
    if not left or [before[n] for n in left] != after:
        raise InputError(
            f"event {trace.events[first].seq} ({trace.events[first].call}) cannot be done again by a program, and the"
            f" rest hangs on it: {why[first]}",
            hint="`vmastore reduce` may show the same without it",
        )
    kinds = dict.fromkeys(f"{trace.events[n].call} ({text})" for n, text in why.items())
    return rest, [f"Left out: {what}." for what in kinds]


def _impossible(event: Event, files: dict[int, FileInfo]) -> str | None:
    """Why a program cannot do it again, or None."""
    info = files.get(event.file) if event.file is not None else None
    if info is not None and info.kind not in _FILES:
        return f"it maps a file of kind {info.kind}"
    if event.call == "mmap" and event.args[3] & MAP_HUGETLB:
        return "huge pages have to be reserved"
    if event.call == "pkey_mprotect" and event.args[3] != -1:
        return "protection keys are not modelled"
    if event.call == "process_madvise" and (event.args[1] is None or event.errno or event.args[3] not in _OWN_ONLY):
        return "whose address space it was about is not known"
    return _NOT_HERE.get(event.call)


def _meets(event: Event, regions: list[tuple[int, int]]) -> bool:
    """Whether an access, whose answer is a matter of record, is one to what is left out."""
    return any(start < high and low < end for low, high in spans(event) for start, end in regions)


def _inside(span: tuple[int, int], regions: list[tuple[int, int]]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in regions)


def _outcomes(trace: MemoryTrace, rules: RuleSet) -> list[tuple[str, int]]:
    world = trace.world(rules)
    found = []
    for event in trace.events:
        outcome = world.apply(event)
        found.append((outcome.cases, outcome.errno))
    return found


def _compact(trace: MemoryTrace, rules: RuleSet) -> MemoryTrace:
    """In an arena: as near together as the outcomes allow."""
    wanted = [_sketch(step) for step in _run(trace, rules, None)[0]]
    for huge in (False, True):
        near = relocated(trace, Regions(used_ranges(trace.events), huge=huge))
        if [_sketch(step) for step in _run(near, rules, None)[0]] == wanted:
            return near
    raise InputError("the operations do something else in an arena of their own")


def _sketch(step: Step) -> tuple[str, int, int]:
    return step.outcome.cases, step.outcome.errno, len(step.lines)


def _run(trace: MemoryTrace, rules: RuleSet, limit: int | None) -> tuple[list[Step], World]:
    world = trace.world(rules, max_map_count=limit)
    steps: list[Step] = []
    total = 0
    for event in trace.events:
        mm = world.mms.get(event.mm)
        if mm is not None and event.call == "fault":
            _may_touch(mm, event)
        outcome = world.apply(event._replace(result=0) if event.call == "fault" else event)
        number = event.args[1] if event.call == "fork" and isinstance(event.args[1], int) else event.mm
        space = world.mms[number]
        lines = [observe(space, vma) for vma in space.vmas()]
        total += len(lines)
        if total > MAX_LINES:
            raise InputError("too many VMAs for a program", hint="`vmastore reduce TRACE --to c` first")
        steps.append(Step(event, outcome, lines))
        if world.oops:
            break
    return steps, world


def _may_touch(mm: Mm, event: Event) -> None:
    """A fault that a userfaultfd would have to serve would hang the program."""
    vma = mm.find_vma(event.args[0])
    while vma.vm_start < event.args[0] + event.args[1]:
        if vma.vm_flags & (VM_UFFD_MISSING | VM_UFFD_FLAGS):
            raise InputError(
                f"event {event.seq} touches memory under a userfaultfd, which another thread would have to serve"
            )
        vma = vma.next


def _limit(trace: MemoryTrace, rules: RuleSet, steps: list[Step]) -> int | None:
    """The map limit, if other answers come without one."""
    free, _ = _run(trace, rules, 1 << 40)
    same = len(free) == len(steps) and all(_sketch(a) == _sketch(b) for a, b in zip(free, steps, strict=True))
    if same:
        return None
    return trace.world(rules).env.config.max_map_count
