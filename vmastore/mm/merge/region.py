"""New mappings: mmap_region, do_brk_flags, copy_vma, and the growth of a stack.

As in the series' own tree these live beside the merge code and use its private parts.
"""

from __future__ import annotations

from errno import ENOMEM
from typing import Final

from vmastore.mm.accounting import accountable
from vmastore.mm.flags import (
    PAGE_SHIFT,
    VM_ACCOUNT,
    VM_DROPPABLE,
    VM_HUGETLB,
    VM_LOCKED_MASK,
    VM_MERGEABLE,
    VM_NORESERVE,
    VM_SHARED,
    VM_SPECIAL,
    VM_WRITE,
)
from vmastore.mm.ksm import ksm_compatible
from vmastore.mm.merge.new_range import closes_hole, vma_merge_new_range
from vmastore.mm.merge.split import split_vma
from vmastore.mm.merge.unmap import free_pgtables, gather
from vmastore.mm.mm import Mm, VmaIterator
from vmastore.mm.outcome import Decision, Reason, new
from vmastore.mm.unknown import write_open
from vmastore.mm.vma import File, Vma, VmaAttrs

API: Final = "mmap_region"
_COUNTED: Final = VM_HUGETLB | VM_NORESERVE | VM_SHARED | VM_WRITE
UFFD_NO_EVENT: Final = Reason("uffd", "the moved VMA's context has no EVENT_REMAP")


def mmap_region(
    vmi: VmaIterator,
    addr: int,
    length: int,
    vm_flags: int,
    file: File | None,
    pgoff: int,
    make_file: str | None = None,
    added_flags: int = 0,
    late_errno: int = 0,
    late_commit: bool = False,
    hook_errno: int = 0,
) -> int:
    """Map [addr, addr+length) over whatever is there. Returns 0 or -errno. Source: mmap_region().

    pgoff: pages. make_file: path of the file that the mapping gets after the merge attempt (shared
    anonymous memory: it never merges). added_flags: what the driver's mmap hook sets.
    late_errno: the kernel answered so after the edges were split (a limit the model cannot see);
    late_commit: it was the commit limit, which releases before 6.12 check when the range is unmapped.
    hook_errno: what the file's mmap hook answered, if it is asked: the range stays unmapped.
    """
    mm = vmi.mm
    end = addr + length
    rules = mm.rules
    if late_errno and not (rules.gather_before_limits or late_commit):
        return -late_errno
    if file is None:  # accountable() in short
        if vm_flags & _COUNTED == VM_WRITE:
            vm_flags |= VM_ACCOUNT
    elif vm_flags & VM_ACCOUNT == 0 and accountable(vm_flags, file):
        vm_flags |= VM_ACCOUNT
    if mm.merge_any and rules.ksm_new_maps_merge and ksm_compatible(vm_flags, file):
        vm_flags |= VM_MERGEABLE
    delta = pgoff - (addr >> PAGE_SHIFT)
    table = mm.env.table
    attrs = table.plain(vm_flags) if file is None and not delta else table.get(vm_flags, file, delta=delta)
    nxt = mm.index.find(addr)
    gone: list[Vma] | None = None  # what is mapped there: it goes, or the new VMA takes its place
    if nxt.vm_start >= end:
        prev = nxt.prev
    else:
        if (
            nxt.vm_start < addr
            and end < nxt.vm_end
            and file is None
            and not (late_errno or mm.env.soft_dirty)
            and closes_hole(mm, nxt, addr, end, attrs, API, not rules.mmap_merge_new_range)
        ):
            free_pgtables(mm, addr, end, addr, end, addr, end)
            return 0
        gathered = gather(mm, nxt, addr, end)
        if isinstance(gathered, int):
            return gathered if rules.gather_before_limits else -ENOMEM
        if late_errno and rules.gather_before_limits:
            return -late_errno
        gone = gathered
        prev, nxt = gone[0].prev, gone[-1].next
        free_pgtables(mm, addr, end, prev.vm_end, nxt.vm_start, gone[0].vm_start, gone[-1].vm_end)
    if late_errno:
        if gone:
            mm.remove_run(gone)
        return -late_errno
    merged, why_prev, why_next, certain = vma_merge_new_range(
        mm, prev, nxt, addr, end, attrs, API, None, False, not rules.mmap_merge_new_range, gone
    )
    if merged is None:
        if hook_errno:  # a range that merges asks no mmap hook
            if gone:
                mm.remove_run(gone)
            return -hook_errno
        if make_file is not None:
            attrs = table.get(vm_flags, mm.kernel_file(make_file, length), delta=delta)
        if added_flags:
            attrs = attrs.with_flags(vm_flags | added_flags)
            if rules.second_merge_attempt and prev is not mm.head:
                merged, why_prev, why_next, certain = vma_merge_new_range(
                    mm, prev, nxt, addr, end, attrs, API, None, False, False, gone
                )
    if merged is None:
        merged = Vma(addr, end, attrs)
        if gone:
            mm.replace_run(gone, merged)
        else:
            mm.insert_after(prev, merged)
        fields = (API, "none", addr, end, "", why_prev, why_next, None, 0, 0, certain)
        mm.decisions.append(new(Decision, fields))
        if mm.merge_any and not rules.ksm_new_maps_merge and ksm_compatible(attrs.vm_flags, attrs.vm_file):
            merged.attrs = merged.attrs.with_flags(merged.attrs.vm_flags | VM_MERGEABLE)
    if vm_flags & VM_LOCKED_MASK or mm.env.soft_dirty:
        flags = merged.attrs.vm_flags | mm.env.soft_dirty
        if flags & VM_LOCKED_MASK and flags & (VM_SPECIAL | VM_HUGETLB | VM_DROPPABLE):
            flags &= ~VM_LOCKED_MASK
        if flags != merged.attrs.vm_flags:
            merged.attrs = merged.attrs.with_flags(flags)
    mm.index.cached = merged
    return 0


