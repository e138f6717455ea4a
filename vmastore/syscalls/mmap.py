"""mmap: argument checks in the kernel's order, then mmap_region. Source: do_mmap()."""

from __future__ import annotations

from errno import EACCES, EAGAIN, EBADF, EEXIST, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP, EOVERFLOW, EPERM
from typing import Final

from vmastore.mm.accounting import accountable
from vmastore.mm.flags import (
    IN_PAGE,
    PAGE_MASK,
    PAGE_SHIFT,
    PAGE_SIZE,
    PMD_SIZE,
    TASK_SIZE,
    U64,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_DROPPABLE,
    VM_GROWSDOWN,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_IO,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_MIXEDMAP,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_PFNMAP,
    VM_SEALED,
    VM_SHARED,
    VM_SYNC,
    VM_WIPEONFORK,
    VM_WRITE,
)
from vmastore.mm.merge import mmap_region
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Decision, Reason
from vmastore.mm.vma import SEALED, File
from vmastore.syscalls.address import get_unmapped_area
from vmastore.syscalls.common import over_memlock
from vmastore.syscalls.fault import becomes_writable, grow_stack, mm_populate
from vmastore.syscalls.uapi import (
    LEGACY_MAP_MASK,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MAP_SYNC,
    MAP_TYPE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    READ_IMPLIES_EXEC,
)

PLAIN: Final = MAP_PRIVATE | MAP_ANONYMOUS
_PROT_BITS: Final = PROT_READ | PROT_WRITE | PROT_EXEC
_MAY_BITS: Final = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
_DRIVERS: Final = {"perf", "socket", "device", "secretmem", "unknown"}
_ASKED_LATE: Final = {"perf", "socket", "secretmem"}  # what they refuse, their mmap hook does
_NEVER_EXEC: Final = {"aio", "secretmem"}
_NO_PLACE: Final = {"perf", "io_uring", "socket"}
_HOOK_FLAGS: Final = {
    "hugetlb": VM_HUGETLB | VM_DONTEXPAND,
    "hugeshm": VM_HUGETLB | VM_DONTEXPAND,
    "aio": VM_DONTEXPAND,
    "io_uring": VM_DONTEXPAND | VM_MIXEDMAP,
    "perf": VM_IO | VM_PFNMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP,
    "socket": VM_MIXEDMAP,  # of packets; others differ
}
_MOST_TOLD: Final = 1 << 56  # with five-level page tables, and a hint
ZERO_PATH: Final = "/dev/zero (deleted)"
HUGE_PATH: Final = "/anon_hugepage (deleted)"


