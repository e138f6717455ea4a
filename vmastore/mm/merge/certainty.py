"""Would another answer to what the trace does not show change a merge decision?

A trace without page faults does not show whether a VMA was written; one that begins in the middle of a
process's life does not show which of its first VMAs share an anon_vma. Such a VMA is `unsure`; a decision
that involves one is certain only if every possible state of it decides the same.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from vmastore.mm.unknown import (
    UNSURE_BASE,
    UNSURE_FORKED,
    UNSURE_KINDS,
    UNSURE_PIECE,
    Assigned,
    State,
    assignments,
    lendable,
    open_bases,
)
from vmastore.mm.vma import AnonVma, BaseAnon, Vma


def state(vma: Vma) -> State:
    return vma.anon_vma, len(vma.chain)


def possible(vma: Vma, others: list[Vma], assigned: Assigned) -> list[State]:
    """Every state that an unsure VMA may be in; a sure one has just its own."""
    if vma.base is not None and assigned[vma.base][0] is not None:
        return [assigned[vma.base]]
    if not vma.unsure & UNSURE_KINDS:
        return [_borrowed(vma, others, assigned)]
    fresh = AnonVma()
    states: list[State] = [(None, 0), (fresh, 1)]
    for other in others:
        if other is not vma:
            anon, links = assigned.get(other.base, (None, 0)) if other.base is not None else (None, 0)
            anon, links = (anon, links) if anon is not None else (other.anon_vma, 1)
            states += [(anon, 1)] if anon is not None and links == 1 else []
    if vma.unsure & UNSURE_FORKED:
        states.append((fresh, 2))
    return states


def _borrowed(vma: Vma, others: list[Vma], assigned: Assigned) -> State:
    """Its own state; written after the trace began, it borrowed a neighbour's anon_vma if that was singular."""
    own = state(vma)
    for other in others:
        base = other.base
        if base is not None and base is not vma.base and not base.lent and other.anon_vma is own[0] is not None:
            return assigned[base] if assigned[base][1] == 1 else own
    return own


def pattern(a: Vma, b: Vma, c: Vma) -> tuple[Any, ...] | None:
    """All of three VMAs that `is_certain` looks at, where no first observation left anything open; else None.

    Which of them have the same anon_vma counts, not which one it is: few patterns come up, and each is judged once.
    """
    if a.base is not None or b.base is not None or c.base is not None:
        return None
    x, y, z = a.anon_vma, b.anon_vma, c.anon_vma
    return a.unsure, b.unsure, c.unsure, len(a.chain), len(b.chain), len(c.chain), x is y, y is z, x is z


Fits = tuple[bool, ...]  # of an edge: whether the attributes go together, each answer that is possible


def is_certain(vmas: list[Vma], left: Fits, right: Fits, decide: Callable[..., str]) -> bool:
    """Whether `decide(left, right, *states)` gives one answer for all combinations of what is possible."""
    edges = list(product(left, right))
    if len(edges) == 1 and not any(v.unsure for v in vmas):
        return True
    answers: set[str] = set()
    for assigned in assignments(open_bases(vmas), lendable(vmas)):
        for combo in product(*(possible(v, vmas, assigned) for v in vmas)):
            answers.update(decide(*edge, *combo) for edge in edges)
        if len(answers) > 1:
            return False
    return True


def absorb_unsure(survivor: Vma, parts: tuple[Vma, ...]) -> None:
    """The survivor of a merge is surely written if a part surely was, unsure if a part was unsure."""
    if not survivor.unsure:
        for part in parts:
            if part.unsure:
                break
        else:
            return
    kind = piece = 0
    settled = False
    bases: list[BaseAnon] = []
    for vma in (survivor, *parts):
        unsure = vma.unsure
        if vma.anon_vma is not None:
            if not unsure:
                survivor.unsure, survivor.base = 0, None
                return
            if not unsure & UNSURE_KINDS:
                settled = True  # a part of an open base is written, whichever anon_vma it has
        kind = max(kind, unsure & UNSURE_KINDS)
        piece |= unsure & UNSURE_PIECE
        if vma.base is not None:
            bases.append(vma.base)
    survivor.base = None
    if bases:
        survivor.base = next((base for base in bases if base.written), bases[0])
    unsure = 0 if settled or not kind else kind | piece
    survivor.unsure = unsure | (UNSURE_BASE if bases else 0)
