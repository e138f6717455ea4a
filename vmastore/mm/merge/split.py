"""Splitting a VMA in two (split_vma, __split_vma). Private to the merge/split package."""

from __future__ import annotations

from errno import EINVAL, ENOMEM

from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Decision, Reason, new
from vmastore.mm.unknown import UNSURE_KINDS, UNSURE_PIECE
from vmastore.mm.vma import Vma


def split_vma(
    mm: Mm, vma: Vma, addr: int, below: bool, api: str, why_prev: Reason | None = None, why_next: Reason | None = None
) -> Vma | int:
    """Split vma at addr, refused at the map limit. Returns the new VMA, or -ENOMEM, -EINVAL.

    below: the new VMA is the lower part (`vma` keeps the upper), else the upper one.
    why_prev, why_next: the reasons that kept a merge from making the split needless.
    """
    if mm.map_count >= mm.config.max_map_count:
        return -ENOMEM
    return split_vma_unchecked(mm, vma, addr, below, api, why_prev, why_next)


def split_vma_unchecked(
    mm: Mm, vma: Vma, addr: int, below: bool, api: str, why_prev: Reason | None = None, why_next: Reason | None = None
) -> Vma | int:
    """Split without looking at the limit (__split_vma): munmap and mremap come here."""
    if not vma.attrs.splittable and not vma.may_split(addr):
        return -EINVAL
    if vma.unsure & UNSURE_KINDS:
        vma.unsure |= UNSURE_PIECE
    start, end = vma.vm_start, vma.vm_end
    part = mm.split_below(vma, addr) if below else mm.split_above(vma, addr)
    case = "below" if below else "above"
    mm.decisions.append(new(Decision, (api, "split", start, end, case, why_prev, why_next, None, 0, addr, True)))
    return part


def split_vma_around(
    mm: Mm, vma: Vma, start: int, end: int, api: str, why_prev: Reason | None, why_next: Reason | None
) -> None:
    """Split vma at `start`, then at `end`, between which it stays.

    Assumes: both are inside, it may be split there, and the map limit has room for two more.
    """
    if vma.unsure & UNSURE_KINDS:
        vma.unsure |= UNSURE_PIECE
    low, high = vma.vm_start, vma.vm_end
    mm.split_around(vma, start, end)
    note = mm.decisions.append
    note(new(Decision, (api, "split", low, high, "below", why_prev, why_next, None, 0, start, True)))
    note(new(Decision, (api, "split", start, high, "above", why_prev, why_next, None, 0, end, True)))
