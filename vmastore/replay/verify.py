"""Comparing the replay with every observed maps: line by line, flag by flag, after every event."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any

from vmastore.bulk import bulk_work
from vmastore.events import Event, ObservedVma
from vmastore.mm.flags import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_GROWSDOWN,
    VM_IO,
    VM_MAYEXEC,
    VM_MAYWRITE,
    VM_MIXEDMAP,
    VM_PFNMAP,
    vmflags_from_letters,
)
from vmastore.mm.mm import Mm
from vmastore.mm.unknown import write_open
from vmastore.mm.vma import File
from vmastore.replay.maps import observe
from vmastore.replay.resync import clone_mm, resync
from vmastore.replay.settle import changes_vmas, settle
from vmastore.replay.verify_report import Mismatch, Report
from vmastore.replay.world import Outcome, World
from vmastore.syscalls.fault import anon_vma_prepare, grow_stack
from vmastore.syscalls.shm import segment_reaches

_DRIVERS = {"perf", "io_uring", "socket", "device", "unknown"}
_BY_DRIVERS = VM_IO | VM_PFNMAP | VM_MIXEDMAP | VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY | VM_MAYWRITE | VM_MAYEXEC
Lines = dict[int, ObservedVma]
_AHEAD = 256  # events looked ahead for the next of an address space


class Verifier:
    """Folds a trace's events and compares at each `maps` event.

    After a difference the address space is taken over from the observation, so that one error
    counts once.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        world.watch = True
        self.report = Report()
        self._seen: dict[int, Lines] = {}  # what was observed last
        self._shown: dict[int, Lines] = {}  # what the replay shows
        self._brk: dict[int, tuple[int, int, int]] = {}
        self._last: dict[int, tuple[Event, Outcome, Mm | None]] = {}
        self._doubt: dict[int, bool] = {}  # an assumed outcome since the last comparison
        self._parent: dict[int, int] = {}
        self._driven: dict[File, int] = {}  # what the hook of a file's driver was seen to change of vm_flags

    @bulk_work()
    def run(self, events: Iterable[Event]) -> Report:
        """Fold and compare them all."""
        ahead: deque[Event] = deque()
        for event in chain(events, repeat(None, _AHEAD)):
            if event is not None:
                ahead.append(event)
                if len(ahead) <= _AHEAD:
                    continue
            if ahead:
                self.step(ahead.popleft(), ahead)
        return self.report

    def step(self, event: Event, ahead: Iterable[Event] | None = None) -> Outcome | None:
        """One event: fold it in, or compare if it is an observation.

        ahead: the events that follow, as far as they are known. Only the state before an event that an observation
        follows can be needed again, and copying one costs as much as it has VMAs.
        """
        if event.call == "maps":
            self._maps(event)
            return None
        self.report.events += 1
        mm = self.world.mms.get(event.mm)
        before = clone_mm(mm) if mm is not None and self._may_settle(mm, event, ahead) else None
        open_range = mm is not None and self._is_open(mm, event)
        outcome = self.world.apply(event)
        if event.call in ("fork", "clone", "clone3", "vfork") and len(event.args) > 1 and event.args[1]:
            self._parent[event.args[1]] = event.mm
            self._doubt[event.args[1]] = self._doubt.get(event.mm, False)  # the child has what the parent has
        if event.call == "exit":
            self._forget(event)
        self._note(event, outcome, before, open_range)
        return outcome

    def _is_open(self, mm: Mm, event: Event) -> bool:
        """Whether a call is on VMAs, or beside some, whose bounds hang on faults that the trace does not show."""
        if self.world.env.faults == "recorded" or len(event.args) < 2 or not isinstance(event.args[0], int):
            return False
        length = event.args[1] if isinstance(event.args[1], int) else 0
        vma = mm.find_vma(event.args[0])
        vma = vma.prev if vma.prev is not mm.head else vma
        while vma is not mm.tail:
            if vma.unsure or vma.vm_flags & VM_GROWSDOWN:
                return True
            if vma.vm_start > event.args[0] + length:
                return False
            vma = vma.next
        return False

    def _may_settle(self, mm: Mm, event: Event, ahead: Iterable[Event] | None) -> bool:
        unknowns = self.world.env.faults != "recorded" or mm.attached or mm.inferred
        if not unknowns or not changes_vmas(event):
            return False
        following = next((e for e in ahead if e.mm == event.mm), None) if ahead is not None else None
        return (following is None or following.call == "maps") and any(v.unsure for v in mm.vmas())

    def _note(self, event: Event, outcome: Outcome, before: Mm | None, open_range: bool) -> None:
        self._last[event.mm] = (event, outcome, before)
        if not outcome.certain:
            self.report.assumed += 1
            self._doubt[event.mm] = True
        if outcome.divergence is not None and open_range:
            self.report.errno_mismatches_assumed += 1
        elif outcome.divergence is not None:
            self.report.errno_mismatches += 1
            if self.report.first_errno_mismatch is None:
                where = f"event {event.seq}" + (f" (line {event.source_line})" if event.source_line else "")
                self.report.first_errno_mismatch = f"{where}: {event.call}: {outcome.divergence}"

    def _forget(self, event: Event) -> None:
        if len(event.args) > 2 and event.args[2]:
            for table in (self._seen, self._shown, self._brk, self._last, self._doubt):
                table.pop(event.mm, None)

    # -- comparing -----------------------------------------------------------------------------

    def _maps(self, event: Event) -> None:
        kind, _, removed, added = event.args
        lines = [ObservedVma(*line) for line in added]
        if kind == "baseline" and removed is None:
            self.world.apply(event)
            self._seen[event.mm] = {line.start: line for line in lines}
            self._shown.pop(event.mm, None)
            return
        if kind == "image":  # inferred by the importer, not observed
            self.world.apply(event)
            self._shown.pop(event.mm, None)
            return
        mm = self.world.mm(event.mm)
        if kind == "window":
            self._window(event, mm, lines)
            return
        seen, changed = self._observe(event.mm, removed, lines)
        if kind == "async":
            self._asynchronous(mm, seen)
            return
        self._compare(event, mm, seen, changed)

    def _observe(self, number: int, removed: list[int] | None, lines: list[ObservedVma]) -> tuple[Lines, set[int]]:
        """The observation as a whole, and the starts that it says have changed."""
        if removed is None:
            self._seen[number] = {line.start: line for line in lines}
            self._shown.pop(number, None)
            return self._seen[number], set(self._seen[number])
        seen = self._seen.get(number)
        if seen is None:
            seen = self._seen[number] = dict(self._seen.get(self._parent.get(number, 0), {}))
        changed = set(removed)
        for start in removed:
            seen.pop(start, None)
        for line in lines:
            seen[line.start] = line
            changed.add(line.start)
        return seen, changed

    def _asynchronous(self, mm: Mm, seen: Lines) -> None:
        """The kernel changed the address space with no call that the trace could show."""
        resync(mm, seen.values(), self.world.images)
        self._shown.pop(mm.number, None)
        kinds = self.report.unmodelled
        kinds["changed without a traced call"] = kinds.get("changed without a traced call", 0) + 1

    def _compare(self, event: Event, mm: Mm, seen: Lines, changed: set[int]) -> None:
        self.report.compared += 1
        keys = self._render(mm, changed)
        bad = self._differences(mm, seen, keys)
        if bad and (
            self._grown(mm, seen, bad) or self._longer(mm, seen, bad) or self._stack_lies_lower(mm, seen, bad)
        ):
            keys = self._render(mm, changed)
            bad = self._differences(mm, seen, keys)
        if not bad and mm.map_count == len(seen):
            self._settled_by(mm, seen, keys)
            self._forget_flags(seen, keys)
            self._doubt[event.mm] = False
            return
        if self._settle(event, mm, seen):
            self.report.compared -= 1  # used up: it chose among the states that the trace leaves open
            self._forget_flags(seen, keys)
            return
        self._mismatch(event, mm, seen, bad)
        resync(mm, sorted(seen.values()), self.world.images)
        self._forget_flags(seen, keys)
        self._shown.pop(mm.number, None)
        self._doubt[event.mm] = False

    def _render(self, mm: Mm, changed: set[int]) -> set[int]:
        """Bring the replay's lines up to date; the starts worth comparing."""
        labels = (mm.start_brk, mm.brk, mm.start_stack)
        shown = self._shown.get(mm.number)
        dirty = mm.dirty if mm.dirty is not None else []
        if shown is None or self._brk.get(mm.number) != labels:
            shown = self._shown[mm.number] = {v.vm_start: observe(mm, v) for v in mm.vmas()}
            self._brk[mm.number] = labels
            keys = set(shown) | set(self._seen.get(mm.number, ()))
        else:
            keys = {vma.vm_start for vma in dirty}
            for start in keys:
                vma = mm.vma_lookup(start)
                if vma is None or vma.vm_start != start:
                    shown.pop(start, None)
                else:
                    shown[start] = observe(mm, vma)
        dirty.clear()
        return keys | changed

    def _differences(self, mm: Mm, seen: Lines, keys: set[int]) -> list[int]:
        shown = self._shown[mm.number]
        bad = []
        for start in keys:
            ours, real = shown.get(start), seen.get(start)
            if ours is None and real is None:
                continue
            if ours is None or real is None or not self._same(mm, ours, real):
                bad.append(start)
        return sorted(bad)

    def _same(self, mm: Mm, ours: ObservedVma, real: ObservedVma) -> bool:
        if ours[:4] != real[:4]:
            return False
        if real.vm_flags is not None and not _same_flags(mm, ours.vm_flags, real.vm_flags):
            return self._driver_flags(mm, ours, real)
        if ours[4:7] == real[4:7]:
            return True
        if ours.dev == "?" or ours.inode == -1 or ours.name == "?":
            return self._learn(mm, ours, real)
        return _deleted_since(ours, real)

    def _learn(self, mm: Mm, ours: ObservedVma, real: ObservedVma) -> bool:
        """An unknown of a file (its path, device, inode) is settled by the first sight of it."""
        vma = mm.vma_lookup(ours.start)
        file = vma.attrs.vm_file if vma is not None else None
        if file is None or not _may_be(file, real):
            return False
        self.report.settled += 1
        file.dev, file.inode, file.path = real.dev, real.inode, real.name
        if vma is not None and vma.attrs.anon_name is not None:
            file.path = None
        self._shown.pop(mm.number, None)
        return True

    def _driver_flags(self, mm: Mm, ours: ObservedVma, real: ObservedVma) -> bool:
        """What a driver's mmap hook did to vm_flags, or a noexec mount, is settled by the first sight of its file."""
        vma = mm.vma_lookup(ours.start)
        file = vma.attrs.vm_file if vma is not None else None
        if vma is None or file is None or file.kind not in (*_DRIVERS, "regular"):
            return False
        flags = vmflags_from_letters(real.vm_flags or "")
        changed = vma.attrs.vm_flags ^ flags
        if (
            changed & ~(_BY_DRIVERS if file.kind in _DRIVERS else VM_MAYEXEC)
            or self._driven.setdefault(file, changed) != changed
        ):
            return False
        self.report.settled += 1
        vma.attrs = vma.attrs.with_flags(flags)
        self._shown.pop(mm.number, None)
        return self._same(mm, observe(mm, vma), real)

    # -- what a difference comes to --------------------------------------------------------------

    def _grown(self, mm: Mm, seen: Lines, bad: list[int]) -> bool:
        """Whether VMAs have grown downwards by faults that the trace does not show; the replay's then do, too."""
        if self.world.env.faults == "recorded":
            return False
        grown = 0
        for line in (seen[start] for start in bad if start in seen):
            vma = mm.find_vma(line.start)
            below = vma.vm_start > line.start and vma.vm_end == line.end and vma.vm_flags & VM_GROWSDOWN
            grown += bool(below) and grow_stack(mm, vma, line.start, sure=True)
        if grown:
            self.report.settled += grown
            self._shown.pop(mm.number, None)
        return grown > 0

    def _longer(self, mm: Mm, seen: Lines, bad: list[int]) -> bool:
        """Whether segments are shown whose size no event told; the replay's then end there, too."""
        shown = 0
        for line in (seen[start] for start in bad if start in seen):
            vma = mm.find_vma(line.start)
            if vma.vm_start == line.start:
                shown += segment_reaches(mm, vma, line.end, vmflags_from_letters(line.vm_flags or ""))
        if shown:
            self.report.settled += shown
            self._shown.pop(mm.number, None)
        return shown > 0

    def _stack_lies_lower(self, mm: Mm, seen: Lines, bad: list[int]) -> bool:
        """Whether the main stack's pieces show that its first address lies in a lower one than was taken."""
        for line in (seen[start] for start in bad if start in seen):
            vma = mm.vma_lookup(line.start)
            if line.name == "[stack]" and vma is not None and line.end == vma.vm_end <= mm.start_stack:
                mm.start_stack = line.end - 8
                self.report.settled += 1
                self._shown.pop(mm.number, None)
                return True
        return False

    def _settled_by(self, mm: Mm, seen: Lines, keys: set[int]) -> None:
        """A line whose smaps shows written pages settles that its VMA is written."""
        for start in keys:
            line = seen.get(start)
            if line is None or not line.written:
                continue
            vma = mm.vma_lookup(start)
            if vma is not None and write_open(vma):
                self.report.settled += 1
                anon_vma_prepare(mm, vma)

    def _forget_flags(self, seen: Lines, keys: set[int]) -> None:
        """VmFlags that a recording reads only now and then say nothing about later moments."""
        if self.world.header.format == "vmafuzz":
            return
        for start in keys:
            line = seen.get(start)
            if line is not None and (line.vm_flags is not None or line.written is not None):
                seen[start] = line._replace(vm_flags=None, written=None)

    def _settle(self, event: Event, mm: Mm, seen: Lines) -> bool:
        """Whether another state of what the trace does not show explains the observation."""
        last = self._last.get(event.mm)
        if last is None or last[2] is None or last[1].certain:
            return False
        found = settle(self.world, last[0], last[2], last[1], seen)
        if found is None:
            return False
        self.world.adopt(found)
        self.report.settled += 1
        self._shown.pop(mm.number, None)
        self._doubt[event.mm] = False
        return True

    def _mismatch(self, event: Event, mm: Mm, seen: Lines, bad: list[int]) -> None:
        certain = not self._doubt.get(event.mm, False) and not self._may_have_grown(mm, seen, bad)
        if certain:
            self.report.mismatches += 1
        else:
            self.report.mismatches_assumed += 1
        first = self.report.first_mismatch
        if first is not None and (first.certain or not certain):
            return
        shown = self._shown.get(mm.number) or {v.vm_start: observe(mm, v) for v in mm.vmas()}
        cause, outcome, _ = self._last.get(event.mm, (event, None, None))
        self.report.first_mismatch = Mismatch(
            cause.seq,
            cause.call,
            list(cause.args) if cause.call != "maps" else [],
            cause.source_line,
            event.mm,
            certain,
            [seen[s] for s in bad if s in seen],
            [shown[s] for s in bad if s in shown],
            [] if outcome is None else [describe(d) for d in outcome.decisions],
        )

    def _may_have_grown(self, mm: Mm, seen: Lines, bad: list[int]) -> bool:
        """Whether a difference is about a VMA that faults, which the trace does not show, may have grown."""
        if self.world.env.faults == "recorded":
            return False
        shown = self._shown.get(mm.number, {})
        lines = [lines[start] for start in bad for lines in (seen, shown) if start in lines]
        return any("gd" in (line.vm_flags or "").split() for line in lines)

    def _window(self, event: Event, mm: Mm, lines: list[ObservedVma]) -> None:
        """A list that shows a window only, and no more than ranges and permissions."""
        self.report.compared += 1
        ours = [observe(mm, v) for v in mm.vmas()]
        if [line[:3] for line in ours] == [line[:3] for line in lines]:
            return
        self._shown[mm.number] = {line.start: line for line in ours}
        seen = {line.start: line for line in lines}
        bad = [s for s in sorted({*self._shown[mm.number], *seen}) if _range(ours, s) != _range(lines, s)]
        self._mismatch(event, mm, seen, bad)
        resync(mm, [line._replace(offset=0, dev="00:00", inode=0) for line in lines], self.world.images)
        self._shown.pop(mm.number, None)


