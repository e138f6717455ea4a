"""Which state of what a trace does not show explains an observation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from vmastore.events import Event, ObservedVma
from vmastore.mm.flags import perms
from vmastore.mm.merge import UNSURE_FORKED
from vmastore.mm.mm import Mm
from vmastore.mm.vma import AnonVma, Vma
from vmastore.replay.resync import clone_mm
from vmastore.replay.world import Outcome, World

_CALLS = {
    "mmap",
    "munmap",
    "mprotect",
    "pkey_mprotect",
    "mremap",
    "brk",
    "madvise",
    "mlock",
    "mlock2",
    "munlock",
    "mlockall",
    "munlockall",
    "mbind",
    "prctl",
    "ioctl",
    "mseal",
    "release",
}
_MOST = 4  # VMAs whose states are varied together


def changes_vmas(event: Event) -> bool:
    """Whether a call may merge or split."""
    return event.call in _CALLS


def settle(world: World, event: Event, before: Mm, outcome: Outcome, seen: dict[int, ObservedVma]) -> Mm | None:
    """The address space after `event` under fault states that explain `seen`, or None.

    before: the address space as it was before the event. Only VMAs that its decisions touch are varied.
    """
    for trial, _ in _trials(world, event, before, outcome):
        if _explains(trial, seen):
            return trial
    return None


def alternatives(
    world: World, event: Event, before: Mm, outcome: Outcome
) -> list[tuple[str, tuple[tuple[int, int, int], ...]]]:
    """(merge cases and splits, VMAs afterwards) of `event`, for each state of what the trace does not show."""
    return [
        (tried.cases, tuple((v.vm_start, v.vm_end, v.attrs.vm_flags) for v in trial.vmas()))
        for trial, tried in _trials(world, event, before, outcome)
    ]


def _trials(world: World, event: Event, before: Mm, outcome: Outcome) -> Iterator[tuple[Mm, Outcome]]:
    ranges = [(d.vm_start, d.vm_end) for d in outcome.decisions]
    unsure = [v for v in before.vmas() if v.unsure and _touches(v, ranges)][:_MOST]
    kept = world.mms.get(event.mm)
    for links in product(*(range(3 if v.unsure == UNSURE_FORKED else 2) for v in unsure)):
        trial = clone_mm(before)
        for vma, count in zip(unsure, links, strict=True):
            _set_state(trial, vma.vm_start, count)
        world.mms[event.mm] = trial
        tried = world.apply(event)
        if kept is not None:
            world.mms[event.mm] = kept
        yield trial, tried


def _touches(vma: Vma, ranges: list[tuple[int, int]]) -> bool:
    return any(vma.vm_start <= end and start <= vma.vm_end for start, end in ranges)


def _set_state(mm: Mm, start: int, links: int) -> None:
    """links: 0 unwritten, 1 written here, 2 written before the fork that made this address space."""
    vma = mm.vma_lookup(start)
    if vma is None:
        return
    if len(vma.chain) != links:
        vma.chain = tuple(AnonVma() for _ in range(links))
        vma.anon_vma = vma.chain[0] if links else None
    vma.unsure = 0


def _explains(mm: Mm, seen: dict[int, ObservedVma]) -> bool:
    if mm.map_count != len(seen):
        return False
    for vma in mm.vmas():
        line = seen.get(vma.vm_start)
        if line is None or line.end != vma.vm_end or line.perms != perms(vma.attrs.vm_flags):
            return False
    return True
