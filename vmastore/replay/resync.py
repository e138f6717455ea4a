"""Taking an observation over where the replay differed from it, and copying address spaces."""

from __future__ import annotations

from collections.abc import Iterable

from vmastore.events import ObservedVma
from vmastore.mm.flags import PAGE_SHIFT, VM_SHARED, VM_SOFTDIRTY, VM_UFFD_FLAGS
from vmastore.mm.mm import Mm
from vmastore.mm.unknown import UNSURE, UNSURE_FORKED, UNSURE_PIECE
from vmastore.mm.vma import File, Vma
from vmastore.replay.baseline import Builder, Identity, line_flags, set_labels

ELSEWHERE = -1 << 60  # pages: any other offset; no VMA has it, so that the other answer is to merge with none


def is_elsewhere(vma: Vma) -> bool:
    """Whether one of the page offsets that it may have stands for all others: it explains much, settles nothing."""
    return abs(vma.attrs.open_offset) > -ELSEWHERE >> 1


def clone_mm(mm: Mm) -> Mm:
    """An independent copy of an address space: same attributes, anon_vmas and unknowns."""
    copy = Mm(mm.env, mm.number)
    last = copy.head
    for vma in mm.vmas():
        twin = Vma(vma.vm_start, vma.vm_end, vma.attrs, vma.anon_vma, vma.chain, vma.label)
        twin.unsure, twin.base = vma.unsure, vma.base
        copy.insert_after(last, twin)
        last = twin
    copy.start_brk, copy.brk, copy.start_stack = mm.start_brk, mm.brk, mm.start_stack
    copy.def_flags, copy.merge_any, copy.mdwe, copy.persona = mm.def_flags, mm.merge_any, mm.mdwe, mm.persona
    copy.rlimits, copy.exec_rlimits = mm.rlimits, mm.exec_rlimits
    copy.attached, copy.complete, copy.inferred = mm.attached, mm.complete, mm.inferred
    copy.imaged = mm.imaged
    copy.pmds = set(mm.pmds)
    copy.guards = mm.guards.copy()
    copy.dirty = None if mm.dirty is None else []
    return copy


def resync(mm: Mm, lines: Iterable[ObservedVma], images: dict[Identity, File]) -> None:
    """Make mm show `lines`; VMAs that already do stay as they are, the others are rebuilt.

    A rebuilt VMA takes what an observation does not show (anon_vma, policy, the open file
    description) from the one it overlaps most; where mappings were moved that may have been written
    before, its page offset may be another.
    """
    lines = list(lines)
    wanted = {line.start: line for line in lines}
    stale = [v for v in mm.vmas() if not _same(mm, v, wanted.get(v.vm_start))]
    for vma in stale:
        mm.remove(vma)
    builder = Builder(mm, images)
    for line in lines:
        if mm.vma_lookup(line.start) is None:
            fresh = builder.vma(line)
            _inherit(fresh, line, stale)
            attrs = fresh.attrs
            if mm.env.faults != "recorded" and not attrs.vm_flags & VM_SHARED and not attrs.special:
                fresh.unsure = _nothing_known(fresh)  # what the replay knew was wrong, the trace does not show more
                fresh.base = None
                if mm.env.open_offsets and fresh.is_anonymous and not attrs.open_offset:
                    fresh.attrs = attrs.with_delta(attrs.delta, ELSEWHERE - (fresh.vm_start >> PAGE_SHIFT))
            mm.insert(fresh)
    set_labels(mm, lines)


def _nothing_known(vma: Vma) -> int:
    """What a VMA may be of which all that was taken for known may be wrong: also inherited, if it may have been."""
    forked = vma.base is not None and not vma.base.own
    return vma.unsure & UNSURE_FORKED | UNSURE | UNSURE_PIECE | (UNSURE_FORKED if forked else 0)


def _same(mm: Mm, vma: Vma, line: ObservedVma | None) -> bool:
    if line is None or vma.vm_end != line.end:
        return False
    file = vma.attrs.vm_file
    if file is not None and file.kind != "special" and vma.vm_pgoff << PAGE_SHIFT != line.offset:
        return False
    if (file is None) != (line.inode == 0 and line.dev in ("00:00", "")) and (file is None or file.kind != "special"):
        return False
    if line.vm_flags is None:
        return not (vma.attrs.vm_flags ^ line_flags(line)) & 0x87
    return not (vma.attrs.vm_flags ^ line_flags(line)) & ~VM_SOFTDIRTY


def _inherit(fresh: Vma, line: ObservedVma, stale: list[Vma]) -> None:
    best, most = None, 0
    for old in stale:
        shared = min(old.vm_end, fresh.vm_end) - max(old.vm_start, fresh.vm_start)
        if shared > most:
            best, most = old, shared
    if best is None:
        return
    attrs, old_attrs = fresh.attrs, best.attrs
    if line.vm_flags is None:
        keep = old_attrs.vm_flags & ~0x87 | attrs.vm_flags & 0x87
        attrs = attrs.with_flags(keep)
    if old_attrs.vm_policy is not None:
        attrs = attrs.with_policy(old_attrs.vm_policy)
    if old_attrs.uffd is not None and attrs.vm_flags & VM_UFFD_FLAGS:
        attrs = attrs.with_uffd(attrs.vm_flags, old_attrs.uffd)
    file, old_file = attrs.vm_file, old_attrs.vm_file
    if file is not None and old_file is not None and old_file.kind != "special":
        same = old_file.inode in (None, file.inode) and old_file.path in (None, file.path)
        if same:
            attrs = attrs.table.get(
                attrs.vm_flags, old_file, attrs.vm_policy, attrs.uffd, attrs.anon_name, attrs.delta, attrs.anon_delta
            )
    elif file is None and old_file is None:
        attrs = attrs.with_delta(old_attrs.delta, old_attrs.anon_delta)
    fresh.attrs = attrs
    if fresh.anon_vma is None:
        fresh.anon_vma, fresh.chain = best.anon_vma, best.chain
        fresh.unsure, fresh.base = best.unsure, best.base
