"""Merging a range that is mapped by nobody yet: cases 1 to 3.

Private to the merge/split package. Sources: vma_merge_new_range(), vma_expand(), and the copy of
the logic that mmap_region() had up to 6.11.

    1  PPPP....NNNN   ->  PPPPPPPPPPPP     N goes
    2  PPPP....NNNN   ->  PPPPPPPPNNNN     P grows up
    3  PPPP....NNNN   ->  PPPPNNNNNNNN     N grows down
"""

from __future__ import annotations

from typing import Final

from vmastore.mm.flags import VM_HUGETLB, VM_LOCKED_MASK, VM_SEALED, VM_SPECIAL
from vmastore.mm.merge.certainty import Fits, absorb_unsure, is_certain, pattern
from vmastore.mm.merge.existing import dup_anon_vma, sticky_bits
from vmastore.mm.merge.predicates import (
    ALWAYS,
    CLOSE,
    EXPAND_ONLY,
    GAP,
    NEVER,
    NO_VMA,
    SPECIAL,
    anon_reason,
    anon_sides_reason,
    may_fit,
    neighbour_reason,
)
from vmastore.mm.merge.unmap import API as UNMAP
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Decision, Reason, new
from vmastore.mm.rules import RuleSet
from vmastore.mm.unknown import UNSURE_PIECE, State
from vmastore.mm.vma import Vma, VmaAttrs

_LONG_WAY: Final = VM_SPECIAL | VM_HUGETLB | VM_SEALED | VM_LOCKED_MASK


def vma_merge_new_range(
    mm: Mm,
    prev: Vma,
    nxt: Vma,
    start: int,
    end: int,
    attrs: VmaAttrs,
    api: str,
    copied: Vma | None = None,
    just_expand: bool = False,
    next_first: bool = False,
    gone: list[Vma] | None = None,
) -> tuple[Vma | None, Reason | None, Reason | None, bool]:
    """Merge the new range [start, end) with its neighbours.

    copied: the VMA that mremap copies (its anon_vma comes along). just_expand: only prev may grow
    (brk). next_first: mmap_region's own order up to 6.11: next is tried first, and prev must then
    match next's anon_vma. gone: VMAs of the range that are still there; they are taken out if anything merges.
    Returns the survivor or None, the reasons why not for either side, whether it is certain.
    """
    if attrs.special:
        return None, SPECIAL, SPECIAL, True
    if prev.vm_end != start and nxt.vm_start != end and not just_expand:  # nobody touches the range
        return None, NO_VMA if prev is mm.head else GAP, NO_VMA if nxt is mm.tail else GAP, True
    anon, links = (None, 0) if copied is None else _source(mm, prev, copied)
    if just_expand:
        why_next: Reason | None = EXPAND_ONLY
    elif nxt.vm_start != end:
        why_next = NO_VMA if nxt is mm.tail else GAP
    else:
        why_next = neighbour_reason(mm, nxt, attrs, anon, links, True)
    if prev.vm_end != start:
        why_prev: Reason | None = NO_VMA if prev is mm.head else GAP
    elif next_first and why_next is None:
        why_prev = neighbour_reason(mm, prev, attrs, nxt.anon_vma, len(nxt.chain), False)
    else:
        why_prev = neighbour_reason(mm, prev, attrs, anon, links, False)
    if why_prev is None and why_next is None:
        if not next_first:
            why_next = anon_sides_reason(prev.anon_vma, nxt.anon_vma)
        if why_next is None and nxt.attrs.close and mm.rules.close_only_removed:
            why_next = CLOSE
    certain = True
    if prev.unsure or nxt.unsure or (copied is not None and copied.unsure) or mm.env.open_offsets:
        certain = _certain(mm, prev, nxt, start, end, attrs, copied, just_expand, next_first)
    if why_prev is not None and why_next is not None:
        return None, why_prev, why_next, certain
    if gone:
        mm.remove_run(gone)
    survivor, case, removed = _expand(mm, prev, nxt, start, end, why_prev, why_next, copied)
    if copied is not None and attrs.open_offset:  # a copy with the other offset would not be part of it
        survivor.attrs = survivor.attrs.with_delta(survivor.attrs.delta, attrs.open_offset)
    span = (survivor.vm_start, survivor.vm_end)
    fields = (api, "merge", start, end, case, why_prev, why_next, span, removed, 0, certain)
    mm.decisions.append(new(Decision, fields))
    return survivor, why_prev, why_next, certain


def closes_hole(mm: Mm, vma: Vma, start: int, end: int, attrs: VmaAttrs, api: str, next_first: bool) -> bool:
    """Whether [start, end), unmapped out of the middle of vma, merges with both halves: vma is then whole again.

    What is decided is noted here, as if vma had been split twice and merged again (case 1). Halves are alike in all
    that counts, so one answer holds for both; where anything else has a say (a close hook, an open base or offset,
    the map limit), the answer is no, and the long way is gone.
    """
    if attrs.compat is not vma.attrs.compat or attrs.vm_flags & _LONG_WAY or attrs.close:
        return False
    if vma.base is not None or mm.env.open_offsets or mm.map_count >= mm.config.max_map_count:
        return False
    if neighbour_reason(mm, vma, attrs, None, 0, True) is not None:
        return False
    certain = True
    if vma.unsure:
        vma.unsure |= UNSURE_PIECE
        certain = _halves_certain(mm, vma, next_first)
    low, high = vma.vm_start, vma.vm_end
    note = mm.decisions.append
    note(new(Decision, (UNMAP, "split", low, high, "below", None, None, None, 0, start, True)))
    note(new(Decision, (UNMAP, "split", start, high, "above", None, None, None, 0, end, True)))
    note(new(Decision, (api, "merge", start, end, "1", None, None, (low, high), 1, 0, certain)))
    mm.touch_within(vma, start, end)
    return True


