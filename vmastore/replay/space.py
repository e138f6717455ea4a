"""One address space of a stored trace at a moment: which it is, and what it was."""

from __future__ import annotations

from typing import NamedTuple

from vmastore.errors import InputError
from vmastore.events import ObservedVma
from vmastore.mm.mm import Mm
from vmastore.mm.rules import RuleSet
from vmastore.replay.maps import observed
from vmastore.replay.trace import StoredTrace


class Space(NamedTuple):
    """An address space after event `seq`: an earlier one than asked for where it had ended by then."""

    mm: Mm
    seq: int

    @property
    def vmas(self) -> list[ObservedVma]:
        """Its VMAs as /proc/PID/maps and smaps show them, by address (bytes)."""
        return observed(self.mm)

    def close(self) -> None:
        """Let its VMAs go at once: for who looks at many moments in turn."""
        self.mm.close()


class Difference(NamedTuple):
    """What two address spaces do not share: the VMAs of the first alone, and of the second alone."""

    removed: list[ObservedVma]
    added: list[ObservedVma]


def pick_space(trace: StoredTrace, mm: int | None, seq: int) -> int:
    """The address space: as asked, else of those born by event `seq` the one with most events. Raises InputError."""
    spaces = trace.store.address_spaces(trace.info.trace)
    numbers = {row[0] for row in spaces}
    if mm is not None:
        if mm not in numbers:
            known = ", ".join(str(n) for n in sorted(numbers)[:20])
            raise InputError(f"{trace.info.header.name} has no address space {mm}", hint=f"it has {known}")
        return mm
    alive = [row for row in spaces if row[0] and row[4] <= max(seq, 1)]
    return int(max(alive, key=lambda row: row[6])[0]) if alive else 0


def space_at(
    trace: StoredTrace,
    seq: int,
    mm: int | None,
    rules: RuleSet,
    *,
    faults: str = "recorded",
    max_map_count: int | None = None,
) -> Space:
    """The address space after event `seq`; one that has ended by then as it last was. Raises InputError."""
    number = pick_space(trace, mm, seq)
    died = {row[0]: row[5] for row in trace.store.address_spaces(trace.info.trace)}.get(number)
    if died is not None and died <= seq:
        seq = died - 1
    world, _ = trace.at(seq, rules, faults=faults, max_map_count=max_map_count)
    found = world.mms.get(number)
    if found is None:
        raise InputError(f"{trace.info.header.name}: address space {number} does not exist at event {seq}")
    return Space(found, seq)


def compare(one: list[ObservedVma], two: list[ObservedVma]) -> Difference:
    """What two lists of VMAs do not share."""
    first, second = set(one), set(two)
    return Difference([v for v in one if v not in second], [v for v in two if v not in first])
