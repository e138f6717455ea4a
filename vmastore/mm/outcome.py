"""What the merge/split API decided, and the first reason why not."""

from __future__ import annotations

from typing import Final, NamedTuple

from vmastore.mm.flags import vmflags_letters


class Reason(NamedTuple):
    """The first thing that kept a range and a neighbour from being one VMA.

    code: none (no neighbour), gap, special, policy, flags, file, close, uffd, name, pgoff,
    anon_pgoff, anon_vma, stale (a bug). detail: for flags the differing bits, else a word or nothing.
    """

    code: str
    detail: str = ""
    bits: int = 0

    @property
    def text(self) -> str:
        """The reason in a few words, as the reports print it."""
        if self.code == "flags":
            return f"flags differ: {vmflags_letters(self.bits) or hex(self.bits)}"
        return _TEXT.get(self.code, self.code) + (f": {self.detail}" if self.detail else "")


_TEXT: Final = {
    "none": "no VMA there",
    "gap": "not adjacent",
    "special": "VM_SPECIAL mappings never merge",
    "policy": "memory policy differs",
    "file": "another open file description",
    "close": "vm_ops->close: it may not be removed",
    "uffd": "userfaultfd context differs",
    "name": "anonymous name differs",
    "pgoff": "page offset not contiguous",
    "anon_pgoff": "anonymous page offset not contiguous",
    "anon_vma": "anon_vma",
    "inside": "the range does not reach that edge of its VMA",
    "not_tried": "nothing: no call has asked since they became alike",
    "device": "not reached: the call failed; on an unknown device, the file system may have been asked first",
    "segment": "how long the segment is no event shows",
    "stale": "not looked at: the caller named a VMA further below as its lower neighbour",
    "expand_only": "brk never looks at the next VMA",
}

REASON_CODES: Final[tuple[str, ...]] = (*_TEXT, "flags")  # every code that a Reason can have


class Decision(NamedTuple):
    """One decision of the merge/split API.

    action: merge (case is '1' to '8', or 'extend' where a VMA grew with nobody), split (case
    'below': the new VMA is the lower part, or 'above'), none (nothing merged, the range is whole).
    vm_start, vm_end: the range asked about; for a split, the VMA's range, with `at` the address.
    reason_prev, reason_next: the first reason why not, None where that side merged.
    survivor: [start, end) afterwards; removed: VMAs gone; certain: False when an unknown of the
    trace decided it.
    """

    api: str
    action: str
    vm_start: int
    vm_end: int
    case: str
    reason_prev: Reason | None = None
    reason_next: Reason | None = None
    survivor: tuple[int, int] | None = None
    removed: int = 0
    at: int = 0
    certain: bool = True


def assumed(decision: Decision) -> Decision:
    """The same, not certain."""
    return new(Decision, (*decision[:10], False)) if decision.certain else decision


new: Final = tuple.__new__  # `new(Decision, (all eleven fields))`: without the cost of keywords and defaults
