"""mprotect and pkey_mprotect. Sources: do_mprotect_pkey(), mprotect_fixup()."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOMEM, EPERM

from vmastore.mm.flags import (
    PAGE_MASK,
    PAGE_SIZE,
    U64,
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_NORESERVE,
    VM_PKEY_MASK,
    VM_PKEY_SHIFT,
    VM_SEALED,
    VM_SHARED,
    VM_WRITE,
)
from vmastore.mm.merge import vma_modify_flags
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import assumed
from vmastore.mm.unknown import write_open
from vmastore.mm.vma import Vma
from vmastore.syscalls.common import covered, write_flags
from vmastore.syscalls.fault import becomes_writable, populate_vma
from vmastore.syscalls.uapi import PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, READ_IMPLIES_EXEC

_PROT_KNOWN = 0xF


def sys_mprotect(mm: Mm, start: int, length: int, prot: int, pkey: int = -1) -> int:
    """Returns 0 or -errno; VMAs before the one that fails are changed.

    pkey: -1 as mprotect. Protection keys that the trace did not see allocated count as allocated
    unless the kernel answered EINVAL.
    """
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP or start & (PAGE_SIZE - 1):
        return -EINVAL
    if not length:
        return 0
    end = (start + ((length + PAGE_SIZE - 1) & PAGE_MASK & U64)) & U64
    if end <= start:
        return -ENOMEM
    if prot & ~_PROT_KNOWN:
        return -EINVAL
    if pkey != -1 and mm.fails(EINVAL):  # not allocated, or no protection keys at all
        return -EINVAL
    vma = mm.find_vma(start)
    if vma.vm_start >= end:
        return -ENOMEM
    if grows & PROT_GROWSDOWN:
        start = vma.vm_start
        if not vma.attrs.vm_flags & VM_GROWSDOWN:
            return -EINVAL
    else:
        if vma.vm_start > start:
            return -ENOMEM
        if grows & PROT_GROWSUP:
            return -EINVAL
    if mm.rules.mseal and not mm.rules.seal_check_in_loop and _sealed(vma, end):
        return -EPERM
    return _walk(mm, vma, start, end, prot, pkey)


def _sealed(vma: Vma, end: int) -> bool:
    while vma.vm_start < end:
        if vma.attrs.vm_flags & VM_SEALED:
            return True
        vma = vma.next
    return False


def _walk(mm: Mm, vma: Vma, start: int, end: int, prot: int, pkey: int) -> int:
    prev = vma if start > vma.vm_start else vma.prev
    nstart, reached = start, vma.vm_start
    overcommit = mm.expect_errno == ENOMEM and mm.observed and covered(mm, start, end)
    read_implies_exec = mm.persona & READ_IMPLIES_EXEC and prot & PROT_READ
    while vma.vm_start < end:
        if vma.vm_start != reached:
            return -ENOMEM
        old = vma.attrs.vm_flags
        wanted = prot & 7
        if read_implies_exec and old & VM_MAYEXEC:
            wanted |= PROT_EXEC
        new = wanted | old & ~VM_ACCESS_FLAGS
        if pkey != -1:
            new = new & ~VM_PKEY_MASK | pkey << VM_PKEY_SHIFT
        if new & ~(new >> 4) & VM_ACCESS_FLAGS:
            return -EACCES
        if mm.mdwe and ((new & VM_WRITE and new & VM_EXEC) or (new & VM_EXEC and not old & VM_EXEC)):
            return -EACCES
        if new == old and not old & VM_SEALED:
            fixed: Vma | int = vma
        else:
            fixed = _fixup(mm, prev, vma, nstart, end if end < vma.vm_end else vma.vm_end, new, overcommit)
        if isinstance(fixed, int):
            return fixed
        prev = fixed
        nstart = reached = fixed.vm_end
        vma = fixed.next
    return -ENOMEM if reached < end else 0


def _fixup(mm: Mm, prev: Vma, vma: Vma, start: int, end: int, new: int, overcommit: bool) -> Vma | int:
    """mprotect_fixup(): VM_ACCOUNT, then merge or split. Returns the VMA of the range or -errno."""
    old = vma.attrs.vm_flags
    if mm.rules.seal_check_in_loop and old & VM_SEALED:
        return -EPERM
    if new == old:
        return vma
    drops = False  # VM_ACCOUNT goes with the last writable page, unless one has been written
    if new & VM_WRITE:
        if not old & (VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE):
            if overcommit and mm.map_count + 2 < mm.config.max_map_count:
                return -ENOMEM  # commit limit
            new |= VM_ACCOUNT
    elif old & VM_ACCOUNT and mm.rules.mprotect_drops_account and vma.is_anonymous:
        drops = True
        if vma.anon_vma is None:
            new &= ~VM_ACCOUNT
    unsure = drops and write_open(vma)
    decided = len(mm.decisions)
    changed = vma_modify_flags(mm.vmi, prev, vma, start, end, new)
    if unsure:
        mm.decisions[decided:] = [assumed(d) for d in mm.decisions[decided:]]
    if isinstance(changed, int):
        return changed
    write_flags(mm, changed, new)
    shown = mm.env.faults == "recorded"
    if old & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED and new & VM_WRITE:
        populate_vma(mm, changed, start, end)
    if not shown and new & VM_WRITE and not old & VM_WRITE and not new & VM_SHARED and changed.anon_vma is None:
        becomes_writable(mm, changed)
    return changed
