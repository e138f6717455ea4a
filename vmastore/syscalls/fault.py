"""Page faults: what gives a VMA its anon_vma, and what grows a stack.

Sources: anon_vma_prepare(), find_mergeable_anon_vma(), do_user_addr_fault(), expand_downwards(),
populate_vma_page_range(), do_huge_pmd_anonymous_page().
"""

from __future__ import annotations

from typing import Final

from vmastore.mm.flags import (
    PAGE_MASK,
    PAGE_SHIFT,
    PAGE_SIZE,
    PMD_SIZE,
    VM_ACCESS_FLAGS,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_HUGEPAGE,
    VM_IO,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MAYBE_GUARD,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_READ,
    VM_SHARED,
    VM_UFFD_MISSING,
    VM_WRITE,
)
from vmastore.mm.merge import expand_stack
from vmastore.mm.mm import MOST_NOTED, Mm
from vmastore.mm.unknown import UNSURE_BASE, UNSURE_FORKED, UNSURE_KINDS, UNSURE_PIECE
from vmastore.mm.vma import AnonVma, BaseAnon, Vma

_NOT_COMPARED: Final = VM_ACCESS_FLAGS
_STACK_LIMIT: Final = 8 << 20  # bytes: RLIMIT_STACK as systems set it


def anon_vma_prepare(mm: Mm, vma: Vma) -> None:
    """Give a VMA its anon_vma: the next or the previous neighbour's if it fits, else a new one."""
    lent = False
    if vma.anon_vma is None:
        shared = _reusable(mm, vma, vma, vma.next, vma.next) or _reusable(mm, vma.prev, vma, vma.prev, vma)
        vma.anon_vma = shared or AnonVma()
        vma.chain = (vma.anon_vma,)
        lent = shared is not None
    if vma.unsure:
        _now_written(vma, lent)


def _now_written(vma: Vma, lent: bool) -> None:
    """It is written, and may have been before, unseen: when a neighbour's anon_vma fitted, or in the parent."""
    was = vma.unsure
    vma.unsure &= UNSURE_BASE
    if not was & UNSURE_KINDS or vma.base is not None:
        return
    open_still = was & (UNSURE_PIECE | UNSURE_FORKED)  # inherited, it has a chain of two or more
    if open_still or _may_share(vma.prev, vma, vma.prev) or _may_share(vma, vma.next, vma.next):
        vma.unsure = UNSURE_BASE
        vma.base = BaseAnon(True, own=not was & UNSURE_FORKED, late=True, lent=lent)


def _may_share(low: Vma, high: Vma, other: Vma) -> bool:
    """Whether two touch, alike but for flags and policy, which may have been others; and `other` may be written."""
    if low.vm_end != high.vm_start or (other.anon_vma is None and not other.unsure):
        return False
    a, b = low.attrs, high.attrs
    return a.vm_file is b.vm_file and a.delta == b.delta and a.anon_delta == b.anon_delta


def becomes_writable(mm: Mm, vma: Vma) -> None:
    """A private VMA became writable: whether it is written may be unknown from here on."""
    faults = mm.env.faults
    if faults == "written":
        anon_vma_prepare(mm, vma)
    if faults != "recorded":
        vma.unsure |= not vma.unsure & 3


def _reusable(mm: Mm, low: Vma, high: Vma | None, old: Vma, upper: Vma) -> AnonVma | None:
    """The anon_vma of `old`, if low and upper touch and are alike (reusable_anon_vma)."""
    if old.anon_vma is None or len(old.chain) != 1 or low.vm_end != upper.vm_start:
        return None
    a, b = low.attrs, upper.attrs
    ignored = _NOT_COMPARED | mm.env.table.ignored
    alike = (
        a.vm_policy == b.vm_policy
        and a.vm_file is b.vm_file
        and not (a.vm_flags ^ b.vm_flags) & ~ignored
        and a.delta == b.delta
        and a.anon_delta == b.anon_delta
    )
    return old.anon_vma if alike else None


def fault(mm: Mm, addr: int, length: int, write: bool, outcome: str | None = None) -> int:
    """Access one byte of each page of [addr, addr+length), upwards. Returns how many were refused.

    outcome: what the process saw, a character a page ('.' served); a page that was refused for a
    reason the model cannot see still prepared its VMA, as one beyond the end of its file does.
    """
    if outcome is None and 0 < length <= PAGE_SIZE:
        return 0 if _fault_page(mm, addr, write, ".") else 1
    refused = 0
    pages = (length + PAGE_SIZE - 1) >> PAGE_SHIFT if outcome is None else len(outcome)
    for n in range(pages):
        refused += not _fault_page(mm, addr + (n << PAGE_SHIFT), write, "." if outcome is None else outcome[n])
    return refused


def _fault_page(mm: Mm, addr: int, write: bool, seen: str) -> bool:
    """seen: '.' served, 'S' SIGSEGV (a guard page, if the VMA permits the access), 'B' SIGBUS."""
    vma = mm.index.find(addr)
    if vma.vm_start > addr:
        if not vma.attrs.vm_flags & VM_GROWSDOWN or not grow_stack(mm, vma, addr, sure=seen == "."):
            return False
        vma = mm.find_vma(addr)
    if seen == "S" or (mm.guards.starts and addr in mm.guards):
        return False
    if not access_page(mm, vma, addr, write) or seen != ".":
        return False
    return vma.attrs.vm_file is None or not mm.env.fs_known or addr < file_end(vma)