def do_brk_flags(vmi: VmaIterator, addr: int, length: int, vm_flags: int) -> int:
    """Grow the heap by [addr, addr+length): only the VMA below may take it. Source: do_brk_flags().

    Returns 0 or -ENOMEM (map limit). Assumes the range is free.
    """
    mm = vmi.mm
    if mm.map_count > mm.config.max_map_count:
        return -ENOMEM
    if mm.merge_any and mm.rules.ksm_new_maps_merge:
        vm_flags |= VM_MERGEABLE
    attrs = mm.env.table.get(vm_flags)
    nxt = mm.find_vma(addr)
    prev = nxt.prev
    low = prev if prev.vm_end > mm.start_brk else mm.head  # nothing below start_brk is looked at
    merged, why_prev, why_next, certain = vma_merge_new_range(
        mm, low, nxt, addr, addr + length, attrs, "do_brk_flags", None, True
    )
    if merged is None:
        merged = Vma(addr, addr + length, attrs)
        mm.insert_after(prev, merged)
        fields = ("do_brk_flags", "none", addr, addr + length, "", why_prev, why_next, None, 0, 0, certain)
        mm.decisions.append(new(Decision, fields))
        if mm.merge_any and not mm.rules.ksm_new_maps_merge:
            merged.attrs = merged.attrs.with_flags(merged.attrs.vm_flags | VM_MERGEABLE)
    merged.attrs = merged.attrs.with_flags(merged.attrs.vm_flags | mm.env.soft_dirty)
    return 0


