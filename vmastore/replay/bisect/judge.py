"""Who says whether a state has the property: a predicate, or SQL over `vmas` as of the event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from vmastore.events import Event, ObservedVma
from vmastore.mm.flags import vmflags_from_letters
from vmastore.mm.mm import Mm
from vmastore.replay.maps import observe
from vmastore.replay.predicate import Moment, Predicate
from vmastore.replay.world import Outcome, World
from vmastore.store.statedb import StateDb

Verdict = tuple[int, bool]  # address space (0: all of them), whether the property holds there


class Judge(Protocol):
    """Looks at a replay after every event, or at one world alone.

    text: the property in words; of_event: a state alone does not answer it.
    """

    text: str
    of_event: bool

    def begin(self, world: World, seq: int = 0) -> None:
        """Start with a world, whatever it holds already: what event `seq` left behind (0: a fresh one)."""

    def after(self, event: Event, outcome: Outcome) -> Sequence[Verdict]:
        """The verdicts after an event was applied to that world, where they may have changed."""

    def holds(self, world: World, seq: int) -> bool:
        """Whether a world, as it is after event `seq`, has the property (in any address space looked at)."""


class PredicateJudge:
    """A predicate, in one address space or (mm None) in any."""

    def __init__(self, predicate: Predicate, mm: int | None = None) -> None:
        self.predicate = predicate
        self.text = predicate.text
        self.of_event = predicate.of_event
        self.mm = mm

    def begin(self, world: World, seq: int = 0) -> None:
        world.watch = True
        self._mms = world.mms
        self._seen: set[int] = set()

    def after(self, event: Event, outcome: Outcome) -> Sequence[Verdict]:
        found = [] if len(self._mms) == len(self._seen) else self._births(event)
        if event.mm in self._mms and self._asked(event):
            found.append((event.mm, self.predicate(Moment(self._mms[event.mm], outcome))))
        return found

    def _asked(self, event: Event) -> bool:
        """Whether the answer for the event's address space may have changed."""
        space = self._mms[event.mm]
        if (self.mm is not None and event.mm != self.mm) or event.call == "note":
            return False
        changed = bool(space.dirty) or event.mm not in self._seen
        self._seen.add(event.mm)
        space.dirty = []
        return changed or self.predicate.restless or event.call == "maps"

    def _births(self, event: Event) -> list[Verdict]:
        """Address spaces that the event made (fork) or ended."""
        new = [n for n in self._mms.keys() - self._seen if n != event.mm and self.mm in (None, n)]
        self._seen = set(self._mms) - {event.mm} | self._seen & {event.mm}
        return [(n, self.predicate(state_of(self._mms[n], event.seq))) for n in new]

    def holds(self, world: World, seq: int) -> bool:
        spaces = world.mms.values() if self.mm is None else [m for m in world.mms.values() if m.number == self.mm]
        return any(self.predicate(state_of(mm, seq)) for mm in spaces)


def state_of(mm: Mm, seq: int) -> Moment:
    """An address space as it is after event `seq`, which has done nothing to it by itself."""
    return Moment(mm, Outcome(seq, mm.number, [], mm.map_count, 0, 0, None))


class SqlJudge:
    """A SELECT over `vmas` as of the event, all address spaces in it; see StateDb.holds.

    trace: the trace's number, for the column of that name. births: of the VMAs alive after an event, by
    address space and signed vm_start, which event made them; without it those that a world holds at
    the beginning count as made by the event that it is after. Raises StoreError for a wrong query.
    """

    of_event = False
    births: Callable[[int], dict[tuple[int, int], int]] | None = None

    def __init__(self, query: str, trace: int) -> None:
        self.text = query
        self._trace = trace
        self._db = StateDb(query)

    @property
    def asks_births(self) -> bool:
        """Whether the query reads when a VMA was made, which no state tells by itself."""
        return "born_seq" in self._db.read

    def begin(self, world: World, seq: int = 0) -> None:
        world.watch = True
        self._world = world
        self._born: dict[tuple[int, int], int] = {}
        for mm in world.mms.values():
            mm.dirty = None
        self._lines: dict[int, dict[int, ObservedVma]] = {}  # what the table shows, by address space and start
        self._db.clear()
        if seq:
            self._born = self.births(seq) if self.births and self.asks_births else {}
            self._follow(seq)
            self._born = {}

    def after(self, event: Event, outcome: Outcome) -> Sequence[Verdict]:
        return [(0, self._db.holds())] if self._follow(event.seq) else []

    def _follow(self, seq: int) -> bool:
        """Bring the table up to date. Returns whether anything changed."""
        changed = False
        for number in self._lines.keys() - self._world.mms.keys():
            self._db.drop_space(number)
            del self._lines[number]
            changed = True
        for number, mm in self._world.mms.items():
            lines = self._lines.setdefault(number, {})
            if mm.dirty is None or not (lines or mm.dirty):  # not looked at yet, or replaced as a whole
                starts = lines.keys() | {vma.vm_start for vma in mm.vmas()}
            else:
                starts = {vma.vm_start for vma in mm.dirty}
            mm.dirty = []
            changed |= self._update(mm, lines, starts, seq)
        return changed

    def _update(self, mm: Mm, lines: dict[int, ObservedVma], starts: set[int], seq: int) -> bool:
        gone, new = [], []
        for start in starts:
            vma = mm.vma_lookup(start)
            line = observe(mm, vma) if vma is not None and vma.vm_start == start else None
            old = lines.get(start)
            if line == old:
                continue
            if old is not None:
                gone.append((mm.number, _signed(start)))
                del lines[start]
            if line is not None:
                new.append(self._row(mm, line, seq))
                lines[start] = line
        self._db.drop(gone)
        self._db.put(new)
        return bool(gone or new)

    def _row(self, mm: Mm, line: ObservedVma, seq: int) -> tuple[Any, ...]:
        """In the order of the view's columns; replay and died_seq are unknown to a state."""
        path = line.name if line.inode else None
        flags = vmflags_from_letters(line.vm_flags or "")
        place = (_signed(line.start), _signed(line.end))
        pgoff = line.offset >> 12
        born = self._born.get((mm.number, place[0]), seq)
        return (self._trace, None, mm.number, *place, line.perms, flags, pgoff, path, line.name, born, None)

    def holds(self, world: World, seq: int) -> bool:
        self.begin(world, seq)
        return self._db.holds()


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
