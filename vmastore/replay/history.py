"""Every event that touched an address: what it asked, and what became of the VMA that holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vmastore.events import CALLS, Event, ObservedVma
from vmastore.mm.mm import Mm
from vmastore.mm.vma import AnonVma, VmaAttrs
from vmastore.replay.maps import observe
from vmastore.replay.world import Outcome, World

_FORKS = {"fork", "vfork", "clone", "clone3"}
State = tuple[int, int, VmaAttrs, AnonVma | None]


class Touch(NamedTuple):
    """One event that touched the address.

    what: in words, what it did there. before, after: the VMA that held the address, None for none.
    """

    event: Event
    outcome: Outcome
    what: str
    before: ObservedVma | None
    after: ObservedVma | None


def history(world: World, events: Iterable[Event], addr: int, lineage: list[int]) -> Iterator[Touch]:
    """The touches of `addr`, in order. lineage: the address space asked about, before it its ancestors.

    An ancestor counts until the fork that made the next one.
    """
    line = iter(lineage)
    number = next(line)
    following = next(line, None)
    state, shown = _state(world.mms.get(number), addr), _shown(world.mms.get(number), addr)
    for event in events:
        outcome = world.apply(event)
        if following is not None and following in world.mms and event.call in _FORKS:
            number, following = following, next(line, None)
            if shown is not None:
                state, shown = _state(world.mms[number], addr), _shown(world.mms[number], addr)
                yield Touch(event, outcome, "copied by fork", shown, shown)
            continue
        if event.mm != number:
            continue
        mm = world.mms.get(number)
        now = _state(mm, addr)
        if now == state and not (now is not None and asks_about(event, addr)):
            continue
        after = _shown(mm, addr)
        yield Touch(event, outcome, _what(event, outcome, state, now, shown, after, addr), shown, after)
        state, shown = now, after


def lineage(spaces: Iterable[tuple[int, int | None]], number: int) -> list[int]:
    """An address space after its ancestors by fork. spaces: (mm, parent_mm or None)."""
    parents = dict(spaces)
    chain = [number]
    while (parent := parents.get(chain[0])) is not None and parent not in chain:
        chain.insert(0, parent)
    return chain


def ranges(event: Event) -> list[tuple[int, int]]:
    """[start, end) of each range that an event's arguments name; mmap's is where it was put."""
    named = dict(zip(CALLS.get(event.call, ()), event.args, strict=False))
    found = []
    addr, length = named.get("addr"), named.get("length", named.get("size"))
    if event.call == "mremap":
        found.append((event.args[0], event.args[0] + max(event.args[1], 1)))
        if event.result is not None:
            found.append((event.result, event.result + event.args[2]))
    elif event.call in ("mmap", "mmap2", "shmat"):
        start = event.result if event.result is not None else addr
        if start and isinstance(length, int):
            found.append((start, start + max(length, 1)))
    elif event.call == "process_madvise":
        found += [(start, start + size) for start, size in event.args[1] or ()]
    elif event.call == "prctl" and len(event.args) > 3 and isinstance(event.args[2], int):
        if event.args[0] == 0x53564D41:
            found.append((event.args[2], event.args[2] + int(event.args[3] or 0)))
    elif isinstance(addr, int) and isinstance(length, int) and event.call != "signal":
        found.append((addr, addr + max(length, 1)))
    return found


def asks_about(event: Event, addr: int) -> bool:
    """Whether one of the ranges that an event names holds addr."""
    return any(start & -4096 <= addr < -(-end // 4096) * 4096 for start, end in ranges(event))


def _state(mm: Mm | None, addr: int) -> State | None:
    vma = mm.vma_lookup(addr) if mm is not None else None
    return None if vma is None else (vma.vm_start, vma.vm_end, vma.attrs, vma.anon_vma)


def _shown(mm: Mm | None, addr: int) -> ObservedVma | None:
    vma = mm.vma_lookup(addr) if mm is not None else None
    return None if mm is None or vma is None else observe(mm, vma)


def _what(
    event: Event,
    outcome: Outcome,
    old: State | None,
    new: State | None,
    before: ObservedVma | None,
    after: ObservedVma | None,
    addr: int,
) -> str:
    """In words, what an event did to the VMA at addr."""
    if event.errno and old == new:
        return "failed, nothing changed here"
    if new is None:
        return "unmapped" if old is not None else "nothing is mapped here"
    if old is None:
        return "observed" if event.call == "maps" else "mapped"
    assert before is not None and after is not None
    parts = []
    if event.call in ("mmap", "mmap2", "mremap", "shmat") and asks_about(event, addr) and _replaced(old, new):
        parts.append("mapped over")
    if before.perms != after.perms:
        parts.append(f"{before.perms} → {after.perms}")
    parts += _letters(before, after)
    if before.name != after.name:
        parts.append(f"name {before.name or 'none'} → {after.name or 'none'}")
    if old[2].vm_policy != new[2].vm_policy:
        parts.append("another memory policy")
    if old[3] is None and new[3] is not None:
        parts.append("now written" if event.call == "fault" else "now has an anon_vma")
    parts += _edges(old, new, outcome)
    return ", ".join(parts) or "asked about, nothing changed here"


def _replaced(old: State, new: State) -> bool:
    return old[2] is not new[2] or old[3] is not new[3] or (old[0], old[1]) != (new[0], new[1])


def _letters(before: ObservedVma, after: ObservedVma) -> list[str]:
    """VmFlags gained and lost, those of the permissions aside."""
    shown = {"rd", "wr", "ex"}
    old, new = set((before.vm_flags or "").split()), set((after.vm_flags or "").split())
    gained, lost = sorted(new - old - shown), sorted(old - new - shown)
    return [f"+{letters}" for letters in gained] + [f"-{letters}" for letters in lost]


def _edges(old: State, new: State, outcome: Outcome) -> list[str]:
    if (old[0], old[1]) == (new[0], new[1]):
        return []
    size = f"{(old[1] - old[0]) >> 12} → {(new[1] - new[0]) >> 12} pages"
    if new[0] >= old[0] and new[1] <= old[1]:
        at = [hex(edge) for edge, was in zip(new[:2], old[:2], strict=True) if edge != was]
        verb = "split" if outcome.splits else "cut"
        return [f"{verb} at {' and '.join(at)} ({size})"]
    verb = f"merged (case {outcome.cases})" if outcome.merges else "grew"
    return [f"{verb}: {size}"]
