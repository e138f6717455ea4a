"""shmat, shmdt, remap_file_pages. Sources: do_shmat(), ksys_shmdt(), SYSCALL_DEFINE5(remap_file_pages)."""

from __future__ import annotations

from errno import EINVAL, EPERM
from typing import Final

from vmastore.mm.flags import (
    PAGE_MASK,
    PAGE_SHIFT,
    PAGE_SIZE,
    PMD_SIZE,
    U64,
    VM_DONTEXPAND,
    VM_EXEC,
    VM_HUGETLB,
    VM_LOCKED,
    VM_READ,
    VM_SEALED,
    VM_SHARED,
    VM_WRITE,
)
from vmastore.mm.merge import do_vmi_munmap, vma_merge_extend
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Decision, Reason
from vmastore.mm.vma import File, Vma
from vmastore.syscalls import uapi
from vmastore.syscalls.common import page_align
from vmastore.syscalls.mmap import do_mmap

_LONG: Final = Reason("segment")


def sys_shmat(mm: Mm, addr: int, shmflg: int, size: int | None, file: File) -> int:
    """Returns the address or -errno. file: made anew for each attach, so that two never merge."""
    if mm.observed and mm.expect_errno and not _meets_seal(mm, addr, shmflg, size):
        return -mm.expect_errno
    flags = uapi.MAP_SHARED
    if addr:
        if addr & (PAGE_SIZE - 1):
            if not shmflg & uapi.SHM_RND:
                return -EINVAL
            addr &= PAGE_MASK
        flags |= uapi.MAP_FIXED
    elif shmflg & uapi.SHM_REMAP:
        return -EINVAL
    sized = size is not None
    if size is None:
        if not mm.observed:
            return -EINVAL
        size = PAGE_SIZE  # at least
    prot = uapi.PROT_READ if shmflg & uapi.SHM_RDONLY else uapi.PROT_READ | uapi.PROT_WRITE
    if shmflg & uapi.SHM_EXEC:
        prot |= uapi.PROT_EXEC
    if file.is_huge:
        size = -(-size // PMD_SIZE) * PMD_SIZE
    file.readable, file.writable = True, not shmflg & uapi.SHM_RDONLY
    file.size = size if sized else None
    taken = addr + size > U64 or mm.find_vma_intersection(addr, addr + size) is not None
    if addr and taken and not shmflg & uapi.SHM_REMAP:
        return -EINVAL
    result = do_mmap(mm, addr, size, prot, flags, file, 0)
    if not sized and result > 0:
        mm.complete = False
        mm.decisions.append(Decision("mmap_region", "none", result, result + size, "", _LONG, _LONG, certain=False))
    return result


def segment_reaches(mm: Mm, vma: Vma, end: int, more: int = 0) -> bool:
    """Let a segment whose size no event shows end at `end`, if vma is the whole of such a one. more: its vm_flags."""
    file = vma.attrs.vm_file
    if file is None or not file.is_segment or file.size is not None or vma.vm_pgoff:
        return False
    huge = more & VM_HUGETLB and not vma.attrs.vm_flags & VM_HUGETLB
    if end < vma.vm_end or vma.next.vm_start < end or (end == vma.vm_end and not huge):
        return False
    if end > vma.vm_end:
        decisions, mm.decisions = mm.decisions, []
        vma_merge_extend(mm.vmi, vma, end - vma.vm_end)
        mm.decisions = decisions
    if huge:
        file.kind = "hugeshm"
        vma.attrs = vma.attrs.with_flags(vma.attrs.vm_flags | more & (VM_HUGETLB | VM_DONTEXPAND))
    return True


def _meets_seal(mm: Mm, addr: int, shmflg: int, size: int | None) -> bool:
    """Whether the EPERM that was answered is of a sealed VMA in the way: the range's edge is split by then."""
    if not mm.fails(EPERM) or not shmflg & uapi.SHM_REMAP or size is None:
        return False
    vma = mm.find_vma(addr & PAGE_MASK)
    while vma.vm_start < addr + size:
        if vma.attrs.vm_flags & VM_SEALED:
            return True
        vma = vma.next
    return False


def sys_shmdt(mm: Mm, addr: int) -> int:
    """Returns 0 or -EINVAL. Removes every fragment of the segment that still stands in its place."""
    if addr & (PAGE_SIZE - 1):
        return -EINVAL
    vma = mm.find_vma(addr)
    while vma is not mm.tail and not _fragment(vma, addr):
        vma = vma.next
    if vma is mm.tail:
        return -EINVAL
    file = vma.attrs.vm_file
    size = page_align(file.size or 0) if file is not None else 0
    vma = _detach(mm, vma)
    while vma is not mm.tail and vma.vm_end - addr <= size:
        vma = _detach(mm, vma) if _fragment(vma, addr) and vma.attrs.vm_file is file else vma.next
    return 0


def _fragment(vma: Vma, addr: int) -> bool:
    file = vma.attrs.vm_file
    return file is not None and file.is_segment and (vma.vm_start - addr) >> PAGE_SHIFT == vma.vm_pgoff


def _detach(mm: Mm, vma: Vma) -> Vma:
    nxt = vma.next
    do_vmi_munmap(mm.vmi, vma.vm_start, vma.vm_end)
    return nxt


def sys_remap_file_pages(mm: Mm, start: int, size: int, prot: int, pgoff: int, flags: int) -> int:
    """Returns 0 or -errno: a MAP_SHARED|MAP_FIXED|MAP_POPULATE mapping in the same place."""
    if prot:
        return -EINVAL
    start &= PAGE_MASK & U64
    size &= PAGE_MASK & U64
    if (start + size) & U64 <= start or pgoff + (size >> PAGE_SHIFT) > U64:
        return -EINVAL
    vma = mm.vma_lookup(start)
    if vma is None or not vma.attrs.vm_flags & VM_SHARED:
        return -EINVAL
    vm_flags = vma.attrs.vm_flags
    prot = vm_flags & (VM_READ | VM_WRITE | VM_EXEC)
    flags = flags & uapi.MAP_NONBLOCK | uapi.MAP_SHARED | uapi.MAP_FIXED | uapi.MAP_POPULATE
    if vm_flags & VM_LOCKED:
        flags |= uapi.MAP_LOCKED
    last = vma
    while last.vm_end < start + size:
        nxt = last.next
        same = nxt.vm_start == last.vm_end and nxt.attrs.vm_file is vma.attrs.vm_file
        if nxt is mm.tail or not same or nxt.attrs.vm_flags != vm_flags:
            return -EINVAL
        last = nxt
    result = do_mmap(mm, start, size, prot, flags, vma.attrs.vm_file, pgoff)
    return min(result, 0)
