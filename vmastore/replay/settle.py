"""Which state of what a trace does not show explains an observation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import product
from typing import NamedTuple

from vmastore.events import Event, ObservedVma
from vmastore.mm.flags import VM_SHARED, VM_WRITE, perms
from vmastore.mm.mm import Mm
from vmastore.mm.unknown import (
    UNSURE,
    UNSURE_BASE,
    UNSURE_FORKED,
    UNSURE_KINDS,
    Assigned,
    State,
    assignments,
    lendable,
    open_bases,
)
from vmastore.mm.vma import AnonVma, BaseAnon, Vma
from vmastore.replay.maps import observe
from vmastore.replay.resync import clone_mm, is_elsewhere
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

    before: the address space as it was before the event. Only VMAs that its decisions touch are varied. What
    `seen` leaves open (several states explain it) stays open.
    """
    explaining = [choice for choice, trial, _ in _trials(world, event, before, outcome) if _explains(trial, seen)]
    if not explaining:
        return None
    first = explaining[0]
    known = {v.anon_vma for v in before.vmas()}
    ways = [choice.assigned for choice in explaining]
    bases = {b for b, state in first.assigned.items() if any(_unlike(state, way[b], known) for way in ways)}
    links = {at for at, count in first.links.items() if any(c.links[at] != count for c in explaining)}
    moved = {at for at, other in first.moved.items() if any(c.moved[at] != other for c in explaining)}
    moved |= {at for at, other in first.moved.items() if other and is_elsewhere(before.find_vma(at))}
    found, _ = _try(world, event, before, first, Open(bases, links, moved))
    if world.env.faults != "recorded":
        _open_again(found)
    return found


def _open_again(mm: Mm) -> None:
    """What is settled as unwritten may be written from now on, unseen, where it can be."""
    for vma in mm.vmas():
        private = vma.attrs.vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE
        if private and vma.anon_vma is None and not vma.unsure:
            vma.unsure = UNSURE


class Choice(NamedTuple):
    """A state of all that is varied."""

    assigned: Assigned
    links: dict[int, int | None]  # by vm_start: the length of its chain; None: as it is
    moved: dict[int, bool]  # by vm_start: whether it has the other of two page offsets


class Open(NamedTuple):
    """What an observation does not decide."""

    bases: set[BaseAnon]
    links: set[int]
    moved: set[int]


_DECIDED = Open(set(), set(), set())


def _unlike(state: State, other: State, known: Collection[AnonVma | None]) -> bool:
    """Whether two states differ but for which fresh anon_vma it is; `known` are those that other VMAs have."""
    one, two = (s[0] if s[0] is None or s[0] in known else True for s in (state, other))
    return one is not two or state[1] != other[1]


def alternatives(
    world: World, event: Event, before: Mm, outcome: Outcome
) -> list[tuple[str, tuple[tuple[int, int, int], ...]]]:
    """(merge cases and splits, VMAs afterwards) of `event`, for each state of what the trace does not show."""
    return [
        (tried.cases, tuple((v.vm_start, v.vm_end, v.attrs.vm_flags) for v in trial.vmas()))
        for _, trial, tried in _trials(world, event, before, outcome)
    ]


def _trials(world: World, event: Event, before: Mm, outcome: Outcome) -> Iterator[tuple[Choice, Mm, Outcome]]:
    ranges = [(d.vm_start, d.vm_end) for d in outcome.decisions]
    copied = _source(event)
    edges = {edge for at in ranges for edge in at}
    unsure = [v for v in before.vmas() if (v.unsure or v.attrs.open_offset) and _touches(v, [*ranges, *copied])]
    unsure = sorted(unsure, key=lambda v: not {v.vm_start, v.vm_end} & edges)[:_MOST]
    around = lendable([n for v in unsure for n in (v.prev, v, v.next)])
    for assigned in assignments(open_bases(unsure), around):
        for links in product(*(_links(v, assigned) for v in unsure)):
            for moved in product(*((False, True) if v.attrs.open_offset else (False,) for v in unsure)):
                starts = [v.vm_start for v in unsure]
                choice = Choice(
                    assigned, dict(zip(starts, links, strict=True)), dict(zip(starts, moved, strict=True))
                )
                yield choice, *_try(world, event, before, choice, _DECIDED)


