"""Splitting a VMA in two (split_vma, __split_vma). Private to the merge/split package."""

from __future__ import annotations

from errno import EINVAL, ENOMEM

from vmastore.mm.flags import VM_HUGETLB
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Decision, Reason, new
from vmastore.mm.unknown import UNSURE_KINDS, UNSURE_PIECE
from vmastore.mm.vma import Vma


def split_vma(
    mm: Mm,
    vma: Vma,
    addr: int,
    new_below: bool,
    api: str,
    why: tuple[Reason | None, Reason | None] = (None, None),
) -> Vma | int:
    """Split vma at addr, refused at the map limit. Returns the new VMA, or -ENOMEM, -EINVAL.

    new_below: the new VMA is the lower part (`vma` keeps the upper), else the upper one.
    why: the reasons that kept a merge from making the split needless.
    """
    if mm.map_count >= mm.config.max_map_count:
        return -ENOMEM
    return split_vma_unchecked(mm, vma, addr, new_below, api, why)


def split_vma_unchecked(
    mm: Mm,
    vma: Vma,
    addr: int,
    new_below: bool,
    api: str,
    why: tuple[Reason | None, Reason | None] = (None, None),
) -> Vma | int:
    """Split without looking at the limit (__split_vma): munmap and mremap come here."""
    attrs = vma.attrs
    if (attrs.vm_file is not None or attrs.vm_flags & VM_HUGETLB) and not vma.may_split(addr):
        return -EINVAL
    start, end = vma.vm_start, vma.vm_end
    if new_below:
        part = Vma(start, addr, attrs, vma.anon_vma, vma.chain, vma.label)
        mm.insert_below(vma, part)
        case = "below"
    else:
        part = Vma(addr, end, attrs, vma.anon_vma, vma.chain, vma.label)
        mm.set_end(vma, addr)
        mm.insert_after(vma, part)
        case = "above"
    if vma.unsure & UNSURE_KINDS:
        vma.unsure |= UNSURE_PIECE
    part.unsure, part.base = vma.unsure, vma.base
    mm.decisions.append(new(Decision, (api, "split", start, end, case, why[0], why[1], None, 0, addr, True)))
    return part
