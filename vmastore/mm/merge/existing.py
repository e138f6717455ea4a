"""Merging a range of an existing VMA with its neighbours: cases 4 to 8.

Private to the merge/split package. Sources: vma_merge() up to 6.11, vma_merge_existing_range() since.

One character a page; P, C, N are the lower neighbour, the VMA that holds the range, the upper
neighbour, `*` the range:

    4  CCCC****NNNN   ->  CCCCNNNNNNNN     the upper one grows down, C shrinks
    5  PPPP****CCCC   ->  PPPPPPPPCCCC     the lower one grows up, C shrinks
    6  PPPP****NNNN   ->  PPPPPPPPPPPP     C and N go
    7  PPPP****NNNN   ->  PPPPPPPPNNNN     C goes
    8  PPPP****NNNN   ->  PPPPNNNNNNNN     C goes
"""

from __future__ import annotations

from errno import ENOMEM

from vmastore.mm.merge.certainty import Fits, absorb_unsure, is_certain, pattern
from vmastore.mm.merge.predicates import (
    CLOSE,
    GAP,
    INSIDE,
    NEVER,
    NO_VMA,
    SPECIAL,
    anon_reason,
    anon_sides_reason,
    may_fit,
    neighbour_reason,
)
from vmastore.mm.merge.split import split_vma, split_vma_around
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Decision, Reason, new
from vmastore.mm.rules import RuleSet
from vmastore.mm.unknown import State
from vmastore.mm.vma import Vma, VmaAttrs

Whys = tuple[Reason | None, Reason | None]


class Oops(Exception):
    """A bug of the kernel's ends the address space here: what it did (rule set series-v1, mbind-underflow)."""


def vma_modify(mm: Mm, prev: Vma, vma: Vma, start: int, end: int, attrs: VmaAttrs, api: str) -> Vma | int:
    """Merge [start, end) of vma, which is about to have `attrs`, with prev or the VMA after it, else split it off.

    Returns the VMA that holds it (a survivor keeps its own attributes: the caller writes the new ones), or -errno.
    Assumes: the range lies within vma; prev is the VMA before it, or vma itself if start is inside.
    Sources: vma_modify(), vma_merge_existing_range().
    """
    left, right = start == vma.vm_start, end == vma.vm_end
    why_prev: Reason | None = INSIDE
    why_next: Reason | None = INSIDE
    certain = True
    if attrs.special:
        why_prev = why_next = SPECIAL
    elif left or right:
        nxt = vma.next
        if left:
            if prev.vm_end == start:
                why_prev = neighbour_reason(mm, prev, attrs, vma.anon_vma, len(vma.chain), False)
            else:
                why_prev = NO_VMA if prev is mm.head else GAP
        if right:
            if nxt.vm_start == end:
                why_next = neighbour_reason(mm, nxt, attrs, vma.anon_vma, len(vma.chain), True)
            else:
                why_next = NO_VMA if nxt is mm.tail else GAP
        if why_prev is None and why_next is None:
            why_next = anon_sides_reason(prev.anon_vma, nxt.anon_vma)
        if vma.attrs.close and left and right:
            why_prev, why_next = _close_rule(mm.rules, why_prev, why_next)
        if vma.unsure or (left and prev.unsure) or (right and nxt.unsure) or mm.env.open_offsets:
            certain = _certain(mm, prev, vma, nxt, start, end, attrs)
        if why_prev is None or why_next is None:
            return _merge(mm, prev, vma, nxt, start, end, why_prev, why_next, certain, api)
    elif vma.attrs.splittable and mm.map_count + 1 < mm.config.max_map_count:
        split_vma_around(mm, vma, start, end, api, INSIDE, INSIDE)
        return vma
    return split_off(mm, vma, start, end, why_prev, why_next, certain, api)


def split_off(
    mm: Mm,
    vma: Vma,
    start: int,
    end: int,
    why_prev: Reason | None,
    why_next: Reason | None,
    certain: bool,
    api: str,
) -> Vma | int:
    """Split [start, end) off vma where nothing merged with it. Returns the VMA that holds it, or -errno."""
    below, above = vma.vm_start < start, vma.vm_end > end
    if not certain or not (below or above):
        fields = (api, "none", start, end, "", why_prev, why_next, None, 0, 0, certain)
        mm.decisions.append(new(Decision, fields))
    if below:
        part = split_vma(mm, vma, start, True, api, why_prev, why_next)
        if isinstance(part, int):
            return _split_failed(mm, part)
    if above:
        part = split_vma(mm, vma, end, False, api, why_prev, why_next)
        if isinstance(part, int):
            return _split_failed(mm, part)
    return vma


def _split_failed(mm: Mm, error: int) -> int:
    if mm.rules.modify_error_as_merge and error == -ENOMEM:
        raise Oops("error pointer dereferenced")
    return error