def _try(world: World, event: Event, before: Mm, choice: Choice, left: Open) -> tuple[Mm, Outcome]:
    """A copy of `before` in the chosen states, after the event. What is left open is marked so."""
    trial = clone_mm(before)
    _assign(trial, choice.assigned, left.bases)
    for start, count in choice.links.items():
        vma = trial.find_vma(start)
        if count is not None:
            _set_state(vma, count, start in left.links)
        _set_offset(vma, choice.moved[start], start in left.moved)
    kept = world.mms.get(event.mm)
    world.mms[event.mm] = trial
    tried = world.apply(event)
    if kept is not None:
        world.mms[event.mm] = kept
    return trial, tried


def _source(event: Event) -> list[tuple[int, int]]:
    """What an mremap copies: its decisions name the place of the copy only."""
    return [(event.args[0], event.args[0] + max(event.args[1], 1))] if event.call == "mremap" else []


def _touches(vma: Vma, ranges: list[tuple[int, int]]) -> bool:
    return any(vma.vm_start <= end and start <= vma.vm_end for start, end in ranges)


def _links(vma: Vma, assigned: Assigned) -> Iterable[int | None]:
    """Lengths of its chain to be tried; None: as it is."""
    if vma.base is not None and assigned[vma.base][0] is not None:
        return (None,)
    if vma.unsure & UNSURE_FORKED:
        return range(3)
    return range(2) if vma.unsure & UNSURE else (None,)


def _assign(mm: Mm, assigned: Assigned, left: set[BaseAnon]) -> None:
    """Settle what the first observation left open, for every piece of the VMAs concerned; `left` stays open."""
    guesses = {
        v.anon_vma: v.base for v in mm.vmas() if v.base in assigned and not v.base.lent and v.anon_vma is not None
    }
    for vma in mm.vmas():
        if vma.base is None:
            base = guesses.get(vma.anon_vma) if vma.anon_vma is not None else None
            if base is not None and assigned[base][1] == 1:  # borrowed from it
                vma.anon_vma = assigned[base][0]
                vma.chain = () if vma.anon_vma is None else (vma.anon_vma,)
        elif vma.base in assigned:
            anon, links = assigned[vma.base]
            if anon is not None:
                vma.anon_vma, vma.chain = anon, (anon, *(AnonVma() for _ in range(links - 1)))
                vma.unsure &= UNSURE_BASE
            if vma.base not in left:
                vma.base, vma.unsure = None, vma.unsure & UNSURE_KINDS


def _set_offset(vma: Vma, other: bool, left: bool) -> None:
    """other: it has the page offset that was not taken for it."""
    attrs = vma.attrs
    if attrs.open_offset:
        delta = attrs.delta + attrs.anon_delta * other
        vma.attrs = attrs.with_delta(delta, (-attrs.anon_delta if other else attrs.anon_delta) * left)


def _set_state(vma: Vma, links: int, left: bool) -> None:
    """links: 0 unwritten, 1 written here, 2 written before the fork that made this address space."""
    if len(vma.chain) != links:
        vma.chain = tuple(AnonVma() for _ in range(links))
        vma.anon_vma = vma.chain[0] if links else None
    if not left:
        vma.unsure &= UNSURE_BASE
        if links == 1 and vma.base is None:  # written, but with which others it shares its anon_vma is open
            vma.base, vma.unsure = BaseAnon(True, own=True, late=True), UNSURE_BASE


def _explains(mm: Mm, seen: dict[int, ObservedVma]) -> bool:
    if mm.map_count != len(seen):
        return False
    for vma in mm.vmas():
        line = seen.get(vma.vm_start)
        if line is None or line.end != vma.vm_end or line.perms != perms(vma.attrs.vm_flags):
            return False
        if vma.attrs.vm_file is not None and observe(mm, vma).offset != line.offset:
            return False
        if line.vm_flags is not None and set(line.vm_flags.split()) != set((observe(mm, vma).vm_flags or "").split()):
            return False
    return True
