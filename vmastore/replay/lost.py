"""What keeps adjacent VMAs apart, and how many VMAs each reason costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vmastore.mm.merge import why_not_one
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Reason
from vmastore.mm.vma import Vma, VmaAttrs
from vmastore.replay.why import NOT_TRIED, why_apart


class Pair(NamedTuple):
    """Two VMAs that touch and are not one."""

    left: Vma
    right: Vma
    reason: Reason  # the first
    alone: bool  # whether the two would be one but for that reason
    certain: bool  # False: it hangs on a fault that the trace does not show


@dataclass
class Cost:
    """What one reason comes to in an address space.

    vmas: pairs whose first reason it is. alone: those of them that would be one VMA without it, so
    that is what doing away with the reason saves; the others differ in something else too.
    assumed: pairs where the trace does not show whether a VMA was written, which decides.
    """

    reason: str
    vmas: int = 0
    alone: int = 0
    assumed: int = 0


def pairs_apart(mm: Mm) -> Iterator[Pair]:
    """Every pair of adjacent VMAs, by address."""
    for vma in mm.vmas():
        nxt = vma.next
        if nxt is not mm.tail and vma.vm_end == nxt.vm_start:
            reason = why_apart(mm, vma, nxt)
            certain = reason.code not in ("anon_vma", "not_tried") or not (vma.unsure or nxt.unsure)
            yield Pair(vma, nxt, reason, is_alone(mm, vma, nxt, reason), certain)


def costs(mm: Mm) -> list[Cost]:
    """Each reason's cost, the dearest first."""
    sums: dict[str, Cost] = {}
    for pair in pairs_apart(mm):
        cost = sums.setdefault(pair.reason.text, Cost(pair.reason.text))
        cost.vmas += 1
        cost.alone += pair.alone
        cost.assumed += not pair.certain
    return sorted(sums.values(), key=lambda cost: (-cost.vmas, -cost.alone, cost.reason))


def is_alone(mm: Mm, left: Vma, right: Vma, reason: Reason) -> bool:
    """Whether `left` and `right` would be one VMA if only the field behind `reason` were equal."""
    if reason is NOT_TRIED:
        return True
    probe = Vma(right.vm_start, right.vm_end, right.attrs, right.anon_vma, right.chain)
    if reason.code == "anon_vma":
        probe.anon_vma, probe.chain = left.anon_vma, left.chain
    else:
        equal = _EQUAL.get(reason.code)
        if equal is None:  # special, close: no field that could be made equal
            return False
        probe.attrs = equal(left.attrs, right.attrs)
    return why_not_one(mm, left, probe) is None


_EQUAL: dict[str, Callable[[VmaAttrs, VmaAttrs], VmaAttrs]] = {
    "policy": lambda left, right: right.with_policy(left.vm_policy),
    "flags": lambda left, right: right.with_flags(left.vm_flags),
    "file": lambda left, right: right.table.get(
        right.vm_flags, left.vm_file, right.vm_policy, right.uffd, right.anon_name, right.delta, right.anon_delta
    ),
    "uffd": lambda left, right: right.with_uffd(right.vm_flags, left.uffd),
    "name": lambda left, right: right.with_name(left.anon_name),
    "pgoff": lambda left, right: right.with_delta(left.delta, right.anon_delta),
    "anon_pgoff": lambda left, right: right.with_delta(right.delta, left.anon_delta),
}