def _halves_certain(mm: Mm, vma: Vma, next_first: bool) -> bool:
    """Whether a new range between two halves of an unsure VMA merges with both, whatever state they are in."""
    key = ALWAYS, ALWAYS, pattern(vma, vma, vma), next_first
    known = mm.env.judged.get(key)
    if known is None:
        other = Vma(vma.vm_end, vma.vm_end, vma.attrs, vma.anon_vma, vma.chain)  # two, which may differ
        other.unsure = vma.unsure
        known = mm.env.judged[key] = _tried(mm.rules, vma, other, None, ALWAYS, ALWAYS, next_first)
    return known


def _source(mm: Mm, prev: Vma, copied: Vma) -> State:
    """The anon_vma of the VMA that mremap copies and the length of its chain, as far as the merge looks at them."""
    if copied is prev or _forgets_anon_vma(mm.rules, prev, copied):
        return copied.anon_vma, 0  # vma_merge_extend gives no source VMA, only its anon_vma
    return copied.anon_vma, len(copied.chain)


def _forgets_anon_vma(rules: RuleSet, prev: Vma, copied: Vma | None) -> bool:
    """Whether the merge of mremap's copy looks away from the VMA it copies (the bug of 6.16 to 6.18)."""
    if copied is None or copied is prev:
        return False
    return rules.anon_merge_source_chain and not rules.mremap_copy_anon_vma


def _expand(
    mm: Mm,
    prev: Vma,
    nxt: Vma,
    start: int,
    end: int,
    why_prev: Reason | None,
    why_next: Reason | None,
    copied: Vma | None,
) -> tuple[Vma, str, int]:
    """Grow the survivor (vma_expand)."""
    target = prev if why_prev is None else nxt
    source = [nxt] if why_prev is None and why_next is None else []
    sticky = mm.env.sticky and sticky_bits(mm, (target, *source) if copied is None else (target, *source, copied))
    if copied is not None and not _forgets_anon_vma(mm.rules, prev, copied):
        source.append(copied)
    if source:
        for part in source:
            dup_anon_vma(target, part)
        absorb_unsure(target, tuple(source))
    if why_prev is None:
        removed = int(why_next is None)
        new_end = nxt.vm_end if removed else end
        if removed:
            mm.remove(nxt)
        mm.set_end(prev, new_end)
        case = "1" if removed else "2"
    else:
        removed = 0
        mm.set_start(nxt, start)
        case = "3"
    if sticky:
        target.attrs = target.attrs.with_flags(target.attrs.vm_flags | sticky)
    return target, case, removed


def _certain(
    mm: Mm,
    prev: Vma,
    nxt: Vma,
    start: int,
    end: int,
    attrs: VmaAttrs,
    copied: Vma | None,
    just_expand: bool,
    next_first: bool,
) -> bool:
    """Whether any state of the unsure VMAs would decide the same way."""
    lefts = may_fit(prev.attrs, attrs) if prev.vm_end == start else NEVER
    rights = may_fit(nxt.attrs, attrs) if not just_expand and nxt.vm_start == end else NEVER
    if lefts is NEVER and rights is NEVER:
        return True
    seen = pattern(prev, nxt, nxt) if copied is None else None
    if seen is None:
        return _tried(mm.rules, prev, nxt, copied, lefts, rights, next_first)
    judged = mm.env.judged
    key = lefts, rights, seen, next_first
    known = judged.get(key)
    if known is None:
        known = judged[key] = _tried(mm.rules, prev, nxt, copied, lefts, rights, next_first)
    return known


def _tried(
    rules: RuleSet, prev: Vma, nxt: Vma, copied: Vma | None, lefts: Fits, rights: Fits, next_first: bool
) -> bool:
    forgets = _forgets_anon_vma(rules, prev, copied)

    def decide(left: bool, right: bool, p: State, n: State, c: State = (None, 0)) -> str:
        c = (c[0], 0) if forgets else c
        next_ok = right and anon_reason(rules, n[0], n[1], c[0], c[1]) is None
        source = n if next_first and next_ok else c
        prev_ok = left and anon_reason(rules, p[0], p[1], source[0], source[1]) is None
        if prev_ok and next_ok and not next_first:
            next_ok = anon_sides_reason(p[0], n[0]) is None
        return f"{prev_ok}{next_ok}"

    if copied is prev:  # vma_merge_extend: one VMA, and no source VMA whose chain is looked at
        return is_certain([prev, nxt], lefts, rights, lambda le, ri, p, n: decide(le, ri, p, n, (p[0], 0)))
    return is_certain([prev, nxt] if copied is None else [prev, nxt, copied], lefts, rights, decide)