def _range(lines: list[ObservedVma], start: int) -> tuple[int, int, str] | None:
    return next(((v.start, v.end, v.perms) for v in lines if v.start == start), None)


def _same_flags(mm: Mm, ours: str | None, real: str) -> bool:
    if ours == real:
        return True
    a, b = set((ours or "").split()), set(real.split())
    return a == b


def _may_be(file: File, real: ObservedVma) -> bool:
    """Whether what is known of a file agrees with a line that shows it."""
    if real.inode == 0 and real.dev == "00:00":
        return False
    name = real.name.removesuffix(" (deleted)")  # it may have been unlinked since it was opened
    known_path = file.path in (None, real.name, name) or real.name.startswith("[anon_shmem:")
    return known_path and file.inode in (None, real.inode) and file.dev in (None, real.dev)


def _deleted_since(ours: ObservedVma, real: ObservedVma) -> bool:
    """The file was unlinked, or found under another name, while it stayed mapped."""
    same_file = ours.dev == real.dev and ours.inode == real.inode and ours.inode != 0
    return same_file and not real.name.startswith("[") and not ours.name.startswith("[")


def describe(decision: Any) -> str:
    """A decision in a line: what was tried, what came of it, the first reason why not."""
    what = f"{decision.api} [{decision.vm_start:#x}, {decision.vm_end:#x}): "
    if decision.action == "merge":
        what += f"merged, case {decision.case}"
    elif decision.action == "split":
        what += f"split at {decision.at:#x}"
    else:
        what += "no merge"
    for side, reason in (("below", decision.reason_prev), ("above", decision.reason_next)):
        if reason is not None:
            what += f"; {side}: {reason.text}"
    return what if decision.certain else what + " (assumed)"
