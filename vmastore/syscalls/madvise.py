"""madvise and process_madvise. Sources: do_madvise(), madvise_vma_behavior(), madvise_update_vma()."""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES, EAGAIN, EBADF, EFAULT, EINVAL, EIO, ENOMEM, EPERM, ESRCH
from typing import Final

from vmastore.mm.flags import (
    IN_PAGE,
    PAGE_MASK,
    U64,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_IO,
    VM_LOCKED,
    VM_MAYBE_GUARD,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_SEALED,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
    VM_WRITE,
)
from vmastore.mm.ksm import ksm_compatible
from vmastore.mm.merge import vma_modify_flags_name
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma
from vmastore.syscalls import uapi
from vmastore.syscalls.common import write_flags, write_name
from vmastore.syscalls.fault import anon_vma_prepare
from vmastore.syscalls.populate import madvise_populate

_VALID: Final = {
    *range(uapi.MADV_NORMAL, uapi.MADV_DONTNEED + 1),
    *range(uapi.MADV_FREE, uapi.MADV_DONTNEED_LOCKED + 1),
    uapi.MADV_HWPOISON,
    uapi.MADV_SOFT_OFFLINE,
}
_DISCARD: Final = {
    uapi.MADV_FREE,
    uapi.MADV_DONTNEED,
    uapi.MADV_DONTNEED_LOCKED,
    uapi.MADV_REMOVE,
    uapi.MADV_DONTFORK,
    uapi.MADV_WIPEONFORK,
    uapi.MADV_GUARD_INSTALL,
}
_POISON: Final = {uapi.MADV_HWPOISON, uapi.MADV_SOFT_OFFLINE}
_POPULATE: Final = {uapi.MADV_POPULATE_READ, uapi.MADV_POPULATE_WRITE}
_KSM: Final = {uapi.MADV_MERGEABLE, uapi.MADV_UNMERGEABLE}
_HUGE: Final = {uapi.MADV_HUGEPAGE, uapi.MADV_NOHUGEPAGE, uapi.MADV_COLLAPSE}
_GUARD: Final = {uapi.MADV_GUARD_INSTALL, uapi.MADV_GUARD_REMOVE}
_ALWAYS: Final = _VALID - _KSM - _HUGE - _GUARD
_OTHER_MM: Final = {uapi.MADV_COLD, uapi.MADV_PAGEOUT, uapi.MADV_WILLNEED, uapi.MADV_COLLAPSE}


def sys_madvise(mm: Mm, start: int, length_in: int, advice: int) -> int:
    """Returns 0 or -errno. Holes are passed over and reported at the end (ENOMEM)."""
    if start & IN_PAGE or not (advice in _ALWAYS or _known(mm, advice)):
        return -EINVAL
    length = (length_in + IN_PAGE) & PAGE_MASK & U64
    if length_in and not length:
        return -EINVAL
    end = start + length
    if end > U64:
        return -EINVAL
    if end == start:
        return 0
    if advice in _POISON:
        return -mm.expect_errno if mm.observed else 0
    vma = mm.index.find(start)
    one = vma.vm_start <= start and end <= vma.vm_end  # VMA holds it all
    if one and advice in _ON_PAGES and not vma.attrs.vm_flags & VM_SEALED:
        return -_ON_PAGES[advice](mm, vma)
    if mm.env.seals_first and _any_refused(mm, start, end, advice):
        return -EPERM
    if advice in _POPULATE:
        return madvise_populate(mm, start, end, advice == uapi.MADV_POPULATE_WRITE)
    if one:
        done = _behave(mm, vma, vma if start > vma.vm_start else vma.prev, start, end, advice)
        return done if isinstance(done, int) else 0
    return walk(mm, start, end, lambda vma, prev, low, high: _behave(mm, vma, prev, low, high, advice))


def _known(mm: Mm, advice: int) -> bool:
    """madvise_behavior_valid()."""
    if advice in _KSM:
        return mm.config.ksm
    if advice in _HUGE:
        return mm.config.hugepage
    if advice in _GUARD:
        return mm.rules.guard_install
    return advice in _VALID


Visit = Callable[[Vma, Vma, int, int], "Vma | int"]


def walk(mm: Mm, start: int, end: int, visit: Visit) -> int:
    """madvise_walk_vmas(): every mapped piece of [start, end); after a merge, on behind its end.

    visit(vma, prev, low, high) returns the VMA that now holds the piece, or -errno.
    """
    hole = False
    vma = mm.find_vma(start)
    prev = vma if start > vma.vm_start else vma.prev
    while True:
        if vma is mm.tail:
            return _hole(mm)
        if start < vma.vm_start:
            hole = True
            start = vma.vm_start
            if start >= end:
                break
        high = min(vma.vm_end, end)
        done = visit(vma, prev, start, high)
        if isinstance(done, int):
            return done
        prev = done
        start = max(high, prev.vm_end)
        if start >= end:
            break
        vma = prev.next
    return _hole(mm) if hole else 0


