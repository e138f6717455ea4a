"""The six functions that the syscall layer calls: merging and splitting are behind them.

From the series "Abstract vma_merge() and split_vma()" (Linux 6.7): a caller says what it is about
to do to [start, end), and gets back the VMA to do it to.
"""

from __future__ import annotations

from typing import Final

from vmastore.mm.flags import PAGE_SHIFT
from vmastore.mm.merge.existing import split_off, vma_modify
from vmastore.mm.merge.new_range import vma_merge_new_range
from vmastore.mm.merge.predicates import SPECIAL, STALE, neighbour_reason
from vmastore.mm.mm import Mm, VmaIterator
from vmastore.mm.outcome import Decision, Reason
from vmastore.mm.vma import Mempolicy, UffdCtx, Vma, VmaAttrs

UFFD_NEVER: Final = Reason("uffd", "userfaultfd never merges here")


def vma_modify_flags(vmi: VmaIterator, prev: Vma, vma: Vma, start: int, end: int, new_flags: int) -> Vma | int:
    """About to change the vm_flags of [start, end): merge, else split. Source: vma_modify_flags().

    Returns the VMA that spans (at least) the range, to which the caller writes the new flags, or
    -ENOMEM (map limit, earlier splits stay) or -EINVAL (the mapping may not be split there).
    """
    return vma_modify(vmi.mm, prev, vma, start, end, vma.attrs.with_flags(new_flags), "vma_modify_flags")


def vma_modify_flags_name(
    vmi: VmaIterator, prev: Vma, vma: Vma, start: int, end: int, new_flags: int, new_name: str | None
) -> Vma | int:
    """About to change flags and/or the anonymous name of [start, end). Returns as vma_modify_flags."""
    attrs = vma.attrs.with_flags(new_flags)
    if attrs.anon_name != new_name:
        attrs = attrs.with_name(new_name)
    return vma_modify(vmi.mm, prev, vma, start, end, attrs, "vma_modify_flags_name")


def vma_modify_policy(
    vmi: VmaIterator,
    prev: Vma,
    vma: Vma,
    start: int,
    end: int,
    new_pol: Mempolicy | None,
    *,
    range_start: int | None = None,
) -> Vma | int:
    """About to change the memory policy of [start, end). Returns as vma_modify_flags.

    range_start: where the whole range of mbind begins (releases before 3.1 count offsets from there).
    A prev that is not the VMA before (the bug mbind-stale-prev) merges with nobody.
    """
    api = "vma_modify_policy"
    rules = vmi.mm.rules
    if prev is not vma and prev is not vma.prev:
        return split_off(vmi.mm, vma, start, end, STALE, STALE, True, api)
    attrs = vma.attrs.with_policy(new_pol)
    wrong = 0
    if rules.mbind_vma_offset:
        wrong = vma.vm_start - start
    elif rules.mbind_range_offset and range_start is not None and range_start < start:
        wrong = range_start - start
    if wrong:
        attrs = attrs.with_delta(attrs.delta + (wrong >> PAGE_SHIFT), attrs.anon_delta)
    return vma_modify(vmi.mm, prev, vma, start, end, attrs, api)


def vma_modify_uffd(
    vmi: VmaIterator, prev: Vma, vma: Vma, start: int, end: int, new_flags: int, new_ctx: UffdCtx | None
) -> Vma | int:
    """About to change flags and userfaultfd context of [start, end). Returns as vma_modify_flags."""
    if vmi.mm.rules.uffd_never_merges:
        return split_off(vmi.mm, vma, start, end, UFFD_NEVER, UFFD_NEVER, True, "vma_modify_uffd")
    attrs = vma.attrs.with_uffd(new_flags, new_ctx)
    if not vmi.mm.rules.uffd_merge_offset and start > vma.vm_start:
        attrs = attrs.with_delta(attrs.delta - ((start - vma.vm_start) >> PAGE_SHIFT), attrs.anon_delta)
    return vma_modify(vmi.mm, prev, vma, start, end, attrs, "vma_modify_uffd")


def vma_merge_new_vma(
    vmi: VmaIterator,
    prev: Vma,
    vma: Vma,
    start: int,
    end: int,
    attrs: VmaAttrs,
    *,
    copied: Vma | None = None,
) -> Vma | None:
    """Merge a new VMA [start, end) with `attrs`, between prev and vma. Source: vma_merge_new_vma().

    copied: the VMA that it is a copy of (mremap). Returns the survivor or None.
    """
    mm = vmi.mm
    api = "vma_merge_new_vma"
    merged, why_prev, why_next, certain = vma_merge_new_range(mm, prev, vma, start, end, attrs, api, copied)
    if merged is None:
        mm.decisions.append(Decision(api, "none", start, end, "", why_prev, why_next, certain=certain))
    return merged


def vma_merge_extend(vmi: VmaIterator, vma: Vma, delta: int, *, below: int = 0) -> Vma | None:
    """Grow vma by delta bytes upwards (case 1 or 2). Source: vma_merge_extend(). None: it cannot.

    below: bytes of vma below the address that mremap was given, which the first releases left out of the offset.
    """
    mm = vmi.mm
    rules = mm.rules
    api = "vma_merge_extend"
    end = vma.vm_end
    if vma.attrs.close and not rules.close_prev_may_merge and not rules.mremap_extend_needs_no_close:
        mm.set_end(vma, end + delta)  # 6.1 cannot merge it, and grows it by vma_adjust() instead
        return vma
    attrs = vma.attrs
    if below and rules.mremap_extend_wrong_offset:
        attrs = attrs.with_delta(attrs.delta - (below >> PAGE_SHIFT), attrs.anon_delta)
    merged, why_prev, why_next, certain = vma_merge_new_range(mm, vma, vma.next, end, end + delta, attrs, api, vma)
    if merged is None:
        mm.decisions.append(Decision(api, "none", end, end + delta, "", why_prev, why_next, certain=certain))
    return merged


def why_not_one(mm: Mm, left: Vma, right: Vma) -> Reason | None:
    """The first reason why two touching VMAs would not merge, were the lower one changed to what it is."""
    if left.attrs.special or right.attrs.special:
        return SPECIAL
    return neighbour_reason(mm, right, left.attrs, left.anon_vma, len(left.chain), True)