def _merge(
    mm: Mm,
    prev: Vma,
    vma: Vma,
    nxt: Vma,
    start: int,
    end: int,
    why_prev: Reason | None,
    why_next: Reason | None,
    certain: bool,
    api: str,
) -> Vma:
    """Merge with the sides that have no reason why not: at least one. Returns the survivor."""
    if why_prev is None:
        right = end == vma.vm_end
        case, survivor, removed = _merge_left(mm, prev, vma, nxt, end, right, why_next is None)
    else:
        case, survivor, removed = _merge_right(mm, vma, nxt, start, start == vma.vm_start)
    span = (survivor.vm_start, survivor.vm_end)
    fields = (api, "merge", start, end, case, why_prev, why_next, span, removed, 0, certain)
    mm.decisions.append(new(Decision, fields))
    return survivor


def _close_rule(rules: RuleSet, why_prev: Reason | None, why_next: Reason | None) -> Whys:
    """A merge would remove the VMA, which has a close hook: whether it may."""
    if rules.close_only_removed:
        return (why_prev or CLOSE, why_next or CLOSE)
    if rules.close_case7_refused and why_prev is None:
        return CLOSE, why_next
    return why_prev, why_next


def _merge_left(mm: Mm, prev: Vma, vma: Vma, nxt: Vma, end: int, whole: bool, both: bool) -> tuple[str, Vma, int]:
    """prev grows over the range: case 5 (C shrinks), 7 (C goes), 6 (C and N go)."""
    sticky = mm.env.sticky and _sticky_bits(mm, (prev, vma, nxt) if both else (prev, vma))
    if both:
        _dup_anon_vma(prev, nxt if nxt.anon_vma is not None else vma)
        if prev.unsure or vma.unsure or nxt.unsure:
            absorb_unsure(prev, (vma, nxt))
        new_end = nxt.vm_end
        mm.remove_run([vma, nxt])
        case, removed = "6", 2
    elif whole:
        _inherit(prev, vma)
        new_end = end
        mm.remove(vma)
        case, removed = "7", 1
    else:
        _inherit(prev, vma)
        new_end = end
        mm.set_start(vma, end)
        case, removed = "5", 0
    mm.set_end(prev, new_end)
    if sticky:
        prev.attrs = prev.attrs.with_flags(prev.attrs.vm_flags | sticky)
    return case, prev, removed


def _merge_right(mm: Mm, vma: Vma, nxt: Vma, start: int, whole: bool) -> tuple[str, Vma, int]:
    """next grows down over the range: case 8 (C goes) or 4 (C shrinks)."""
    sticky = mm.env.sticky and _sticky_bits(mm, (vma, nxt))
    _inherit(nxt, vma)
    if whole:
        mm.take_over(vma, nxt)
    else:
        mm.set_end(vma, start)
        mm.set_start(nxt, start)
    if sticky:
        nxt.attrs = nxt.attrs.with_flags(nxt.attrs.vm_flags | sticky)
    return ("8", nxt, 1) if whole else ("4", nxt, 0)


def _sticky_bits(mm: Mm, parts: tuple[Vma, ...]) -> int:
    bits = 0
    for part in parts:
        bits |= part.attrs.vm_flags
    return bits & mm.env.sticky


def _inherit(survivor: Vma, part: Vma) -> None:
    """What the survivor of a merge takes over from a part of it: the anon_vma, and what is open about that."""
    if survivor.anon_vma is None:
        _dup_anon_vma(survivor, part)
    if survivor.unsure or part.unsure:
        absorb_unsure(survivor, (part,))


def _dup_anon_vma(dst: Vma, src: Vma) -> None:
    """The survivor of a merge inherits the anon_vma and its chain (dup_anon_vma)."""
    if dst.anon_vma is None and src.anon_vma is not None:
        dst.anon_vma = src.anon_vma
        dst.chain = src.chain


dup_anon_vma = _dup_anon_vma
sticky_bits = _sticky_bits


def _certain(mm: Mm, prev: Vma, vma: Vma, nxt: Vma, start: int, end: int, attrs: VmaAttrs) -> bool:
    """Whether any state of the unsure VMAs would decide the same way."""
    lefts = may_fit(prev.attrs, attrs) if start == vma.vm_start and prev.vm_end == start else NEVER
    rights = may_fit(nxt.attrs, attrs) if end == vma.vm_end and nxt.vm_start == end else NEVER
    if lefts is NEVER and rights is NEVER:
        return True
    seen = pattern(prev, vma, nxt)
    if seen is None:
        return _tried(mm.rules, prev, vma, nxt, lefts, rights)
    judged = mm.env.judged
    known = judged.get((lefts, rights, seen))
    if known is None:
        known = judged[lefts, rights, seen] = _tried(mm.rules, prev, vma, nxt, lefts, rights)
    return known


def _tried(rules: RuleSet, prev: Vma, vma: Vma, nxt: Vma, lefts: Fits, rights: Fits) -> bool:

    def decide(left: bool, right: bool, p: State, c: State, n: State) -> str:
        prev_ok = left and anon_reason(rules, p[0], p[1], c[0], c[1]) is None
        next_ok = right and anon_reason(rules, n[0], n[1], c[0], c[1]) is None
        if prev_ok and next_ok:
            next_ok = anon_sides_reason(p[0], n[0]) is None
        return f"{prev_ok}{next_ok}"

    return is_certain([prev, vma, nxt], lefts, rights, decide)
