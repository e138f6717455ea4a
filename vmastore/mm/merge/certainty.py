"""Would another answer to what the trace does not show change a merge decision?

A trace without page faults does not show whether a VMA was written. Such a VMA is `unsure`; a
decision that involves one is certain only if every possible state of it decides the same.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from vmastore.mm.vma import AnonVma, Vma

State = tuple[AnonVma | None, int]  # anon_vma and the length of its chain

UNSURE = 1  # written or not
UNSURE_FORKED = 2  # and, if it was written at the last fork, inherited


def state(vma: Vma) -> State:
    return vma.anon_vma, len(vma.chain)


def possible(vma: Vma, others: list[Vma]) -> list[State]:
    """Every state that an unsure VMA may be in; a sure one has just its own."""
    if not vma.unsure:
        return [state(vma)]
    fresh = AnonVma()
    states: list[State] = [(None, 0), (fresh, 1)]
    states += [(o.anon_vma, 1) for o in others if o.anon_vma is not None and o is not vma]
    if vma.unsure == UNSURE_FORKED:
        states.append((fresh, 2))
    return states


def is_certain(vmas: list[Vma], decide: Callable[..., str]) -> bool:
    """Whether `decide(*states)` gives one answer for all combinations of the VMAs' possible states."""
    if not any(v.unsure for v in vmas):
        return True
    combos = product(*(possible(v, vmas) for v in vmas))
    answers = {decide(*combo) for combo in combos}
    return len(answers) == 1


def absorb_unsure(survivor: Vma, parts: tuple[Vma, ...]) -> None:
    """The survivor of a merge is surely written if a part surely was, unsure if a part was unsure."""
    if not survivor.unsure:
        for part in parts:
            if part.unsure:
                break
        else:
            return
    all_parts = (survivor, *parts)
    if any(v.anon_vma is not None and not v.unsure for v in all_parts):
        survivor.unsure = 0
    else:
        survivor.unsure = max(v.unsure for v in all_parts)
