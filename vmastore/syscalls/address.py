"""Where an mmap goes when neither the caller nor the trace says: top-down get_unmapped_area.

Sources: arch_get_unmapped_area_topdown(), vm_unmapped_area(), thp_get_unmapped_area().
"""

from __future__ import annotations

from errno import ENOMEM
from typing import Final

from vmastore.mm.flags import PAGE_MASK, PAGE_SHIFT, PMD_SIZE, TASK_SIZE, VM_GROWSDOWN
from vmastore.mm.mm import Mm
from vmastore.mm.vma import File, Vma
from vmastore.syscalls.uapi import MAP_32BIT

_LOW_32BIT: Final = 0x40000000
_HIGH_32BIT: Final = 0x80000000
_STACK_GAP: Final = 128 << 20  # the least distance of mmap_base from the top of the address space


def get_unmapped_area(mm: Mm, hint: int, length: int, flags: int, file: File | None) -> int:
    """The address the kernel would choose, or -ENOMEM. hint: bytes, 0 for none."""
    if hint:
        hint &= PAGE_MASK
        room = length
        if file is None and mm.rules.thp_align_ignores_hint and _thp_aligned(mm, length):
            room += PMD_SIZE
        if hint <= TASK_SIZE - room and _is_free(mm, hint, hint + room):
            return hint
    if flags & MAP_32BIT:
        return _bottom_up(mm, length, _LOW_32BIT, _HIGH_32BIT)
    base = mmap_base(mm)
    if file is None and _thp_aligned(mm, length):
        found = _top_down(mm, length + PMD_SIZE, base)
        if found > 0:
            return _align_within(found, length)
    found = _top_down(mm, length, base)
    return found if found > 0 else _bottom_up(mm, length, base // 3 & PAGE_MASK, TASK_SIZE)


def _thp_aligned(mm: Mm, length: int) -> bool:
    rules = mm.rules
    if not rules.thp_align_anon or not mm.config.hugepage or length < PMD_SIZE:
        return False
    return not rules.thp_align_multiple or length % PMD_SIZE == 0


def _align_within(addr: int, length: int) -> int:
    """The highest 2 MiB boundary in the padded hole that still leaves room for the mapping."""
    return (addr + PMD_SIZE) & ~(PMD_SIZE - 1) if addr % PMD_SIZE else addr + PMD_SIZE


def mmap_base(mm: Mm) -> int:
    """Below the stack and its gap; where no stack is known, below the greatest gap the kernel keeps."""
    stack = mm.tail.prev
    while stack is not mm.head and not stack.attrs.vm_flags & VM_GROWSDOWN:
        stack = stack.prev
    limit = mm.exec_rlimits.get("STACK", 8 << 20)
    gap = max(_STACK_GAP, min(limit if limit >= 0 else _STACK_GAP, TASK_SIZE // 6 * 5))
    top = stack.vm_end if stack is not mm.head else TASK_SIZE
    return (top - gap) & PAGE_MASK


def start_gap(mm: Mm, vma: Vma) -> int:
    """vm_start_gap(): a GROWSDOWN VMA keeps the guard gap below it free."""
    if vma.attrs.vm_flags & VM_GROWSDOWN:
        return max(0, vma.vm_start - (mm.config.stack_guard_gap << PAGE_SHIFT))
    return vma.vm_start


def _found_gap(mm: Mm, vma: Vma) -> int:
    """Where the search for a hole takes the room below vma to end."""
    return vma.vm_start if mm.rules.unmapped_area_no_guard_gap else start_gap(mm, vma)


def _is_free(mm: Mm, start: int, end: int) -> bool:
    vma = mm.find_vma(start)
    return start >= mm.config.mmap_min_addr and end <= start_gap(mm, vma)


def _top_down(mm: Mm, length: int, high: int) -> int:
    """The highest hole of `length` bytes that ends at or below high, or -ENOMEM.

    A hole under a GROWSDOWN VMA's guard gap is given up together with everything above that gap's
    lower end, smaller holes there included, as the kernel's retry does.
    """
    vma = mm.find_vma(high)
    while True:
        low = max(vma.prev.vm_end, mm.config.mmap_min_addr)
        end = min(high, vma.vm_start)
        if end - length >= low:
            if _found_gap(mm, vma) >= end:
                return end - length
            high = start_gap(mm, vma)
            vma = mm.find_vma(high)
            if vma.vm_start < high:
                high = vma.vm_start
            continue
        if vma.prev is mm.head:
            return -ENOMEM
        vma = vma.prev


def _bottom_up(mm: Mm, length: int, low: int, high: int) -> int:
    vma = mm.find_vma(low)
    start = low
    while start + length <= high:
        if start + length <= _found_gap(mm, vma):
            return start
        start = max(vma.vm_end, low)
        vma = vma.next
    return -ENOMEM
