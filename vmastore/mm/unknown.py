"""What a trace may leave open about the anon_vma of a VMA, and every way in which that may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from vmastore.mm.vma import AnonVma, BaseAnon, Vma

State = tuple[AnonVma | None, int]  # anon_vma and the length of its chain
Assigned = dict[BaseAnon, State]

UNSURE: Final = 1  # written or not
UNSURE_FORKED: Final = 2  # and, if it was written at the last fork, inherited
UNSURE_KINDS: Final = UNSURE | UNSURE_FORKED
UNSURE_BASE: Final = 4  # its `base` is open; may come together with one of the others
UNSURE_PIECE: Final = 8  # and it was part of a VMA while that was open: other parts may have the same anon_vma


def write_open(vma: Vma) -> bool:
    """Whether the trace leaves open if a VMA has been written."""
    if vma.unsure & UNSURE_KINDS:
        return True
    return vma.base is not None and not vma.base.written and vma.anon_vma is None


def open_bases(vmas: Sequence[Vma]) -> list[BaseAnon]:
    """What is open of some VMAs, each once."""
    return list(dict.fromkeys(v.base for v in vmas if v.base is not None))


def lendable(vmas: Sequence[Vma]) -> list[AnonVma]:
    """The anon_vmas of those of which nothing is open: a neighbour that was written late may have one of them."""
    return [v.anon_vma for v in vmas if v.base is None and v.anon_vma is not None and len(v.chain) == 1]


def assignments(bases: Sequence[BaseAnon], others: Sequence[AnonVma] = ()) -> Iterator[Assigned]:
    """Every way in which what is open of `bases` may be: unwritten, shared, alone, inherited, one of `others`."""

    def extend(done: Assigned, left: Sequence[BaseAnon]) -> Iterator[Assigned]:
        if not left:
            yield done
            return
        fresh = AnonVma()
        choices: list[State] = [] if left[0].written else [(None, 0)]
        shared: list[State] = [s for s in done.values() if s[0] is not None]
        if left[0].late:
            shared += [(anon, 1) for anon in others]
        choices += dict.fromkeys(shared)
        choices += [(fresh, 1)] if left[0].own else [(fresh, 1), (fresh, 2)]
        for choice in choices:
            yield from extend({**done, left[0]: choice}, left[1:])

    return extend({}, bases)