def sys_mmap(
    mm: Mm, addr: int, length: int, prot: int, flags: int, file: File | None, offset: int, bad_fd: bool = False
) -> int:
    """Returns the address or -errno. offset: bytes; bad_fd: the descriptor was not open."""
    if offset & (PAGE_SIZE - 1):
        return -EINVAL
    if flags & MAP_ANONYMOUS:
        file = None
        if flags & MAP_HUGETLB:
            if not length or mm.fails(EINVAL):
                return -EINVAL
            if mm.fails(ENOMEM):
                return -ENOMEM
            length = -(-length // PMD_SIZE) * PMD_SIZE
            file = File(0, "hugetlb", HUGE_PATH, readable=True, writable=True)
    elif bad_fd or file is None:
        return -EBADF
    elif file.kind == "hugetlb":
        length = -(-length // PMD_SIZE) * PMD_SIZE
    elif flags & MAP_HUGETLB:
        return -EINVAL
    return do_mmap(mm, addr, length, prot, flags, file, (offset & U64) >> PAGE_SHIFT)


def mmap_plain(mm: Mm, addr: int, length: int, prot: int, flags: int, offset: int) -> int | None:
    """What sys_mmap comes to for the commonest call: private anonymous memory where the kernel did put it.

    flags: PLAIN, with MAP_FIXED or without. Returns the address or -errno; None: something that sys_mmap asks
    about may matter.
    """
    if mm.expect_errno or not mm.observed or mm.def_flags or mm.mdwe or mm.persona:
        return None
    if not flags & MAP_FIXED:
        if mm.expect_result is None:
            return None
        addr = mm.expect_result
    if (addr | offset) & IN_PAGE or not 0 < length <= TASK_SIZE - addr <= TASK_SIZE:
        return None
    if mm.map_count > mm.config.max_map_count:
        return None
    length = (length + IN_PAGE) & PAGE_MASK
    vm_flags = prot & _PROT_BITS | _MAY_BITS
    error = mmap_region(mm.vmi, addr, length, vm_flags, None, addr >> PAGE_SHIFT)
    if error:
        return error
    if vm_flags & VM_WRITE and mm.env.faults != "recorded":
        vma = mm.index.find(addr)
        if vma.anon_vma is None:
            becomes_writable(mm, vma)
    return addr


def do_mmap(mm: Mm, addr: int, length: int, prot: int, flags: int, file: File | None, pgoff: int) -> int:
    """The part that shmat and remap_file_pages share. pgoff: pages."""
    if not length:
        return -EINVAL
    if prot & PROT_READ and mm.persona & READ_IMPLIES_EXEC and not (file is not None and _noexec(mm, file)):
        prot |= PROT_EXEC
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    if not flags & MAP_FIXED:
        addr = _round_hint(mm, addr)
    length = (length + PAGE_SIZE - 1) & PAGE_MASK & U64
    if not length:
        return -ENOMEM
    if pgoff + (length >> PAGE_SHIFT) > U64:
        return -EOVERFLOW
    if mm.map_count > mm.config.max_map_count:
        return -ENOMEM
    vm_flags = _flag_bits(mm, prot, flags)
    placed = place(mm, addr, length, pgoff, flags, file)
    if placed < 0:
        return placed
    if file is not None and file.kind == "io_uring" and mm.observed and mm.expect_errno:
        return -mm.expect_errno  # by its get_unmapped_area, before anything is done
    addr = placed
    if flags & MAP_FIXED_NOREPLACE:
        taken = mm.find_vma_intersection(addr, addr + length) is not None
        if taken or (mm.fails(EEXIST) and (_grow_unseen(mm, addr + length) or not mm.complete)):
            return -EEXIST
    if flags & MAP_LOCKED and mm.fails(EPERM) and file is None:
        return -EPERM
    if vm_flags & VM_LOCKED and (mm.fails(EAGAIN) or (not mm.observed and over_memlock(mm, addr, length))):
        return -EAGAIN
    if file is not None and file.kind != "hugetlb_anon":
        error, vm_flags = _file_flags(mm, file, prot, flags, vm_flags, pgoff, addr, length)
    else:
        error, vm_flags, pgoff = _anon_flags(mm, flags, vm_flags, addr)
    if error:
        return -error
    if flags & MAP_NORESERVE and (mm.config.overcommit_memory != 2 or (file is not None and file.kind == "hugetlb")):
        vm_flags |= VM_NORESERVE
    if mm.mdwe and prot & PROT_WRITE and prot & PROT_EXEC:
        return -EACCES
    error = _region(mm, addr, length, vm_flags, file, pgoff)
    if error:
        return error
    _faults(mm, addr, length, vm_flags, flags)
    return addr


def _grow_unseen(mm: Mm, end: int) -> bool:
    """Let the stack above `end`, if one is, grow to below it: the kernel found something there. False: none can."""
    vma = mm.find_vma(end)
    if mm.env.faults == "recorded" or not vma.attrs.vm_flags & VM_GROWSDOWN:
        return False
    return grow_stack(mm, vma, end - PAGE_SIZE, sure=True)


def _round_hint(mm: Mm, addr: int) -> int:
    addr &= PAGE_MASK & U64
    return max(addr, mm.config.mmap_min_addr) if addr else 0


def _flag_bits(mm: Mm, prot: int, flags: int) -> int:
    """calc_vm_prot_bits() and calc_vm_flag_bits()."""
    vm_flags = prot & (PROT_READ | PROT_WRITE | PROT_EXEC)
    vm_flags |= mm.def_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_LOCKED:
        vm_flags |= VM_LOCKED
    if flags & MAP_SYNC:
        vm_flags |= VM_SYNC
    if flags & MAP_STACK and mm.rules.map_stack_nohugepage and mm.config.hugepage:
        vm_flags |= VM_NOHUGEPAGE
    return vm_flags


def place(mm: Mm, addr: int, length: int, pgoff: int, flags: int, file: File | None) -> int:
    """The address: as asked when fixed, as the trace says, else as the kernel would choose."""
    if length > TASK_SIZE:
        return -ENOMEM
    if flags & MAP_FIXED:
        if addr > TASK_SIZE - length:
            return -ENOMEM
        if addr & (PAGE_SIZE - 1):
            return -EINVAL
        if file is not None and file.is_huge and addr & (PMD_SIZE - 1):
            return -EINVAL
        if addr < mm.config.mmap_min_addr and mm.fails(EPERM):
            return -EPERM
        return addr
    told = mm.expect_result if mm.observed else None
    if told is not None and not told & (PAGE_SIZE - 1) and told <= _MOST_TOLD - length:  # else the log is damaged
        return told
    return get_unmapped_area(mm, addr, length, flags, file)


def _file_flags(
    mm: Mm, file: File, prot: int, flags: int, vm_flags: int, pgoff: int, addr: int, length: int
) -> tuple[int, int]:
    """(errno or 0, vm_flags) of a file mapping."""
    kind = flags & MAP_TYPE
    if pgoff > (_max_bytes(file) - length) >> PAGE_SHIFT:
        return EOVERFLOW, vm_flags
    if kind not in (MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE):
        return EINVAL, vm_flags
    if kind != MAP_PRIVATE:
        unknown = flags & ~(LEGACY_MAP_MASK | MAP_SHARED_VALIDATE | _supported(file))
        if kind == MAP_SHARED_VALIDATE and unknown:
            hidden = unknown == MAP_SYNC and file.kind in ("regular", "unknown") and file.dev is None
            if not hidden or not mm.observed or mm.fails(EOPNOTSUPP):
                if hidden:
                    _doubt(mm, addr, length)
                return EOPNOTSUPP, vm_flags
            # on a device that the trace does not show; any other answer is that of a file system that knows MAP_SYNC
        if prot & PROT_WRITE and _lacks(mm, file.writable):
            return EACCES, vm_flags
        vm_flags |= VM_SHARED | VM_MAYSHARE
        if file.writable is False:
            vm_flags &= ~(VM_MAYWRITE | VM_SHARED)
        elif file.kind == SEALED:
            if prot & PROT_WRITE:
                return EPERM, vm_flags
            vm_flags &= ~VM_MAYWRITE
    if _lacks(mm, file.readable):
        return EACCES, vm_flags
    if (
        mm.fails(EPERM) and file.kind not in _ASKED_LATE and not _sealed_below(mm, addr, length)
    ):  # noexec mount, or a seal of the memfd
        return EPERM, vm_flags
    if file.kind == "directory" or (mm.fails(ENODEV) and file.kind not in _ASKED_LATE):
        return ENODEV, vm_flags
    if vm_flags & VM_GROWSDOWN:
        return EINVAL, vm_flags
    if file.kind != "regular" and _noexec(mm, file):
        if prot & PROT_EXEC:
            return EPERM, vm_flags
        vm_flags &= ~VM_MAYEXEC
    return 0, vm_flags


def _noexec(mm: Mm, file: File) -> bool:
    """path_noexec(), of files whose kind tells."""
    return file.kind in _NEVER_EXEC or (file.kind in _NO_PLACE and mm.rules.anon_inodes_noexec)


def _supported(file: File) -> int:
    """mmap_supported_flags: ext4 and xfs, which live on block devices, know MAP_SYNC; the others do not."""
    return (
        MAP_SYNC
        if file.kind == "dax" or (file.kind == "regular" and (file.dev or "00:").split(":")[0] != "00")
        else 0
    )


def _doubt(mm: Mm, addr: int, length: int) -> None:
    """A failed MAP_SHARED_VALIDATE with MAP_SYNC, on an unknown device: ext4 or xfs would have unmapped the range."""
    if mm.find_vma_intersection(addr, addr + length) is not None:
        why = Reason("device")
        mm.decisions.append(Decision("mmap_region", "none", addr, addr + length, "", why, why, certain=False))


def _refused_late(mm: Mm, file: File | None, vm_flags: int) -> int:
    """What the file's mmap hook answers (errno or 0); by then the range has been unmapped.

    ext4 and xfs refuse VM_SYNC without DAX (daxdev_mapping_supported), secretmem what is private. What a driver
    refuses only its answer tells.
    """
    if file is None:
        return 0
    if vm_flags & VM_SYNC and not mm.observed:
        return EOPNOTSUPP if file.kind == "regular" and _supported(file) else 0
    if vm_flags & VM_SYNC and mm.fails(EOPNOTSUPP):
        return EOPNOTSUPP
    if file.kind == "hugetlb" and mm.fails(EINVAL):
        return EINVAL  # an offset within a huge page, or beyond what it can hold
    if file.kind == "secretmem" and not vm_flags & VM_SHARED:
        return EINVAL
    told = mm.observed and mm.expect_errno != ENOMEM and file.kind in _DRIVERS
    return mm.expect_errno if told else 0


def _sealed_below(mm: Mm, addr: int, length: int) -> bool:
    """Whether the EPERM that the kernel answered may come from a sealed VMA in the way."""
    vma = mm.find_vma(addr)
    while vma.vm_start < addr + length:
        if vma.attrs.vm_flags & VM_SEALED:
            return True
        vma = vma.next
    return False


def _max_bytes(file: File) -> int:
    """file_mmap_ok(): how large a file of its kind may be: s_maxbytes, of a device ULONG_MAX (/dev/mem: no limit)."""
    if file.kind in ("regular", "memfd", SEALED, "shmem", "shm", "hugeshm", "hugetlb", "tmpfs"):
        return (1 << 63) - 1
    return U64 if file.kind == "zero" else 1 << 80


def _lacks(mm: Mm, mode: bool | None) -> bool:
    """Whether the description lacks a mode; an unknown one lacks it if the kernel said EACCES."""
    return mm.fails(EACCES) if mode is None else not mode


def _anon_flags(mm: Mm, flags: int, vm_flags: int, addr: int) -> tuple[int, int, int]:
    """(errno or 0, vm_flags, pgoff in pages) of an anonymous mapping."""
    kind = flags & MAP_TYPE
    if kind == MAP_SHARED:
        if vm_flags & VM_GROWSDOWN:
            return EINVAL, vm_flags, 0
        return 0, vm_flags | VM_SHARED | VM_MAYSHARE, 0
    if kind == MAP_DROPPABLE and mm.rules.map_droppable:
        if flags & (MAP_LOCKED | MAP_HUGETLB) or vm_flags & VM_GROWSDOWN:
            return EINVAL, vm_flags, 0
        vm_flags |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP
    elif kind != MAP_PRIVATE:
        return EINVAL, vm_flags, 0
    return 0, vm_flags, addr >> PAGE_SHIFT


def _region(mm: Mm, addr: int, length: int, vm_flags: int, file: File | None, pgoff: int) -> int:
    over = not mm.observed and _over_limit(mm, addr, length)
    late = ENOMEM if over or mm.fails(ENOMEM) else 0  # RLIMIT_DATA and the commit limit: as observed
    if file is None and not late and not vm_flags & VM_SHARED:
        return mmap_region(mm.vmi, addr, length, vm_flags, None, pgoff)
    plain = file is None or (file.kind == "regular" and not vm_flags & VM_SYNC)
    refused = 0 if plain else _refused_late(mm, file, vm_flags)
    if refused and file is not None and file.kind in ("device", "unknown"):
        _doubt(mm, addr, length)  # it may have been refused before
    make_file, added = None, 0
    if file is None and vm_flags & VM_SHARED:
        make_file = ZERO_PATH
    elif file is not None and file.kind == "zero" and vm_flags & VM_SHARED:
        make_file, file = ZERO_PATH, file
    elif file is not None and file.kind == "dax":  # of ext4 or xfs
        if mm.rules.mmap_prepare_flags:
            vm_flags |= VM_HUGEPAGE
        else:
            added = VM_HUGEPAGE
    elif file is not None and file.kind == "secretmem":
        if mm.rules.mmap_prepare_flags:
            vm_flags |= VM_LOCKED | VM_DONTDUMP
        else:
            added = VM_LOCKED | VM_DONTDUMP
    elif file is not None:
        added = _HOOK_FLAGS.get(file.kind, 0)
    return mmap_region(
        mm.vmi,
        addr,
        length,
        vm_flags,
        file,
        pgoff,
        make_file=make_file,
        added_flags=added,
        late_errno=late,
        hook_errno=refused,
        late_commit=not over and accountable(vm_flags, file) and _unlimited(mm),
    )


def _unlimited(mm: Mm) -> bool:
    """Whether the trace tells that no limit of the process can be what an mmap ran into."""
    return mm.rlimits.get("AS") == -1 and mm.rlimits.get("DATA") == -1


def _over_limit(mm: Mm, addr: int, length: int) -> bool:
    """may_expand_vm(): RLIMIT_AS, where it is known and the kernel's answer is not; what goes is not counted."""
    limit = mm.rlimits.get("AS", -1)
    if limit < 0:
        return False
    end = addr + length
    kept = sum(v.vm_end - v.vm_start - max(0, min(v.vm_end, end) - max(v.vm_start, addr)) for v in mm.vmas())
    return (kept + length) >> PAGE_SHIFT > limit >> PAGE_SHIFT


def _faults(mm: Mm, addr: int, length: int, vm_flags: int, flags: int) -> None:
    """MAP_POPULATE and MAP_LOCKED fault the pages at once; else the trace may not show the faults."""
    populate = vm_flags & VM_LOCKED or flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE
    if not populate and mm.env.faults == "recorded":
        return
    vma = mm.vma_lookup(addr)
    if vma is None:
        return
    if populate:
        mm_populate(mm, addr, addr + length)
    writable = vm_flags & VM_WRITE and not vm_flags & VM_SHARED
    if writable and vma.anon_vma is None:
        becomes_writable(mm, vma)
