"""mprotect and pkey_mprotect. Sources: do_mprotect_pkey(), mprotect_fixup()."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOMEM, EPERM
from typing import Final

from vmastore.mm.flags import (
    IN_PAGE,
    PAGE_MASK,
    PAGE_SIZE,
    TASK_SIZE,
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
    VM_READ,
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
from vmastore.syscalls.uapi import PROT_GROWSDOWN, PROT_GROWSUP, READ_IMPLIES_EXEC

_PROT_KNOWN: Final = 0xF
_NOT_ACCOUNTED: Final = VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE  # or accounted for already
_NO_ACCESS_FLAGS: Final = ~VM_ACCESS_FLAGS
_REFUSED: Final = VM_ACCESS_FLAGS  # none of the three with its VM_MAY bit


def sys_mprotect(mm: Mm, start: int, length: int, prot: int, pkey: int = -1) -> int:
    """Returns 0 or -errno; VMAs before the one that fails are changed.

    pkey: -1 as mprotect. Protection keys that the trace did not see allocated count as allocated
    unless the kernel answered EINVAL.
    """
    if (start | length) & IN_PAGE or prot & _NO_ACCESS_FLAGS or not 0 < length <= TASK_SIZE or pkey != -1:
        checked = _checked(mm, start, length, prot, pkey)
        if isinstance(checked, int):
            return checked
        vma, start, end = checked
        prot &= VM_ACCESS_FLAGS
    else:
        vma, end = mm.index.find(start), start + length
        if vma.vm_start > start:
            return _hole(mm)
    if mm.env.seals_first and _sealed(vma, end):
        return -EPERM
    overcommit = hidden = False
    if mm.expect_errno and mm.observed:
        overcommit = mm.expect_errno == ENOMEM and covered(mm, start, end)
        hidden = mm.expect_errno == EACCES and not _explained(vma, end, prot)
    plain = pkey == -1 and not mm.persona and not mm.mdwe
    while True:
        old = vma.attrs.vm_flags
        new = prot | old & _NO_ACCESS_FLAGS
        if not plain:
            new = _uncommon(mm, old, new, pkey)
        if new & ~(new >> 4) & VM_ACCESS_FLAGS:
            return -EACCES
        if hidden and _may_refuse(vma, old, prot):
            return -EACCES
        if new != old or old & VM_SEALED:
            prev = vma if start > vma.vm_start else vma.prev
            fixed = _fixup(mm, prev, vma, start, end if end < vma.vm_end else vma.vm_end, new, overcommit)
            if isinstance(fixed, int):
                return fixed
            vma = fixed
        start = vma.vm_end
        if start >= end:
            return 0
        vma = vma.next
        if vma.vm_start != start:
            return _hole(mm)


def _checked(mm: Mm, start: int, length: int, prot: int, pkey: int) -> int | tuple[Vma, int, int]:
    """Every check in the kernel's order: what is not whole pages and a plain protection comes here.

    Returns the first VMA and the range to be changed, or 0 or -errno.
    """
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP or start & IN_PAGE:
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
        return _hole(mm)
    if grows & PROT_GROWSDOWN:
        start = vma.vm_start
        if not vma.attrs.vm_flags & VM_GROWSDOWN:
            return -EINVAL
    else:
        if vma.vm_start > start:
            return _hole(mm)
        if grows & PROT_GROWSUP:
            return -EINVAL
    return vma, start, end


def _hole(mm: Mm) -> int:
    """ENOMEM, unless the trace may not have shown what is there, as [vdso], which cannot be split (EINVAL)."""
    return -(ENOMEM if mm.complete or not mm.observed else mm.expect_errno or ENOMEM)


def _may_refuse(vma: Vma, old: int, prot: int) -> bool:
    """Whether a VMA may lack a right that is asked for, though the trace does not show it.

    A file of a noexec mount, a security module; a shared file whose opening was not seen, and that was read-only.
    """
    if prot & VM_EXEC and not old & VM_EXEC:
        return True
    file = vma.attrs.vm_file
    return bool(prot & VM_WRITE and not old & VM_WRITE and old & VM_SHARED) and file is not None and not file.writable


def _explained(vma: Vma, end: int, prot: int) -> bool:
    """Whether a VMA up to `end` is known to lack a right that is asked for."""
    while vma.vm_start < end:
        if prot & ~(vma.attrs.vm_flags >> 4) & VM_ACCESS_FLAGS:
            return True
        vma = vma.next
    return False


def _sealed(vma: Vma, end: int) -> bool:
    while vma.vm_start < end:
        if vma.attrs.vm_flags & VM_SEALED:
            return True
        vma = vma.next
    return False


def _uncommon(mm: Mm, old: int, new: int, pkey: int) -> int:
    """The new flags where a protection key, a personality or PR_SET_MDWE has a say; _REFUSED if it refuses."""
    if mm.persona & READ_IMPLIES_EXEC and new & VM_READ and old & VM_MAYEXEC:
        new |= VM_EXEC
    if pkey != -1:
        new = new & ~VM_PKEY_MASK | pkey << VM_PKEY_SHIFT
    if mm.mdwe and ((new & VM_WRITE and new & VM_EXEC) or (new & VM_EXEC and not old & VM_EXEC)):
        return _REFUSED
    return new


def _fixup(mm: Mm, prev: Vma, vma: Vma, start: int, end: int, new: int, overcommit: bool) -> Vma | int:
    """mprotect_fixup(): VM_ACCOUNT, then merge or split. Returns the VMA of the range or -errno."""
    old = vma.attrs.vm_flags
    if old & VM_SEALED and mm.rules.seal_check_in_loop:
        return -EPERM
    if new == old:
        return vma
    unsure = False
    if new & VM_WRITE:
        if not old & _NOT_ACCOUNTED:
            if overcommit and mm.map_count + 2 < mm.config.max_map_count:
                return -ENOMEM  # commit limit
            new |= VM_ACCOUNT
    elif old & VM_ACCOUNT and mm.rules.mprotect_drops_account and (vma.attrs.vm_file is None or vma.is_anonymous):
        # VM_ACCOUNT goes with the last writable page, unless one has been written
        if vma.anon_vma is None:
            new &= ~VM_ACCOUNT
        unsure = (vma.unsure != 0 or vma.base is not None) and write_open(vma)
    decided = len(mm.decisions)
    changed = vma_modify_flags(mm.vmi, prev, vma, start, end, new)
    if unsure:
        mm.decisions[decided:] = [assumed(d) for d in mm.decisions[decided:]]
    if isinstance(changed, int):
        return changed
    if changed.attrs.vm_flags != new:
        write_flags(mm, changed, new)
    if new & VM_WRITE:
        if old & VM_LOCKED and not old & (VM_WRITE | VM_SHARED):
            populate_vma(mm, changed, start, end)
        if not old & VM_WRITE and mm.env.faults != "recorded" and not new & VM_SHARED and changed.anon_vma is None:
            becomes_writable(mm, changed)
    return changed