def _hole(mm: Mm) -> int:
    """ENOMEM, unless the trace may not have shown what is there, and the kernel's answer is that of a mapping."""
    return -(ENOMEM if mm.complete or not mm.observed else mm.expect_errno or ENOMEM)


def _refused_by_seal(mm: Mm, vma: Vma, advice: int) -> bool:
    """can_modify_vma_madv(): destructive advice on sealed anonymous memory that is not writable."""
    flags = vma.attrs.vm_flags
    if not flags & VM_SEALED or advice not in _DISCARD:
        return False
    if flags & (VM_SHARED | VM_WRITE):
        return False
    return not vma.has_file if mm.rules.seal_spares_files else vma.is_anonymous


def _any_refused(mm: Mm, start: int, end: int, advice: int) -> bool:
    vma = mm.find_vma(start)
    while vma.vm_start < end:
        if _refused_by_seal(mm, vma, advice):
            return True
        vma = vma.next
    return False


def _behave(mm: Mm, vma: Vma, prev: Vma, start: int, end: int, advice: int) -> Vma | int:
    if vma.attrs.vm_flags & VM_SEALED and _refused_by_seal(mm, vma, advice):
        return -EPERM
    if advice in _GUARD:
        error = _guard(mm, vma, start, end, install=advice == uapi.MADV_GUARD_INSTALL)
        return -error if error else vma
    on_pages = _ON_PAGES.get(advice)
    if on_pages is not None:
        error = on_pages(mm, vma)
        return -error if error else vma
    new = _new_flags(mm, vma, advice)
    if new < 0:
        return new
    changed = update_vma(mm, vma, prev, start, end, new, vma.attrs.anon_name)
    return -EAGAIN if changed == -ENOMEM else changed


def update_vma(mm: Mm, vma: Vma, prev: Vma, start: int, end: int, new: int, name: str | None) -> Vma | int:
    """madvise_update_vma(): also what PR_SET_VMA_ANON_NAME comes to."""
    if new == vma.attrs.vm_flags and name == vma.attrs.anon_name:
        return vma
    changed = vma_modify_flags_name(mm.vmi, prev, vma, start, end, new, name)
    if isinstance(changed, int):
        return changed
    write_flags(mm, changed, new)
    write_name(mm, changed, name)
    return changed


def _new_flags(mm: Mm, vma: Vma, advice: int) -> int:
    """The vm_flags that an advice asks for, or -EINVAL."""
    flags = vma.attrs.vm_flags
    if advice == uapi.MADV_NORMAL:
        return flags & ~(VM_RAND_READ | VM_SEQ_READ)
    if advice == uapi.MADV_SEQUENTIAL:
        return flags & ~VM_RAND_READ | VM_SEQ_READ
    if advice == uapi.MADV_RANDOM:
        return flags & ~VM_SEQ_READ | VM_RAND_READ
    if advice == uapi.MADV_DONTFORK:
        return flags | VM_DONTCOPY
    if advice == uapi.MADV_DOFORK:
        refused = VM_SPECIAL if mm.rules.dofork_refuses_special else VM_IO
        return -EINVAL if flags & refused else flags & ~VM_DONTCOPY
    if advice == uapi.MADV_WIPEONFORK:
        return -EINVAL if vma.has_file or flags & VM_SHARED else flags | VM_WIPEONFORK
    if advice == uapi.MADV_KEEPONFORK:
        return -EINVAL if flags & VM_DROPPABLE else flags & ~VM_WIPEONFORK
    if advice == uapi.MADV_DONTDUMP:
        return flags | VM_DONTDUMP
    if advice == uapi.MADV_DODUMP:
        special = flags & VM_SPECIAL and not flags & VM_HUGETLB
        return -EINVAL if special or flags & VM_DROPPABLE else flags & ~VM_DONTDUMP
    if advice == uapi.MADV_MERGEABLE:
        return flags | VM_MERGEABLE if ksm_compatible(flags, vma.attrs.vm_file) else flags
    if advice == uapi.MADV_UNMERGEABLE:
        return flags & ~VM_MERGEABLE
    if advice == uapi.MADV_HUGEPAGE:
        return flags & ~VM_NOHUGEPAGE | VM_HUGEPAGE
    return flags & ~VM_HUGEPAGE | VM_NOHUGEPAGE


