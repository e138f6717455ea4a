"""Building an address space from an observation of it (a baseline, or after a difference)."""

from __future__ import annotations

from collections.abc import Iterable

from vmastore.events import ObservedVma
from vmastore.events.types import PSEUDO_FILES
from vmastore.mm.flags import (
    PAGE_SHIFT,
    VM_ACCOUNT,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_IO,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_PFNMAP,
    VM_SHARED,
    VM_WRITE,
    vmflags_from_letters,
    vmflags_from_perms,
)
from vmastore.mm.mm import Mm
from vmastore.mm.unknown import UNSURE, UNSURE_BASE
from vmastore.mm.vma import AnonVma, BaseAnon, File, Vma

# name -> flags besides the permissions, where smaps was not read
_SPECIAL = {
    "[vvar]": VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP,
    "[vvar_vclock]": VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP,
    "[vdso]": VM_DONTEXPAND,
    "[uprobes]": VM_DONTEXPAND,
}
Identity = tuple[str, int, str]  # dev, inode, path
UNKNOWN_INODE = -1  # of a line that nobody observed


class Builder:
    """Makes VMAs of observed lines; the lines of one file share one open file description."""

    def __init__(
        self, mm: Mm, files: dict[Identity, File], known: Iterable[File] = (), *, attached: bool = False
    ) -> None:
        """attached: the process had run, so which VMAs share an anon_vma, and since which fork, is open."""
        self.mm = mm
        self.attached = attached
        self.files = files
        for file in known:
            if file.dev is not None and file.inode is not None and file.path is not None:
                self.files.setdefault((file.dev, file.inode, file.path), file)

    def vma(self, line: ObservedVma) -> Vma:
        """A VMA that shows as `line`."""
        file = self._file(line)
        flags = line_flags(line)
        delta = 0
        if file is not None and file.kind != "special":
            delta = (line.offset >> PAGE_SHIFT) - (line.start >> PAGE_SHIFT)
        name = line.name[6:-1] if line.name.startswith("[anon:") else None
        if line.name.startswith("[anon_shmem:"):
            name = line.name[12:-1]
        attrs = self.mm.env.table.get(flags, file, anon_name=name, delta=delta)
        vma = Vma(line.start, line.end, attrs)
        if file is not None and file.kind == "special":
            vma.label = line.name
        self._written(vma, line)
        return vma

    def _written(self, vma: Vma, line: ObservedVma) -> None:
        flags = vma.attrs.vm_flags
        if flags & VM_SHARED or not flags & VM_MAYWRITE:
            return
        if line.written:
            vma.anon_vma = AnonVma()
            vma.chain = (vma.anon_vma,)
        elif line.written is None and flags & VM_WRITE and self.mm.env.faults != "recorded":
            vma.unsure = UNSURE
        if self.attached:
            vma.base = BaseAnon(bool(line.written))
            vma.unsure |= UNSURE_BASE

    def _file(self, line: ObservedVma) -> File | None:
        if line.name in _SPECIAL:
            return File(0, "special", line.name)
        if line.inode == 0 and line.dev in ("00:00", ""):
            return None
        key = (line.dev, line.inode, line.name)
        found = self.files.get(key)
        if found is None:
            kind = path_kind(line.name)
            if line_flags(line) & VM_HUGETLB:
                kind = "hugeshm" if kind == "shm" else "hugetlb"
            writable = None if line.perms[3] == "p" else "w" in line.perms or None
            dev, inode = (None, None) if line.inode == UNKNOWN_INODE else (line.dev, line.inode)
            found = self.files[key] = File(0, kind, line.name, dev=dev, inode=inode, readable=True, writable=writable)
        return found


def path_kind(path: str) -> str:
    """What sort of file a path of maps names."""
    if path.startswith("/memfd:"):
        return "memfd"
    if path.startswith("/SYSV"):
        return "shm"
    if path.startswith("socket:"):
        return "socket"
    pseudo = PSEUDO_FILES.get(path.removesuffix(" (deleted)"))
    if pseudo is not None:
        return pseudo
    if path == "/dev/zero":
        return "zero"
    if path.startswith(("/dev/zero", "[anon_shmem:")):
        return "shmem"
    if path.startswith("/dev/shm/"):
        return "memfd"
    if path.startswith("/anon_hugepage"):
        return "hugetlb"
    if path.startswith(("/dev/", "anon_inode:")):
        return "device"
    return "regular"


def line_flags(line: ObservedVma) -> int:
    """The vm_flags of a line: read from smaps, else what its permissions and name tell."""
    flags = vmflags_from_perms(line.perms)
    if line.vm_flags is not None:
        return vmflags_from_letters(line.vm_flags)
    if line.name in _SPECIAL:
        return flags | VM_MAYREAD | _SPECIAL[line.name] | (VM_MAYWRITE | VM_MAYEXEC if "x" in line.perms else 0)
    flags |= VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    if flags & VM_WRITE and not flags & VM_MAYSHARE:
        flags |= VM_ACCOUNT
    if line.name == "[stack]":
        flags |= VM_GROWSDOWN
    return flags


def set_labels(mm: Mm, lines: Iterable[ObservedVma]) -> None:
    """Take the heap and the main stack from their names."""
    for line in lines:
        if line.name == "[stack]":
            mm.start_stack = line.end - 8


def load(
    mm: Mm,
    lines: list[ObservedVma],
    files: dict[Identity, File],
    known: Iterable[File] = (),
    *,
    attached: bool = False,
) -> None:
    """Make mm what `lines` show (a baseline). attached: of a process that had run, not of a new image."""
    mm.clear()
    builder = Builder(mm, files, known, attached=attached)
    last = mm.head
    for line in lines:
        vma = builder.vma(line)
        mm.insert_after(last, vma)
        last = vma
    _share_anon_vmas(mm)
    set_labels(mm, lines)
    mm.complete, mm.attached = True, attached


def _share_anon_vmas(mm: Mm) -> None:
    """Take written neighbours that differ in flags or name alone for parts of one VMA, split since it was written.

    An observation does not show whether two VMAs share an anon_vma (docs/limits.md). Neighbours that differ in
    nothing do not: they would be one VMA.
    """
    for vma in mm.vmas():
        nxt = vma.next
        a, b = vma.attrs, nxt.attrs
        if vma.anon_vma is None or nxt.anon_vma is None or nxt.vm_start != vma.vm_end or a is b:
            continue
        if a.vm_file is b.vm_file and a.delta == b.delta and not (a.vm_flags | b.vm_flags) & VM_GROWSDOWN:
            nxt.anon_vma, nxt.chain = vma.anon_vma, vma.chain


def load_image(mm: Mm, lines: list[ObservedVma], files: dict[Identity, File]) -> None:
    """Add what `lines` say that an exec mapped; nobody observed it, so that it is inferred, and not all there is."""
    builder = Builder(mm, files)
    mm.imaged = True
    for line in lines:
        if mm.find_vma(line.start).vm_start >= line.end:
            mm.insert(builder.vma(line))
            mm.inferred += 1
            mm.env.inferred += 1