def copy_vma(
    vmi: VmaIterator, vma: Vma, addr: int, length: int, old_addr: int, *, dontunmap: bool
) -> tuple[Vma, Vma] | None:
    """Make the copy of vma at [addr, addr+length) that mremap moves into. Source: copy_vma().

    old_addr: where the moved part of vma begins. Returns (the copy, or the VMA it merged into; vma,
    which is that same one if it merged with itself), or None if the target is not free.
    """
    mm = vmi.mm
    rules = mm.rules
    end = addr + length
    if mm.find_vma_intersection(addr, end) is not None:
        return None
    attrs = copied_attrs(mm, vma, addr, old_addr)
    nxt = mm.find_vma(addr)
    prev = nxt.prev
    api = "vma_merge_new_vma"
    ctx = attrs.uffd
    broken_uffd = rules.uffd_merge_needs_event_remap and ctx is not None and not ctx.features & 4
    if dontunmap and rules.dontunmap_no_self_merge and vma.is_anonymous and vma.anon_vma is None:
        low, high = _without_self(mm, prev, nxt, vma, addr, end)
    else:
        low, high = prev, nxt
    merged: Vma | None = None
    why_prev: Reason | None = UFFD_NO_EVENT
    why_next: Reason | None = UFFD_NO_EVENT
    certain = True
    if not broken_uffd:
        merged, why_prev, why_next, certain = vma_merge_new_range(mm, low, high, addr, end, attrs, api, vma)
    if merged is not None:
        source = merged if merged.vm_start <= vma.vm_start < merged.vm_end else vma
        return merged, source
    copy = Vma(addr, end, attrs, vma.anon_vma, vma.chain, vma.label)
    copy.unsure, copy.base = vma.unsure, vma.base
    certain = certain and not (attrs.vm_file is not None and attrs.open_offset)  # /proc/PID/maps shows the offset
    mm.insert_after(prev, copy)
    mm.decisions.append(new(Decision, (api, "none", addr, end, "", why_prev, why_next, None, 0, 0, certain)))
    return copy, vma


def _without_self(mm: Mm, prev: Vma, nxt: Vma, vma: Vma, addr: int, end: int) -> tuple[Vma, Vma]:
    """The neighbours of a copy that must not merge with its source; up to 6.11, if they touch, with neither."""
    if not mm.rules.mmap_merge_new_range:
        return (mm.head, mm.tail) if addr == vma.vm_end or end == vma.vm_start else (prev, nxt)
    return (mm.head if prev is vma else prev), (mm.tail if nxt is vma else nxt)


def copied_attrs(mm: Mm, vma: Vma, addr: int, old_addr: int) -> VmaAttrs:
    """The attributes of a copy at addr: an unwritten anonymous one takes the offset of its new place.

    Where the trace leaves open whether it was written, so it does the copy's offset.
    """
    shift = (old_addr - addr) >> PAGE_SHIFT
    attrs = vma.attrs
    if vma.is_anonymous:
        moved = attrs.delta + shift
        delta = 0 if vma.anon_vma is None else moved
        other = attrs.open_offset if delta else 0
        if write_open(vma):
            other = moved or attrs.open_offset if vma.anon_vma is None else -moved
        mm.env.open_offsets |= other != 0
        return attrs.with_delta(delta, other)
    anon_delta = 0
    if mm.rules.anon_pgoff_private_file and vma.is_private_file and vma.anon_vma is not None:
        anon_delta = attrs.anon_delta + shift
    return attrs.with_delta(attrs.delta + shift, anon_delta)


def expand_stack(vmi: VmaIterator, vma: Vma, addr: int) -> None:
    """Let a GROWSDOWN VMA begin at the page of addr; no merge is tried. Source: expand_downwards()."""
    vmi.mm.set_start(vma, addr & -4096)


def isolate_vma(vmi: VmaIterator, vma: Vma, start: int, end: int) -> Vma | int:
    """Split [start, end) off vma without changing it; part of mremap's copy. Returns it or -errno."""
    mm = vmi.mm
    if vma.vm_start < start:
        part = split_vma(mm, vma, start, True, "copy_vma")
        if isinstance(part, int):
            return part
    if vma.vm_end > end:
        part = split_vma(mm, vma, end, False, "copy_vma")
        if isinstance(part, int):
            return part
    return vma
