"""Moving a VMA: copy, then unmap or strip the source. Source: move_vma()."""

from __future__ import annotations

from errno import EINVAL, ENOMEM

from vmastore.mm.flags import PMD_SIZE, VM_ACCOUNT, VM_LOCKED, VM_LOCKED_MASK, VM_SHARED, VM_UFFD_FLAGS, VM_WRITE
from vmastore.mm.merge import copy_vma, do_vmi_munmap, isolate_vma
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma
from vmastore.syscalls.aio import ring_stays
from vmastore.syscalls.common import write_uffd
from vmastore.syscalls.fault import becomes_writable
from vmastore.syscalls.uapi import MREMAP_DONTUNMAP, UFFD_FEATURE_EVENT_REMAP


def move_vma(mm: Mm, vma: Vma, old_addr: int, old_len: int, new_len: int, new_addr: int, flags: int) -> int:
    """Move [old_addr, +old_len) of vma to [new_addr, +new_len). Returns new_addr or -errno."""
    rules = mm.rules
    dontunmap = bool(flags & MREMAP_DONTUNMAP)
    if not rules.mremap_map_count_early and mm.map_count >= mm.config.max_map_count - 3:
        return -ENOMEM
    for edge, cut in ((vma.vm_start, old_addr), (vma.vm_end, old_addr + old_len)):
        if edge != cut and not vma.may_split(cut):
            return -EINVAL
    if dontunmap and rules.dontunmap_splits_locked and vma.attrs.vm_flags & VM_LOCKED:
        pre_split = _isolate(mm, vma, old_addr, old_addr + old_len)
        if isinstance(pre_split, int):
            return pre_split
        vma = pre_split
    if vma.attrs.vm_flags & VM_ACCOUNT and mm.fails(ENOMEM):
        return -ENOMEM
    if ring_stays(mm, vma.attrs.vm_file, new_len):
        return -EINVAL
    copied = copy_vma(mm.vmi, vma, new_addr, new_len, old_addr, dontunmap=dontunmap)
    if copied is None:
        return -ENOMEM
    new, vma = copied
    _move_page_tables(mm, old_addr, old_len, new_addr)
    _uffd_prep(mm, new)
    if dontunmap:
        _strip_source(mm, vma, new, old_addr, old_addr + old_len)
        return new_addr
    _unmap_source(mm, vma, old_addr, old_addr + old_len)
    return new_addr


def _isolate(mm: Mm, vma: Vma, start: int, end: int) -> Vma | int:
    """Split the moved part of a locked VMA off first: only it will lose the lock."""
    if vma.vm_start == start and vma.vm_end == end:
        return vma
    return isolate_vma(mm.vmi, vma, start, end)


def _move_page_tables(mm: Mm, old_addr: int, length: int, new_addr: int) -> None:
    if mm.guards.starts:
        mm.guards.move(old_addr, length, new_addr)
    if mm.pmds:
        first, last = old_addr // PMD_SIZE, (old_addr + max(length, 1) - 1) // PMD_SIZE
        if any(r in mm.pmds for r in range(first, last + 1)):
            mm.pmds.update(range(new_addr // PMD_SIZE, (new_addr + max(length, 1) - 1) // PMD_SIZE + 1))


def _uffd_prep(mm: Mm, new: Vma) -> None:
    """mremap_userfaultfd_prep(): without EVENT_REMAP the copy, whatever it merged into, is unregistered."""
    ctx = new.attrs.uffd
    if ctx is not None and not ctx.features & UFFD_FEATURE_EVENT_REMAP:
        write_uffd(mm, new, new.attrs.vm_flags & ~VM_UFFD_FLAGS, None)


def _strip_source(mm: Mm, vma: Vma, new: Vma, start: int, end: int) -> None:
    """MREMAP_DONTUNMAP: the source stays, unlocked, and unwritten if it was moved whole."""
    cleared = VM_LOCKED_MASK | (VM_ACCOUNT if mm.rules.dontunmap_clears_account else 0)
    vma.attrs = vma.attrs.with_flags(vma.attrs.vm_flags & ~cleared)
    if vma is not new and vma.vm_start == start and vma.vm_end == end:
        vma.anon_vma, vma.chain, vma.base = None, (), None
        vma.unsure = 0
        if mm.env.faults != "recorded" and vma.attrs.vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE:
            becomes_writable(mm, vma)  # an unseen fault may come again
        if mm.rules.dontunmap_resets_pgoff:  # the anonymous offset, which a private file mapping has besides its own
            anonymous = vma.is_anonymous and vma.attrs.vm_file is None
            vma.attrs = vma.attrs.with_delta(0 if anonymous else vma.attrs.delta)
    mm.touch(vma)


def _unmap_source(mm: Mm, vma: Vma, start: int, end: int) -> None:
    """Unmap the moved range; VM_ACCOUNT is hidden meanwhile and restored on what remains."""
    accounted = vma.attrs.vm_flags & VM_ACCOUNT
    if accounted:
        vma.attrs = vma.attrs.with_flags(vma.attrs.vm_flags & ~VM_ACCOUNT)
        before, after = vma.vm_start < start, vma.vm_end > end
    failed = do_vmi_munmap(mm.vmi, start, end) if end > start else -EINVAL
    if accounted:
        mm.touch(vma)
        at = mm.find_vma(start)
        if before and not failed:
            _account(mm, at.prev)
        if after and not failed:
            _account(mm, at)


def _account(mm: Mm, vma: Vma) -> None:
    vma.attrs = vma.attrs.with_flags(vma.attrs.vm_flags | VM_ACCOUNT)
    mm.touch(vma)
