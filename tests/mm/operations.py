"""What tests do to an address space through the merge/split API. Ranges are pages, [first, end)."""

from __future__ import annotations

from collections.abc import Callable

from layout import at, flag_bits

from vmastore.mm.flags import VM_ACCESS_FLAGS, VM_ACCOUNT
from vmastore.mm.merge import (
    copy_vma,
    do_brk_flags,
    do_vmi_munmap,
    mmap_region,
    vma_merge_extend,
    vma_merge_new_vma,
    vma_modify_flags,
)
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma
from vmastore.syscalls.common import write_flags

Op = Callable[[Mm], None]


def new(first: int, end: int, shade: str = "w", bits: int = 0) -> Op:
    """mmap over [first, end)."""
    return lambda mm: _ok(
        mmap_region(mm.vmi, at(first), at(end) - at(first), flag_bits(shade) | bits, None, at(first) >> 12)
    )


def modify(first: int, end: int, shade: str) -> Op:
    """mprotect of [first, end), which lies in one VMA, as mprotect_fixup does it."""

    def run(mm: Mm) -> None:
        vma, prev = target(mm, first)
        kept = vma.vm_flags & ~(VM_ACCESS_FLAGS | VM_ACCOUNT)
        flags = flag_bits(shade) | kept
        write_flags(mm, changed(vma_modify_flags(mm.vmi, prev, vma, at(first), at(end), flags)), flags)

    return run


def extend(page: int, pages: int) -> Op:
    """mremap in place: the VMA at `page` grows."""
    return lambda mm: _some(vma_merge_extend(mm.vmi, target(mm, page)[0], at(pages) - at(0)))


def copy(page: int, to: int) -> Op:
    """mremap's copy of the VMA at `page`; the source stays."""

    def run(mm: Mm) -> None:
        vma, _ = target(mm, page)
        _some(copy_vma(mm.vmi, vma, at(to), vma.vm_end - vma.vm_start, vma.vm_start, dontunmap=False))

    return run


def merge_new(first: int, end: int, like: int) -> Op:
    """vma_merge_new_vma of a range with the attributes of the VMA at page `like`; no VMA is made."""

    def run(mm: Mm) -> None:
        nxt = mm.find_vma(at(first))
        vma_merge_new_vma(mm.vmi, nxt.prev, nxt, at(first), at(end), target(mm, like)[0].attrs)

    return run


def brk(first: int, end: int) -> Op:
    """The heap grows by [first, end)."""
    return lambda mm: _ok(do_brk_flags(mm.vmi, at(first), at(end) - at(first), flag_bits("w")))


def unmap(first: int, end: int) -> Op:
    return lambda mm: _ok(do_vmi_munmap(mm.vmi, at(first), at(end)))


def target(mm: Mm, page: int) -> tuple[Vma, Vma]:
    """The VMA that holds a page, and the prev that callers pass with it."""
    vma = mm.vma_lookup(at(page))
    assert vma is not None
    return vma, vma if at(page) > vma.vm_start else vma.prev


def changed(found: Vma | int) -> Vma:
    assert isinstance(found, Vma)
    return found


def _some(found: object) -> None:
    assert found is not None


def _ok(error: int) -> None:
    assert error == 0
