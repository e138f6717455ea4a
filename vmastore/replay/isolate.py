"""One address space's operations as a trace that stands alone.

What a recording leaves to its surroundings is written out: where the kernel put a mapping becomes
MAP_FIXED, what a baseline held or must have existed becomes calls that make it, and only what bears
on VMAs is kept. Events have no answer, so that replay predicts it; where only the kernel can know one
(a limit, a file system), the recorded answer stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from errno import ENOENT
from typing import Protocol

from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.flags import PAGE_SIZE
from vmastore.mm.mm import DEFAULT_MAX_MAP_COUNT, Mm
from vmastore.mm.rules import RuleSet
from vmastore.mm.vma import Vma
from vmastore.replay.inferred import NEEDS_RANGE, prepare
from vmastore.replay.memory import MemoryTrace, numbered
from vmastore.replay.ranges import spans
from vmastore.replay.resync import clone_mm
from vmastore.replay.synthesis import made_again, stand_in
from vmastore.replay.world import World
from vmastore.syscalls.aio import ring_of
from vmastore.syscalls.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PR_SET_MDWE,
    PR_SET_MEMORY_MERGE,
    PR_SET_VMA,
)
from vmastore.syscalls.userfaultfd import FILLING

_FORKS = {"fork", "vfork", "clone", "clone3"}
_KEPT = {
    "mmap", "mmap2", "munmap", "mprotect", "pkey_mprotect", "mremap", "brk", "madvise", "process_madvise",
    "mlock", "mlock2", "munlock", "mlockall", "munlockall", "mbind", "set_mempolicy_home_node", "prctl", "ioctl",
    "release", "remap_file_pages", "shmat", "shmdt", "mseal", "personality", "fault", "stack_grow",
}  # fmt: skip
_UFFD_CALLS = {"UFFDIO_API", "UFFDIO_REGISTER", "UFFDIO_UNREGISTER"}
_TEMPLATE = Event(1, 1, 1, 1, None, "", (), None, 0)


class AnyTrace(Protocol):
    """A stored trace or one in memory."""

    header: TraceHeader
    files: dict[int, FileInfo]

    def world(self, rules: RuleSet, *, faults: str = ..., max_map_count: int | None = ...) -> World: ...


@dataclass
class Isolated:
    """trace: the operations of one address space (mm 1; after a fork the child, 2, goes on).

    origin: for each event the seq it has in the original; 0 for one that makes what was there before.
    notes: what could not be written out exactly, in sentences.
    """

    trace: MemoryTrace
    origin: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def isolate(
    trace: AnyTrace,
    events: Iterable[Event],
    rules: RuleSet,
    lineage: list[int],
    *,
    faults: str = "recorded",
    max_map_count: int | None = None,
    everything: bool = False,
) -> Isolated:
    """The events of an address space and, before the forks, of its ancestors. lineage: ancestors first.

    everything: make all that was there before, not just what the events come near; what cannot be made
    (vdso, drivers) has a stand-in that counts as a VMA.
    """
    world = trace.world(rules, faults=faults, max_map_count=max_map_count)
    walk = _Walk(world, lineage, everything)
    for event in events:
        walk.step(event)
    return walk.finish(trace, rules, max_map_count)


class _Walk:
    def __init__(self, world: World, lineage: list[int], everything: bool) -> None:
        self.world = world
        self.everything = everything
        self.lineage = lineage
        self.place = 0  # in the lineage
        self.found: list[tuple[Event, int]] = []
        self.baseline: list[Vma] = []
        self.heap = (0, 0)  # start_brk and brk when the events begin

    def step(self, event: Event) -> None:
        """Fold one event in and keep it, if it bears on the address space."""
        world, number = self.world, self.lineage[self.place]
        following = self.lineage[self.place + 1] if self.place + 1 < len(self.lineage) else None
        if event.mm != number:
            world.apply(event)
            return
        event = _without_ring(world.mm(number), event)
        bears = _bears(event)
        inferred = _infer(world.mm(number), event) if bears and not world.mm(number).complete else []
        outcome = world.apply(event)
        mm = world.mms.get(number)
        if event.call == "note" and event.args[0] == "brk" and mm is not None:
            self.heap = (mm.start_brk, mm.brk)
        if event.call in _FORKS:
            if following is not None and following in world.mms:
                self.place += 1
                self._keep(event._replace(args=(0, self.place + 1), call="fork"), event.seq)
            return
        if event.call == "maps" and event.args[0] == "baseline" and mm is not None:
            self._restart(mm)
            return
        if event.call == "brk" and mm is not None and not self.heap[0]:
            self.heap = (mm.start_brk, mm.start_brk)  # the first sight of the heap
        if not bears or mm is None:
            return
        for start, end in inferred:
            args = (start, end - start, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
            self._keep(event._replace(call="mmap", args=args, file=None, result=None, errno=0), 0)
        self._keep(plain_event(event, outcome.result), event.seq)

    def _keep(self, event: Event, origin: int) -> None:
        kept = event._replace(mm=self.place + (1 if event.call != "fork" else 0), pid=1, tid=1)
        kept = kept._replace(ts_ns=None, site=None, source_line=None, source_offset=None)
        self.found.append((kept, origin))

    def _restart(self, mm: Mm) -> None:
        """A baseline: what came before is in it."""
        self.found.clear()
        self.baseline = [_copy(v) for v in mm.vmas()]
        self.heap = (mm.start_brk, mm.brk)

    def finish(self, trace: AnyTrace, rules: RuleSet, max_map_count: int | None) -> Isolated:
        """Write out what was there before, number, answer."""
        tops = [event.args[0] for event, _ in self.found if event.call == "brk"]
        heap = [(self.heap[0], max(tops))] if tops and 0 < self.heap[0] < max(tops) else []
        touched = _touched([event for event, _ in self.found], heap)
        files = dict(trace.files)
        before: list[Event] = []
        notes: list[str] = []
        away = 0
        for vma in self.baseline:
            if not self.everything and not _near(vma, touched):
                away += 1
                continue
            calls, note = made_again(vma, files, rules)
            if self.everything and not calls:
                calls, note = [stand_in(vma)], None
            away += not calls
            before += [_TEMPLATE._replace(call=call, args=args, file=file) for call, args, file in calls]
            notes += [note] if note else []
        events = numbered(before + [event for event, _ in self.found])
        origin = [0] * len(before) + [seq for _, seq in self.found]
        used = {event.file for event in events}
        config = dict(trace.header.config)
        if max_map_count is not None:
            config["max_map_count"] = max_map_count
        if away:  # VMAs that the operations never come near count towards the limit
            config["max_map_count"] = max(1, int(config.get("max_map_count", DEFAULT_MAX_MAP_COUNT)) - away)
        if self.heap[0]:
            config["start_brk"], config["brk0"] = self.heap
        release = trace.header.release or rules.name
        header = trace.header._replace(format="jsonl", config=config, faults="recorded", release=release, note=None)
        plain = MemoryTrace(header, {n: info for n, info in files.items() if n in used}, events)
        plain.events = _unanswered(plain, rules)
        return Isolated(plain, origin, notes)


def _unanswered(plain: MemoryTrace, rules: RuleSet) -> list[Event]:
    """The events without the answers that replay predicts by itself; those that it cannot know stay.

    A call whose recorded errno replay does not predict may have changed what it should not: the pass
    begins anew, with a copy of the address space kept before every call that failed so.
    """
    doubtful: set[tuple[str, int]] = set()
    while True:
        found = _predicted(plain, rules, doubtful)
        if found is not None:
            return found


def _predicted(plain: MemoryTrace, rules: RuleSet, doubtful: set[tuple[str, int]]) -> list[Event] | None:
    world = plain.world(rules)
    found = []
    for event in plain.events:
        blank = event._replace(result=None, errno=0)
        kind = event.call, event.errno
        saved = clone_mm(world.mms[event.mm]) if kind in doubtful and event.mm in world.mms else None
        outcome = world.apply(blank)
        if outcome.errno == event.errno:
            found.append(blank)
            continue
        if saved is None and event.errno and kind not in doubtful:
            doubtful.add(kind)
            return None
        if saved is not None:
            world.mms[event.mm] = saved
        world.apply(event)
        found.append(event)
    return found


def plain_event(event: Event, result: int | None) -> Event:
    """The call with what the kernel chose written into its arguments."""
    args = list(event.args)
    if event.call in ("mmap", "mmap2"):
        event = event._replace(call="mmap")
        args[4] = -1 if event.file is None else event.file
        if result is not None:
            args[0] = result
            args[3] = args[3] & ~MAP_FIXED_NOREPLACE | MAP_FIXED
    elif event.call == "mremap" and result is not None:
        args = [*args, 0][:5]
        if result != args[0]:
            args[3], args[4] = args[3] | MREMAP_MAYMOVE | MREMAP_FIXED, result
        elif not args[3] & ~MREMAP_MAYMOVE:
            args[3], args[4] = 0, 0
    elif event.call == "shmat" and result is not None:
        args[1] = result
    return event._replace(args=tuple(args))


def _without_ring(mm: Mm, event: Event) -> Event:
    """io_setup and io_destroy as calls that any program can make: shared memory, which never merges either."""
    if event.errno or event.result is None or event.injected:
        return event
    if event.call == "io_setup" and (found := ring_of(mm, event.args)) is not None:
        ctx, size = found
        args = (ctx, size, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
        return event._replace(call="mmap", args=args, result=ctx)
    if event.call == "io_destroy" and isinstance(event.args[0], int):
        vma = mm.vma_lookup(event.args[0])
        file = None if vma is None else vma.attrs.vm_file
        if file is not None and file.size and file.kind in ("shmem", "aio"):
            return event._replace(call="munmap", args=(event.args[0], file.size))
    return event


def _bears(event: Event) -> bool:
    """Whether an event bears on VMAs."""
    if event.call == "prctl":
        return event.args[0] in (PR_SET_VMA, PR_SET_MDWE, PR_SET_MEMORY_MERGE)
    if event.call == "ioctl":
        fills = event.args[1] in FILLING and event.args[2] is not None and event.errno in (0, ENOENT)
        shown = fills or event.args[1] in _UFFD_CALLS
        return event.file is not None and shown
    return event.call in _KEPT and not event.injected


def _copy(vma: Vma) -> Vma:
    twin = Vma(vma.vm_start, vma.vm_end, vma.attrs, vma.anon_vma, vma.chain, vma.label)
    twin.unsure = vma.unsure
    return twin


def _infer(mm: Mm, event: Event) -> list[tuple[int, int]]:
    """The ranges that must have been mapped for the call to succeed, mapped now."""
    if event.errno or event.result is None or event.injected:
        return []
    kept, mm.dirty = mm.dirty, []
    if event.call in NEEDS_RANGE:
        prepare(mm, event)
    made, mm.dirty = mm.dirty, kept
    return [(vma.vm_start, vma.vm_end) for vma in made]


def _touched(events: Iterable[Event], more: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of all ranges that events name, each a page wider on both sides, as disjoint ranges."""
    named = [span for event in events for span in spans(event)]
    every = sorted((start - PAGE_SIZE, end + PAGE_SIZE) for start, end in named + more)
    union: list[tuple[int, int]] = []
    for start, end in every:
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def _near(vma: Vma, union: list[tuple[int, int]]) -> bool:
    return any(start < vma.vm_end and vma.vm_start < end for start, end in union)
