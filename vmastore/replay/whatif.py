"""Replaying an edited trace beside the original: what would have become of the VMAs. Nothing is stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from vmastore.errors import InputError
from vmastore.events import Event
from vmastore.replay.text import ADVICE_NAMES, call_text
from vmastore.replay.world import World
from vmastore.syscalls.uapi import MADV_DONTNEED, MADV_GUARD_INSTALL, MAP_STACK, PR_SET_VMA

Edit = Callable[[Event], Event | None]  # another event in its place, or None: it does not happen

_POLICY = {"mbind", "set_mempolicy", "set_mempolicy_home_node"}
REPLACEMENTS: dict[str, Edit] = {
    "mprotect(NONE)=guard": lambda e: _advise(e, MADV_GUARD_INSTALL) if _takes_all(e) else e,
    "mprotect(NONE)=dontneed": lambda e: _advise(e, MADV_DONTNEED) if _takes_all(e) else e,
    "munmap=dontneed": lambda e: _advise(e, MADV_DONTNEED) if e.call == "munmap" else e,
    "mmap(STACK)=mmap": lambda e: _plain_stack(e),
}


def _takes_all(event: Event) -> bool:
    return event.call == "mprotect" and event.args[2] == 0


def _advise(event: Event, advice: int) -> Event:
    return event._replace(call="madvise", args=(*event.args[:2], advice), file=None)


def _plain_stack(event: Event) -> Event:
    if event.call != "mmap" or not event.args[3] & MAP_STACK:
        return event
    return event._replace(args=(*event.args[:3], event.args[3] & ~MAP_STACK, *event.args[4:]))


def ignoring(what: str) -> Edit:
    """`names`, `policy`, `madvise` or `madvise:NOHUGEPAGE`. Raises InputError."""
    word, _, advice = what.partition(":")
    if what == "names":
        return lambda e: None if e.call == "prctl" and e.args[0] == PR_SET_VMA else e
    if what == "policy":
        return lambda e: None if e.call in _POLICY else e
    if word == "madvise":
        wanted = {number for number, name in ADVICE_NAMES.items() if not advice or name == advice.upper()}
        if not wanted:
            raise InputError(f"--ignore {what!r}: no such advice", hint=", ".join(ADVICE_NAMES.values()))
        return lambda e: None if e.call == "madvise" and (not advice or e.args[2] in wanted) else e
    raise InputError(f"--ignore {what!r}: one of names, policy, madvise, madvise:ADVICE")


def replacing(what: str) -> Edit:
    """One of `REPLACEMENTS`. Raises InputError."""
    found = REPLACEMENTS.get(what.replace(" ", ""))
    if found is None:
        raise InputError(f"--replace {what!r} is not known", hint=f"one of {', '.join(REPLACEMENTS)}")
    return found


def dropping(what: str) -> Edit:
    """Events by number (`7`), range (`7-12`) or call (`mlock`), separated by commas. Raises InputError."""
    ranges: list[tuple[int, int]] = []
    calls: set[str] = set()
    for part in what.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match:
            ranges.append((int(match[1]), int(match[2] or match[1])))
        elif re.fullmatch(r"[a-z_][a-z0-9_]*", part.strip()):
            calls.add(part.strip())
        else:
            raise InputError(f"--drop {part!r}: an event's number, a range like 7-12, or a call's name")
    return lambda e: None if e.call in calls or any(low <= e.seq <= high for low, high in ranges) else e


def in_order(events: Iterable[Event], call: str) -> Iterator[Event]:
    """The events with each run of `call` and page faults (one thread's or several's) sorted by address.

    A run takes the places (seq) that it had.
    """
    run: list[Event] = []
    for event in events:
        if event.call in (call, "fault") and (run or event.call == call):
            run.append(event)
            continue
        yield from _sorted(run)
        run = []
        yield event
    yield from _sorted(run)


def _sorted(run: Sequence[Event]) -> Iterator[Event]:
    for place, event in zip(run, sorted(run, key=lambda e: int(e.args[0])), strict=True):
        yield event._replace(seq=place.seq)


@dataclass
class Curve:
    """The number of VMAs of one address space over a replay. failed: calls on VMAs that failed."""

    kernel: str
    peak: int = 0
    peak_seq: int = 0
    end: int = 0
    failed: int = 0

    def note(self, world: World, number: int, seq: int) -> None:
        """Look at the address space after event seq; one that has ended keeps its last count."""
        mm = world.mms.get(number)
        if mm is not None:
            self.end = mm.map_count
            if self.end > self.peak:
                self.peak, self.peak_seq = self.end, seq


@dataclass
class WhatIf:
    """Both curves. first: (seq, the event as it would be or as it was, VMAs then and now)."""

    original: Curve
    edited: Curve
    changed: int = 0  # events changed, moved or left out
    first: tuple[int, str, int, int] | None = None


def whatif(
    original: World,
    edited: World,
    pairs: Iterable[tuple[Event, Event | None]],
    number: int,
) -> WhatIf:
    """Replay both. pairs: (event, what stands in its place); answers of failed calls are predicted anew there."""
    found = WhatIf(Curve(original.rules.name), Curve(edited.rules.name))
    for event, other in pairs:
        ended = event.call == "exit" and event.mm == number
        found.original.failed += bool(original.apply(event).errno) if event.mm == number else _apply(original, event)
        if other is not event:
            found.changed += 1
        if other is not None:
            blank = other._replace(errno=0) if other.errno and not other.injected else other
            outcome = edited.apply(blank)
            found.edited.failed += bool(outcome.errno) and other.mm == number
        if ended:
            continue
        found.original.note(original, number, event.seq)
        found.edited.note(edited, number, event.seq)
        if found.first is None and found.original.end != found.edited.end:
            text = call_text(event) if other is None else call_text(other)
            found.first = event.seq, text, found.original.end, found.edited.end
    return found


def _apply(world: World, event: Event) -> bool:
    world.apply(event)
    return False


def edited_pairs(
    events: Iterable[Event], edits: Sequence[Edit], reorder: str | None = None
) -> Iterator[tuple[Event, Event | None]]:
    """Each event with what stands in its place."""
    if reorder is None:
        for event in events:
            yield event, _edit(event, edits)
        return
    known = list(events)
    for event, moved in zip(known, in_order(known, reorder), strict=True):
        same = moved == event
        yield event, _edit(event if same else moved, edits)


def _edit(event: Event, edits: Sequence[Edit]) -> Event | None:
    found: Event | None = event
    for edit in edits:
        if found is None:
            return None
        found = edit(found)
    return found