def _dontneed(mm: Mm, vma: Vma) -> int:
    return EINVAL if vma.attrs.vm_flags & (VM_PFNMAP | VM_LOCKED) else 0


def _dontneed_locked(mm: Mm, vma: Vma) -> int:
    return EINVAL if vma.attrs.vm_flags & VM_PFNMAP else 0


def _free(mm: Mm, vma: Vma) -> int:
    if vma.attrs.vm_flags & (VM_PFNMAP | VM_LOCKED | VM_HUGETLB) or not vma.is_anonymous:
        return EINVAL
    return 0


def _lru(mm: Mm, vma: Vma) -> int:
    return EINVAL if vma.attrs.vm_flags & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB) else 0


def _willneed(mm: Mm, vma: Vma) -> int:
    if not vma.has_file:
        return 0  # CONFIG_SWAP; without it EBADF
    return EBADF if mm.fails(EBADF) else 0


def _remove(mm: Mm, vma: Vma) -> int:
    """madvise_remove(): punches a hole in a shared writable file mapping."""
    flags = vma.attrs.vm_flags
    if flags & VM_LOCKED or not vma.has_file:
        return EINVAL
    if not flags & VM_SHARED or not flags & VM_MAYWRITE:
        return EACCES
    if mm.observed and mm.expect_errno not in (0, ENOMEM):
        return mm.expect_errno  # the file system's answer (EOPNOTSUPP, seals, …)
    return 0


def _guard(mm: Mm, vma: Vma, start: int, end: int, *, install: bool) -> int:
    """madvise_guard_install() and _remove() of a part of one VMA."""
    flags = vma.attrs.vm_flags
    if flags & (VM_SPECIAL | VM_HUGETLB | (VM_LOCKED if install else 0)):
        return EINVAL
    if not mm.rules.guard_any_mapping and not (vma.is_anonymous and flags & VM_MAYWRITE):
        return EINVAL
    if not install:
        mm.guards.drop(start, end)
        return 0
    if mm.rules.maybe_guard_flag and not vma.attrs.vm_flags & VM_MAYBE_GUARD:
        vma.attrs = vma.attrs.with_flags(vma.attrs.vm_flags | VM_MAYBE_GUARD)
        mm.touch(vma)
    if vma.is_anonymous or not mm.rules.maybe_guard_flag:
        anon_vma_prepare(mm, vma)  # so that fork copies the page tables: without the flag any VMA needs one
    mm.guards.add(start, end)
    mm.note_page_tables(start, end)
    return 0


def _collapse(mm: Mm, vma: Vma) -> int:
    if vma.attrs.vm_flags & (VM_SPECIAL | VM_HUGETLB):  # VM_NO_KHUGEPAGED
        return EINVAL
    for errno in (EINVAL, EAGAIN, 16, EIO, EFAULT):
        if mm.fails(errno):
            return errno
    return 0


# advice that concerns pages and changes no VMA: whether it is refused (errno or 0)
_ON_PAGES: Final[dict[int, Callable[[Mm, Vma], int]]] = {
    uapi.MADV_DONTNEED: _dontneed,
    uapi.MADV_DONTNEED_LOCKED: _dontneed_locked,
    uapi.MADV_FREE: _free,
    uapi.MADV_COLD: _lru,
    uapi.MADV_PAGEOUT: _lru,
    uapi.MADV_WILLNEED: _willneed,
    uapi.MADV_REMOVE: _remove,
    uapi.MADV_COLLAPSE: _collapse,
}


def sys_process_madvise(
    mm: Mm, iov: list[tuple[int, int]] | None, advice: int, flags: int, *, same_mm: bool = True
) -> int:
    """Returns the bytes advised or -errno. Only the own mm can change, and only since 6.13.

    same_mm: whose mm the pidfd names. A trace shows it by the answer: advice that changes VMAs is EINVAL of another.
    """
    if flags:
        return -EINVAL
    own = same_mm and mm.rules.process_madvise_self
    if not own and advice not in _OTHER_MM:
        return -EINVAL
    if mm.observed and mm.expect_errno and (not own or mm.expect_errno in (EBADF, EFAULT, EPERM, ESRCH)):
        return -mm.expect_errno  # of the pidfd, of what the caller may, or of the vector: before anything is done
    if iov is None or not own:
        if not mm.observed:
            return 0
        return -mm.expect_errno if mm.expect_errno else (mm.expect_result or 0)
    done = 0
    for start, length in iov:
        error = sys_madvise(mm, start, length, advice)
        if error < 0:
            return done or error
        done += length
    return done
