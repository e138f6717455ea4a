"""What several system calls share: writing new attributes to a VMA, rounding, range errors."""

from __future__ import annotations

from vmastore.mm.flags import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, U64, VM_LOCKED
from vmastore.mm.mm import Mm
from vmastore.mm.vma import File, Mempolicy, UffdCtx, Vma


def page_align(length: int) -> int:
    """PAGE_ALIGN on 64 bits: rounds up, a huge length wraps to 0."""
    return (length + PAGE_SIZE - 1) & PAGE_MASK & U64


def write_flags(mm: Mm, vma: Vma, vm_flags: int) -> None:
    """Give a VMA its new vm_flags (vm_flags_reset); sticky bits that a merge brought stay."""
    attrs = vma.attrs
    vm_flags |= attrs.vm_flags & mm.env.sticky
    if attrs.vm_flags != vm_flags:
        vma.attrs = attrs.with_flags(vm_flags)
        if mm.dirty is not None:
            mm.dirty.append(vma)


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


def over_memlock(mm: Mm, start: int, length: int) -> bool:
    """Whether locking [start, start+length) too would exceed RLIMIT_MEMLOCK, as far as it is known."""
    limit = mm.rlimits.get("MEMLOCK")
    if mm.config.privileged is not False or limit is None or limit < 0:
        return False
    end = start + length
    others = 0
    for vma in mm.vmas():
        if vma.attrs.vm_flags & VM_LOCKED:
            others += vma.vm_end - vma.vm_start - max(0, min(vma.vm_end, end) - max(vma.vm_start, start))
    return (others + length) >> PAGE_SHIFT > limit >> PAGE_SHIFT


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


def unseen(mm: Mm, start: int, end: int) -> bool:
    """Whether the kernel's answer may come from a mapping in [start, end) that no event of the trace has shown."""
    return mm.observed and not mm.complete and not covered(mm, start, end)


def unknown_fs(mm: Mm, file: File) -> bool:
    """Whether a file may be one of tmpfs: its path is all that most traces tell."""
    return file.kind == "unknown" or (file.kind == "regular" and not mm.env.fs_known)
