"""Calls that make a VMA as it was observed: mmap, then what gives it its flags, its page, its name."""

from __future__ import annotations

from typing import Any

from vmastore.events import FileInfo
from vmastore.mm.flags import (
    PAGE_SHIFT,
    PAGE_SIZE,
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_GROWSDOWN,
    VM_HUGEPAGE,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_RAND_READ,
    VM_SEALED,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SOFTDIRTY,
    VM_WIPEONFORK,
    VM_WRITE,
    vmflags_letters,
)
from vmastore.mm.rules import RuleSet
from vmastore.mm.vma import Vma
from vmastore.syscalls import uapi

Call = tuple[str, tuple[Any, ...], int | None]  # name, arguments, file

_ADVICE = (
    (VM_NOHUGEPAGE, uapi.MADV_NOHUGEPAGE),
    (VM_HUGEPAGE, uapi.MADV_HUGEPAGE),
    (VM_DONTDUMP, uapi.MADV_DONTDUMP),
    (VM_DONTCOPY, uapi.MADV_DONTFORK),
    (VM_WIPEONFORK, uapi.MADV_WIPEONFORK),
    (VM_RAND_READ, uapi.MADV_RANDOM),
    (VM_SEQ_READ, uapi.MADV_SEQUENTIAL),
    (VM_MERGEABLE, uapi.MADV_MERGEABLE),
)
_MADE = VM_ACCESS_FLAGS | VM_SHARED | 0xF0 | VM_ACCOUNT | VM_NORESERVE | VM_GROWSDOWN | VM_LOCKED | VM_LOCKONFAULT
_POSSIBLE = _MADE | VM_SEALED | VM_SOFTDIRTY | sum(bit for bit, _ in _ADVICE)


def made_again(vma: Vma, files: dict[int, FileInfo], rules: RuleSet) -> tuple[list[Call], str | None]:
    """(calls that make `vma`, or none; a sentence on what they do not give it, or None).

    A file that the trace does not number is added to `files`.
    """
    attrs = vma.attrs
    where = f"the VMA {vma.vm_start:#x}-{vma.vm_end:#x}, there from the start,"
    file = attrs.vm_file
    if attrs.special or (file is not None and file.kind in ("special", "device", "hugetlb", "uffd")):
        return [], f"{where} is of the kernel or a driver: left out"
    start, length = vma.vm_start, vma.vm_end - vma.vm_start
    prot = attrs.vm_flags & VM_ACCESS_FLAGS
    shared = bool(attrs.vm_flags & VM_MAYSHARE)
    wanted = prot
    wide = not shared and (attrs.vm_flags & VM_ACCOUNT or vma.anon_vma is not None)
    if wide and attrs.vm_flags & VM_MAYWRITE:
        wanted |= VM_WRITE
    flags = uapi.MAP_FIXED | (uapi.MAP_SHARED if shared else uapi.MAP_PRIVATE)
    flags |= uapi.MAP_NORESERVE if attrs.vm_flags & VM_NORESERVE else 0
    flags |= uapi.MAP_GROWSDOWN if attrs.vm_flags & VM_GROWSDOWN else 0
    number, offset = None, 0
    if file is None or file.kind == "shmem":
        flags |= uapi.MAP_ANONYMOUS
    else:
        number, offset = _file_number(vma, files), vma.vm_pgoff << PAGE_SHIFT
    calls: list[Call] = [("mmap", (start, length, wanted, flags, -1 if number is None else number, offset), number)]
    calls += [
        ("madvise", (start, length, advice), None)
        for bit, advice in _ADVICE
        if attrs.vm_flags & bit
    ]  # fmt: skip
    if vma.anon_vma is not None:
        calls.append(("fault", (start, PAGE_SIZE, "w", None, "user"), None))
    if wanted != prot:
        calls.append(("mprotect", (start, length, prot), None))
    if attrs.vm_flags & VM_LOCKED:
        calls.append(("mlock2", (start, length, int(bool(attrs.vm_flags & VM_LOCKONFAULT))), None))
    if attrs.anon_name is not None:
        args = (uapi.PR_SET_VMA, uapi.PR_SET_VMA_ANON_NAME, start, length, 0, attrs.anon_name)
        calls.append(("prctl", args, None))
    if attrs.vm_flags & VM_SEALED:
        calls.append(("mseal", (start, length, 0), None))
    return calls, _missing(vma, where)


def stand_in(vma: Vma) -> Call:
    """A mapping that merges with nothing, in the place of one that cannot be made."""
    flags = uapi.MAP_FIXED | uapi.MAP_SHARED | uapi.MAP_ANONYMOUS
    prot = vma.vm_flags & VM_ACCESS_FLAGS
    return "mmap", (vma.vm_start, vma.vm_end - vma.vm_start, prot, flags, -1, 0), None


def _missing(vma: Vma, where: str) -> str | None:
    attrs = vma.attrs
    lost = attrs.vm_flags & ~_POSSIBLE
    what = [vmflags_letters(lost)] if lost else []
    what += ["its memory policy"] if attrs.vm_policy is not None else []
    what += ["its userfaultfd"] if attrs.uffd is not None else []
    what += ["that it was inherited through fork"] if len(vma.chain) > 1 else []
    return f"{where} is made without {', '.join(what)}" if what else None


def _file_number(vma: Vma, files: dict[int, FileInfo]) -> int:
    """The number of a VMA's file; one that is only known from maps gets a number."""
    file = vma.attrs.vm_file
    assert file is not None
    if file.file:
        return file.file
    same = [n for n, i in files.items() if i.origin == "observed" and (i.dev, i.inode) == (file.dev, file.inode)]
    if same:
        return same[0]
    number = max(files, default=0) + 1
    writable = file.writable if file.writable is not None else True
    files[number] = FileInfo(
        number, file.path, file.kind, True, writable, file.dev, file.inode, file.size, "observed"
    )
    return number
