"""Who made the VMAs that are alive: for each the event that made it one of its own, and why it is one.

A split gives the lower part to whoever made the VMA and the upper part to the call that split; a VMA
that grows, shrinks or absorbs others stays its maker's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from vmastore.events import Event
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma
from vmastore.replay.text import call_text
from vmastore.replay.why import why_apart
from vmastore.replay.world import Outcome, World

_MAKERS = {"mmap", "mmap2", "mremap", "brk", "shmat", "stack_grow", "map_shadow_stack", "io_setup"}
_FORKS = {"fork", "vfork", "clone", "clone3"}
_LIBRARY = re.compile(r"/(?:libc|libpthread|ld|ld-linux[^/(]*)(?:-[\d.]+)?\.so|\[vdso\]")
_ADDRESS = re.compile(r"\s*\[0x[0-9a-f]+\]\Z")


class Born(NamedTuple):
    """How a VMA came to be one of its own.

    how: mapped, split (the call cut it off what lies below), observed (a baseline held it), inferred
    (it must have existed). reason: what kept it, then, from being one with the VMA below it, or, with
    none below, with the one above; 'not adjacent' where it touches neither.
    """

    seq: int
    call: str
    tid: int
    site: str | None
    how: str
    reason: str
    text: str


class Blame:
    """Folds events into a world and keeps, for every VMA alive, how it was born."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.watch = True
        self._born: dict[int, dict[Vma, Born]] = {}
        self._starts: dict[int, dict[int, Vma]] = {}
        self._cut: set[Vma] = set()  # by the event at hand: cut off what lies below

    def run(self, events: Iterable[Event]) -> None:
        """Fold them all in."""
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> Outcome:
        """Fold one event in."""
        outcome = self.world.apply(event)
        mm = self.world.mms.get(event.mm)
        if mm is not None:
            self._look(mm, event, outcome)
        if event.call in _FORKS and len(event.args) > 1 and isinstance(event.args[1], int):
            self._fork(event.mm, event.args[1])
        return outcome

    def born(self, mm: Mm, vma: Vma) -> Born:
        """How a VMA alive was born."""
        return self._born.get(mm.number, {}).get(vma) or _UNKNOWN

    def _look(self, mm: Mm, event: Event, outcome: Outcome) -> None:
        if mm.dirty is None:
            mm.dirty = list(mm.vmas())
        if not mm.dirty:
            return
        born = self._born.setdefault(mm.number, {})
        starts = self._starts.setdefault(mm.number, {})
        touched = dict.fromkeys(mm.dirty)
        mm.dirty.clear()
        alive = [v for v in touched if mm.vma_lookup(v.vm_start) is v]
        inherited = self._pieces(alive, event, outcome, born, starts)
        for vma in alive:
            if vma in inherited:
                continue
            if vma in self._cut:
                born[vma] = _born(mm, vma, event, "split")
            elif vma not in born:
                born[vma] = _born(mm, vma, event, _how(event))
        born.update(inherited)
        for vma in touched:
            if mm.vma_lookup(vma.vm_start) is not vma:
                born.pop(vma, None)
        self._index(starts, touched, alive, born)

    def _pieces(
        self, alive: list[Vma], event: Event, outcome: Outcome, born: dict[Vma, Born], starts: dict[int, Vma]
    ) -> dict[Vma, Born]:
        """Of each VMA that was split, the lowest piece alive, with the VMA's maker; the others go into `_cut`."""
        self._cut = set()
        roots: dict[int, int] = {}  # where a piece begins -> where the VMA began that it was cut from
        whole: set[int] = set()  # where the lower part of a split begins
        for decision in outcome.decisions:
            if decision.action == "split":
                roots[decision.at] = roots.get(decision.vm_start, decision.vm_start)
                whole.add(decision.vm_start)
        if not roots:
            return {}
        made = event.result if event.call in _MAKERS else None
        pieces: dict[int, list[Vma]] = {}
        for vma in sorted(alive, key=lambda v: v.vm_start):
            start = vma.vm_start
            if start == made and vma not in born:
                continue
            if start in roots or (start in whole and (vma in born or start in starts)):
                pieces.setdefault(roots.get(start, start), []).append(vma)
        inherited = {}
        for root, parts in pieces.items():
            original = starts.get(root)
            if original is not None and original in born:
                inherited[parts[0]] = born[original]
                self._cut.update(parts[1:])
        return inherited

    @staticmethod
    def _index(starts: dict[int, Vma], touched: Iterable[Vma], alive: list[Vma], born: dict[Vma, Born]) -> None:
        for vma in touched:
            held = starts.get(vma.vm_start)
            if held is not None and (held not in born or held.vm_start != vma.vm_start):
                del starts[vma.vm_start]
        for vma in alive:
            starts[vma.vm_start] = vma

    def _fork(self, parent: int, child: int) -> None:
        """The child's VMAs were made by whoever made the parent's."""
        mm = self.world.mms.get(child)
        if mm is None or child == parent or child in self._born:
            return
        of_parent, starts = self._born.get(parent, {}), self._starts.get(parent, {})
        born = self._born[child] = {}
        for vma in mm.vmas():
            original = starts.get(vma.vm_start)
            born[vma] = of_parent.get(original, _UNKNOWN) if original is not None else _UNKNOWN
        self._starts[child] = {v.vm_start: v for v in mm.vmas()}
        if mm.dirty is not None:
            mm.dirty.clear()


_UNKNOWN = Born(0, "?", 0, None, "inferred", "not known", "?")


def observed_blame(mm: Mm) -> Callable[[Mm, Vma], Born]:
    """For an address space that is known from one observation only: what maps tells of each VMA."""
    return lambda mm, vma: Born(0, "(observed)", 0, None, "observed", reason_of(mm, vma), "")


def _how(event: Event) -> str:
    if event.call == "maps":
        return "observed"
    return "mapped" if event.call in _MAKERS else "inferred"


def _born(mm: Mm, vma: Vma, event: Event, how: str) -> Born:
    text = call_text(event)
    return Born(event.seq, event.call, event.tid, site_of(event.site), how, reason_of(mm, vma), text)


def reason_of(mm: Mm, vma: Vma) -> str:
    """Why a VMA is not one with the VMA below it, or, with none below, with the one above."""
    below, above = vma.prev, vma.next
    if below is not mm.head and below.vm_end == vma.vm_start:
        return why_apart(mm, below, vma).text
    if above is not mm.tail and vma.vm_end == above.vm_start:
        return why_apart(mm, vma, above).text
    return "not adjacent"


def site_of(stack: str | None) -> str | None:
    """The call site of a stack (innermost frame first): the first frame that is not the C library's."""
    if not stack:
        return None
    frames = [_ADDRESS.sub("", line.strip().removeprefix("> ")) for line in stack.split("\n") if line.strip()]
    return next((frame for frame in frames if not _LIBRARY.search(frame)), frames[0] if frames else None)
