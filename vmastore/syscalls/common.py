"""What several system calls share: writing new attributes to a VMA, rounding, range errors."""

from __future__ import annotations

from vmastore.mm.flags import PAGE_MASK, PAGE_SIZE, U64
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Mempolicy, UffdCtx, Vma


def page_align(length: int) -> int:
    """PAGE_ALIGN on 64 bits: rounds up, a huge length wraps to 0."""
    return (length + PAGE_SIZE - 1) & PAGE_MASK & U64


def write_flags(mm: Mm, vma: Vma, vm_flags: int) -> None:
    """Give a VMA its new vm_flags (vm_flags_reset); sticky bits that a merge brought stay."""
    sticky = mm.env.sticky
    if sticky:
        vm_flags |= vma.attrs.vm_flags & sticky
    if vma.attrs.vm_flags != vm_flags:
        vma.attrs = vma.attrs.with_flags(vm_flags)
        mm.touch(vma)


def write_name(mm: Mm, vma: Vma, name: str | None) -> None:
    if vma.attrs.anon_name != name:
        vma.attrs = vma.attrs.with_name(name)
        mm.touch(vma)


def write_policy(mm: Mm, vma: Vma, policy: Mempolicy | None) -> None:
    vma.attrs = vma.attrs.with_policy(policy)
    mm.touch(vma)


def write_uffd(mm: Mm, vma: Vma, vm_flags: int, ctx: UffdCtx | None) -> None:
    vm_flags |= vma.attrs.vm_flags & mm.env.sticky
    vma.attrs = vma.attrs.with_uffd(vm_flags, ctx)
    mm.touch(vma)


def covered(mm: Mm, start: int, end: int) -> bool:
    """Whether [start, end) has no hole."""
    vma = mm.find_vma(start)
    reached = start
    while reached < end:
        if vma.vm_start > reached:
            return False
        reached = vma.vm_end
        vma = vma.next
    return True
