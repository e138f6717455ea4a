"""Lines of /proc/PID/maps, byte for byte. Source: show_vma_header_prefix(), show_map_vma(), seq_pad()."""

from __future__ import annotations

from collections.abc import Iterable

from vmastore.events.types import ObservedVma

NAME_COLUMN = 73  # where the name begins, unless the columns before it are wider


def maps_line(vma: ObservedVma) -> str:
    """One line, without its newline. What is unknown (an empty dev, a negative offset or inode) is `?`.

    A VMA without a name ends in the blank that follows its inode, as the kernel prints it.
    """
    offset = "?" * 8 if vma.offset < 0 else f"{vma.offset:08x}"
    inode = "?" if vma.inode < 0 else str(vma.inode)
    head = f"{vma.start:08x}-{vma.end:08x} {vma.perms} {offset} {vma.dev or '??:??'} {inode} "
    if not vma.name:
        return head
    return f"{head:<{NAME_COLUMN - 1}} {vma.name}"


def maps_lines(vmas: Iterable[ObservedVma]) -> str:
    """The whole file."""
    return "".join(f"{maps_line(vma)}\n" for vma in vmas)
