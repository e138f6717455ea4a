"""Which state of what a trace does not show explains an observation."""

from __future__ import annotations

from itertools import product

from vmastore.events import Event, ObservedVma
from vmastore.mm.flags import perms
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

    before: the address space as it was before the event. Only VMAs that the uncertain decisions
    touch are varied.
    """
    ranges = [(d.vm_start, d.vm_end) for d in outcome.decisions if not d.certain]
    starts = [v.vm_start for v in before.vmas() if v.unsure and _touches(v, ranges)][:_MOST]
    for written in product((False, True), repeat=len(starts)):
        trial = clone_mm(before)
        for start, faulted in zip(starts, written, strict=True):
            _set_state(trial, start, faulted)
        kept = world.mms.get(event.mm)
        world.mms[event.mm] = trial
        world.apply(event)
        if kept is not None:
            world.mms[event.mm] = kept
        if _explains(trial, seen):
            return trial
    return None


def _touches(vma: Vma, ranges: list[tuple[int, int]]) -> bool:
    return any(vma.vm_start <= end and start <= vma.vm_end for start, end in ranges)


def _set_state(mm: Mm, start: int, faulted: bool) -> None:
    vma = mm.vma_lookup(start)
    if vma is None:
        return
    if not faulted:
        vma.anon_vma, vma.chain = None, ()
    elif vma.anon_vma is None:
        vma.anon_vma = AnonVma()
        vma.chain = (vma.anon_vma,)
    vma.unsure = 0


def _explains(mm: Mm, seen: dict[int, ObservedVma]) -> bool:
    if mm.map_count != len(seen):
        return False
    for vma in mm.vmas():
        line = seen.get(vma.vm_start)
        if line is None or line.end != vma.vm_end or line.perms != perms(vma.attrs.vm_flags):
            return False
    return True