def access_page(mm: Mm, vma: Vma, addr: int, write: bool) -> bool:
    """handle_mm_fault() as far as VMAs go. Returns whether the access is permitted."""
    flags = vma.attrs.vm_flags
    if not flags & (VM_WRITE if write else VM_READ | VM_WRITE | VM_EXEC):
        return False
    if flags & VM_SHARED or (vma.anon_vma is not None and not vma.unsure):
        mm.pmds.add(addr // PMD_SIZE)
        return True
    if write or huge_zero_page(mm, vma, addr):
        anon_vma_prepare(mm, vma)
    if not (flags & VM_UFFD_MISSING):
        mm.pmds.add(addr // PMD_SIZE)
    return True


def huge_zero_page(mm: Mm, vma: Vma, addr: int) -> bool:
    """Whether a read fault would map a huge page, which prepares the anon_vma as a write does."""
    config = mm.config
    if not config.hugepage or config.thp == "never" or addr // PMD_SIZE in mm.pmds:
        return False
    flags = vma.attrs.vm_flags
    if flags & VM_NOHUGEPAGE or (config.thp == "madvise" and not flags & VM_HUGEPAGE):
        return False
    start = addr & ~(PMD_SIZE - 1)
    return vma.is_anonymous and vma.vm_start <= start and start + PMD_SIZE <= vma.vm_end


def grow_stack(mm: Mm, vma: Vma, addr: int, *, sure: bool = False) -> bool:
    """Extend a GROWSDOWN VMA down to addr's page. False: refused (guard gap, limit, minimum address).

    sure: the trace shows that it grew, so RLIMIT_STACK, if it is not known, was not in the way.
    """
    addr &= PAGE_MASK
    if addr < mm.config.mmap_min_addr:
        return False
    prev = vma.prev
    if prev is not mm.head and not prev.attrs.vm_flags & VM_GROWSDOWN:
        gap = mm.config.stack_guard_gap << PAGE_SHIFT
        if prev.attrs.vm_flags & VM_ACCESS_FLAGS and addr - prev.vm_end < gap:
            return False
    limit = mm.rlimits.get("STACK", -1 if sure else _STACK_LIMIT)
    if 0 <= limit < vma.vm_end - addr:
        return False
    if (vma.vm_start - addr) >> PAGE_SHIFT > vma.vm_pgoff or _over_as(mm, vma.vm_start - addr):
        return False
    anon_vma_prepare(mm, vma)
    start = vma.vm_start
    expand_stack(mm.vmi, vma, addr)
    if vma.attrs.vm_flags & VM_LOCKED:
        populate_vma(mm, vma, addr, start)
    return True


def _over_as(mm: Mm, more: int) -> bool:
    """may_expand_vm(): whether that many bytes more exceed RLIMIT_AS, where it is known."""
    limit = mm.rlimits.get("AS", -1)
    return limit >= 0 and (sum(v.vm_end - v.vm_start for v in mm.vmas()) + more) >> PAGE_SHIFT > limit >> PAGE_SHIFT


def populate_vma(mm: Mm, vma: Vma, start: int, end: int) -> bool:
    """Fault [start, end) of one VMA in (populate_vma_page_range). False: it may not be accessed."""
    flags = vma.attrs.vm_flags
    if flags & VM_LOCKONFAULT:
        return True
    if not flags & VM_ACCESS_FLAGS:
        return False
    if mm.guards.starts:
        guard = mm.guards.first(start, end)
        if guard < end:  # what lies below it is faulted in
            if start < guard:
                populate_vma(mm, vma, start, guard)
            return False
    write = flags & (VM_WRITE | VM_SHARED) == VM_WRITE
    if vma.anon_vma is None or vma.unsure:
        step = PMD_SIZE if not write and end - start <= MOST_NOTED else end - start
        addr = start
        while addr < end:
            access_page(mm, vma, addr, write)
            addr = (addr + step) & ~(PMD_SIZE - 1) if step == PMD_SIZE else end
    mm.note_page_tables(start, end)
    return end <= file_end(vma)


def file_end(vma: Vma) -> int:
    """The address at which the pages of a mapped file of known size end; behind it is SIGBUS."""
    file = vma.attrs.vm_file
    if file is None or file.size is None or vma.is_anonymous or file.is_huge:
        return vma.vm_end
    pages = (file.size + PAGE_SIZE - 1) >> PAGE_SHIFT
    return vma.vm_start + ((pages - vma.vm_pgoff) << PAGE_SHIFT)


def may_fault(mm: Mm, vma: Vma) -> bool:
    """Whether an access may end in SIGBUS or SIGSEGV that the model cannot see: a file of unknown
    size, a userfaultfd, guard pages that were there before the trace."""
    if vma.attrs.uffd is not None or vma.attrs.vm_flags & VM_MAYBE_GUARD:
        return True
    if mm.rules.guard_install and not mm.rules.maybe_guard_flag and vma.anon_vma is not None:
        return True
    return vma.attrs.vm_file is not None and vma.attrs.vm_file.size is None


def mm_populate(mm: Mm, start: int, end: int, *, ignore_errors: bool = True, failed: bool = False) -> bool:
    """Fault [start, end) in, VMA by VMA (__mm_populate). False: stopped at one not accessible.

    failed: the kernel said that it stopped: at the first VMA then where it may have, if the model sees no reason.
    """
    vma = mm.find_vma(start)
    while vma.vm_start < end:
        if not vma.attrs.vm_flags & (VM_IO | VM_PFNMAP):
            low, high = max(start, vma.vm_start), min(end, vma.vm_end)
            if not populate_vma(mm, vma, low, high) and not ignore_errors:
                return False
            if failed and may_fault(mm, vma):
                return False
        vma = vma.next
    return True
