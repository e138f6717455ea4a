"""An address space as /proc/PID/maps and smaps show it. Source: show_map_vma(), get_vma_name()."""

from __future__ import annotations

from typing import Final

from vmastore.events import ObservedVma
from vmastore.mm.flags import PAGE_SHIFT, VM_LOCKONFAULT, perms, vmflags_letters
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma

_new: Final = tuple.__new__  # a NamedTuple without the cost of its keyword arguments


def vma_name(mm: Mm, vma: Vma) -> str:
    """The name column of one VMA; a file whose path the trace does not show is `?`."""
    attrs = vma.attrs
    file = attrs.vm_file
    if file is not None and file.kind != "special":
        if attrs.anon_name is not None:
            return f"[anon_shmem:{attrs.anon_name}]"
        return "?" if file.path is None else file.path
    if vma.label is not None:
        return vma.label
    if _is_heap(mm, vma):
        return "[heap]"
    if mm.start_stack and vma.vm_start <= mm.start_stack and vma.vm_end >= mm.start_stack:
        return "[stack]"
    return "" if attrs.anon_name is None else f"[anon:{attrs.anon_name}]"


def _is_heap(mm: Mm, vma: Vma) -> bool:
    if not mm.start_brk and not mm.brk:
        return False
    if mm.rules.heap_label_touching:
        return vma.vm_start <= mm.brk and vma.vm_end >= mm.start_brk
    return vma.vm_start < mm.brk and vma.vm_end > mm.start_brk


def letters(mm: Mm, vma: Vma) -> str:
    """The VmFlags of smaps, in the kernel's order."""
    text = vmflags_letters(vma.attrs.vm_flags)
    if vma.attrs.vm_flags & VM_LOCKONFAULT and not mm.rules.smaps_names_lockonfault:
        text = text.replace("lf", "??")
    return text


def observe(mm: Mm, vma: Vma) -> ObservedVma:
    """One VMA as a line of maps, with its VmFlags."""
    attrs = vma.attrs
    file = attrs.vm_file
    if file is None or file.kind == "special":
        offset, dev, inode = 0, "00:00", 0
    else:
        offset, dev = vma.vm_pgoff << PAGE_SHIFT, file.dev or "?"
        inode = -1 if file.inode is None else file.inode
    name, flags = vma_name(mm, vma), letters(mm, vma)
    return _new(ObservedVma, (vma.vm_start, vma.vm_end, perms(attrs.vm_flags), offset, dev, inode, name, flags, None))


def observed(mm: Mm) -> list[ObservedVma]:
    """The whole address space, by address."""
    return [observe(mm, vma) for vma in mm.vmas()]
