"""May this range and that neighbour be one VMA? Each predicate returns the first reason why not.

Private to the merge/split package. Sources: is_mergeable_vma(), is_mergeable_anon_vma(),
can_vma_merge_before(), can_vma_merge_after(), are_anon_vmas_compatible().
"""

from __future__ import annotations

from typing import Final

from vmastore.mm.merge.certainty import Fits
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Reason
from vmastore.mm.rules import RuleSet
from vmastore.mm.vma import AnonVma, Vma, VmaAttrs

NO_VMA: Final = Reason("none")
GAP: Final = Reason("gap")
INSIDE: Final = Reason("inside")
SPECIAL: Final = Reason("special")
CLOSE: Final = Reason("close")
POLICY: Final = Reason("policy")
FILE: Final = Reason("file")
UFFD: Final = Reason("uffd")
NAME: Final = Reason("name")
PGOFF: Final = Reason("pgoff")
ANON_PGOFF: Final = Reason("anon_pgoff")
_FLAGS: Final[dict[int, Reason]] = {}  # by the bits that differ: as many as there are pairs of flags in use
ALWAYS: Final[Fits] = (True,)  # answers of may_fit()
NEVER: Final[Fits] = (False,)
EXPAND_ONLY: Final = Reason("expand_only")
STALE: Final = Reason("stale")
ANON_FORKED: Final = Reason("anon_vma", "inherited through fork while written")
ANON_SOURCE_FORKED: Final = Reason("anon_vma", "the range was inherited through fork while written")
ANON_UNFAULTED: Final = Reason("anon_vma", "written range, unwritten neighbour")
ANON_APART: Final = Reason("anon_vma", "both written, at different times")
ANON_SIDES: Final = Reason("anon_vma", "the two neighbours were written apart")


def anon_reason(
    rules: RuleSet,
    tgt: AnonVma | None,
    tgt_links: int,
    src: AnonVma | None,
    src_links: int,
) -> Reason | None:
    """Why the anon_vma of a target and of the source range do not go together (is_mergeable_anon_vma).

    tgt_links, src_links: lengths of the anon_vma chains.
    """
    if src is tgt:
        return None
    if rules.anon_merge_source_chain:
        if tgt is None:
            return None if src_links <= 1 else ANON_SOURCE_FORKED
        if src is None:
            return None if tgt_links == 1 else ANON_FORKED
        return ANON_APART
    if src is not None and tgt is not None:
        return ANON_APART
    if tgt_links == 1:
        return None
    return ANON_UNFAULTED if tgt is None else ANON_FORKED


def anon_sides_reason(prev: AnonVma | None, nxt: AnonVma | None) -> Reason | None:
    """Why the two neighbours do not go together (are_anon_vmas_compatible): chains are not looked at."""
    return None if prev is None or nxt is None or prev is nxt else ANON_SIDES


def attrs_reason(attrs: VmaAttrs, other: VmaAttrs) -> Reason | None:
    """The first field but anon_vma and page offset that differs (is_mergeable_vma), None for none."""
    if attrs.vm_policy != other.vm_policy:
        return POLICY
    bits = attrs.compat.vm_flags ^ other.compat.vm_flags
    if bits:
        found = _FLAGS.get(bits)
        if found is None:
            found = _FLAGS[bits] = Reason("flags", bits=bits)
        return found
    if attrs.vm_file is not other.vm_file:
        return FILE
    if attrs.uffd is not other.uffd:
        return UFFD
    return NAME if attrs.anon_name != other.anon_name else None


def offset_reason(attrs: VmaAttrs, other: VmaAttrs) -> Reason | None:
    if attrs.delta != other.delta:
        return PGOFF
    if attrs.anon_delta == other.anon_delta or attrs.open_offset or other.open_offset:
        return None
    return ANON_PGOFF


def may_fit(attrs: VmaAttrs, other: VmaAttrs) -> Fits:
    """Whether two touching VMAs go together but for their anon_vmas: every answer that open offsets allow.

    Where none does, NEVER itself.
    """
    if attrs.compat is other.compat:
        return ALWAYS
    if not (attrs.anon_delta or other.anon_delta):
        return NEVER
    a, b = attrs.open_offset, other.open_offset
    if not (a or b) or attrs_reason(attrs, other) is not None:
        return NEVER
    apart = attrs.delta - other.delta
    fits = {apart + x == y for x in {0, a} for y in {0, b}}
    return tuple(fits) if True in fits else NEVER


def neighbour_reason(
    mm: Mm, neighbour: Vma, attrs: VmaAttrs, anon: AnonVma | None, links: int, is_next: bool
) -> Reason | None:
    """Why a touching neighbour cannot take the range (can_vma_merge_after / can_vma_merge_before).

    anon, links: the anon_vma of the range and the length of its chain.
    """
    if neighbour.attrs.compat is attrs.compat:
        if attrs.close:
            why = _close_reason(mm.rules, is_next)
            if why is not None:
                return why
        if anon is None and neighbour.anon_vma is None:
            return None
        return anon_reason(mm.rules, neighbour.anon_vma, len(neighbour.chain), anon, links)
    known = attrs.whys
    why = known.get(neighbour.attrs, NO_VMA)
    if why is NO_VMA:  # which attrs_reason never gives: not asked yet
        why = known[neighbour.attrs] = attrs_reason(attrs, neighbour.attrs)
    if why is not None:
        return why
    if neighbour.attrs.close:
        why = _close_reason(mm.rules, is_next)
        if why is not None:
            return why
    why = anon_reason(mm.rules, neighbour.anon_vma, len(neighbour.chain), anon, links)
    return why or offset_reason(attrs, neighbour.attrs)


def _close_reason(rules: RuleSet, is_next: bool) -> Reason | None:
    if rules.close_only_removed:
        return None
    if rules.close_prev_may_merge and not is_next:
        return None
    return CLOSE
