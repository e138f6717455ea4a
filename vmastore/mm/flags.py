"""vm_flags: kernel values (x86-64), the perms column of /proc/PID/maps, the letters of smaps.

Source: include/linux/mm.h and show_smap_vma_flags() of fs/proc/task_mmu.c. A few flags live on
different bits in different releases; the values here are those of 6.12 and 6.18, since nothing
outside the kernel sees the numbers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
PAGE_MASK: Final = ~(PAGE_SIZE - 1)
IN_PAGE: Final = PAGE_SIZE - 1  # the bits of an address that say where in its page it is
TASK_SIZE: Final = 0x7FFFFFFFF000  # four-level page tables
PMD_SHIFT: Final = 21
PMD_SIZE: Final = 1 << PMD_SHIFT
U64: Final = (1 << 64) - 1

VM_READ: Final = 0x1
VM_WRITE: Final = 0x2
VM_EXEC: Final = 0x4
VM_SHARED: Final = 0x8
VM_MAYREAD: Final = 0x10
VM_MAYWRITE: Final = 0x20
VM_MAYEXEC: Final = 0x40
VM_MAYSHARE: Final = 0x80
VM_GROWSDOWN: Final = 0x100
VM_UFFD_MISSING: Final = 0x200
VM_PFNMAP: Final = 0x400
VM_MAYBE_GUARD: Final = 0x800
VM_UFFD_WP: Final = 0x1000
VM_LOCKED: Final = 0x2000
VM_IO: Final = 0x4000
VM_SEQ_READ: Final = 0x8000
VM_RAND_READ: Final = 0x10000
VM_DONTCOPY: Final = 0x20000
VM_DONTEXPAND: Final = 0x40000
VM_LOCKONFAULT: Final = 0x80000
VM_ACCOUNT: Final = 0x100000
VM_NORESERVE: Final = 0x200000
VM_HUGETLB: Final = 0x400000
VM_SYNC: Final = 0x800000
VM_ARCH_1: Final = 0x1000000
VM_WIPEONFORK: Final = 0x2000000
VM_DONTDUMP: Final = 0x4000000
VM_SOFTDIRTY: Final = 0x8000000
VM_MIXEDMAP: Final = 0x10000000
VM_HUGEPAGE: Final = 0x20000000
VM_NOHUGEPAGE: Final = 0x40000000
VM_MERGEABLE: Final = 0x80000000
VM_PKEY_SHIFT: Final = 32
VM_PKEY_MASK: Final = 0xF << VM_PKEY_SHIFT
VM_SHADOW_STACK: Final = 1 << 37
VM_UFFD_MINOR: Final = 1 << 38
VM_DROPPABLE: Final = 1 << 40
VM_SEALED: Final = 1 << 42

VM_ACCESS_FLAGS: Final = VM_READ | VM_WRITE | VM_EXEC
VM_SPECIAL: Final = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP
VM_LOCKED_MASK: Final = VM_LOCKED | VM_LOCKONFAULT
VM_UFFD_FLAGS: Final = VM_UFFD_MISSING | VM_UFFD_WP | VM_UFFD_MINOR
VM_DATA_FLAGS_EXEC: Final = VM_READ | VM_WRITE | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
VM_DATA_DEFAULT_FLAGS: Final = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC

LETTERS: Final[tuple[tuple[int, str], ...]] = (
    (VM_READ, "rd"),
    (VM_WRITE, "wr"),
    (VM_EXEC, "ex"),
    (VM_SHARED, "sh"),
    (VM_MAYREAD, "mr"),
    (VM_MAYWRITE, "mw"),
    (VM_MAYEXEC, "me"),
    (VM_MAYSHARE, "ms"),
    (VM_GROWSDOWN, "gd"),
    (VM_UFFD_MISSING, "um"),
    (VM_PFNMAP, "pf"),
    (VM_MAYBE_GUARD, "gu"),
    (VM_UFFD_WP, "uw"),
    (VM_LOCKED, "lo"),
    (VM_IO, "io"),
    (VM_SEQ_READ, "sr"),
    (VM_RAND_READ, "rr"),
    (VM_DONTCOPY, "dc"),
    (VM_DONTEXPAND, "de"),
    (VM_LOCKONFAULT, "lf"),
    (VM_ACCOUNT, "ac"),
    (VM_NORESERVE, "nr"),
    (VM_HUGETLB, "ht"),
    (VM_SYNC, "sf"),
    (VM_ARCH_1, "ar"),
    (VM_WIPEONFORK, "wf"),
    (VM_DONTDUMP, "dd"),
    (VM_SOFTDIRTY, "sd"),
    (VM_MIXEDMAP, "mm"),
    (VM_HUGEPAGE, "hg"),
    (VM_NOHUGEPAGE, "nh"),
    (VM_MERGEABLE, "mg"),
    (VM_SHADOW_STACK, "ss"),
    (VM_UFFD_MINOR, "ui"),
    (VM_DROPPABLE, "dp"),
    (VM_SEALED, "sl"),
)
_BY_LETTER: Final = {letters: bit for bit, letters in LETTERS}


@lru_cache(maxsize=4096)
def perms(vm_flags: int) -> str:
    """The perms column of /proc/PID/maps: ``rwxp``; ``s`` follows VM_MAYSHARE (show_map_vma)."""
    return (
        ("r" if vm_flags & VM_READ else "-")
        + ("w" if vm_flags & VM_WRITE else "-")
        + ("x" if vm_flags & VM_EXEC else "-")
        + ("s" if vm_flags & VM_MAYSHARE else "p")
    )


@lru_cache(maxsize=4096)
def vmflags_letters(vm_flags: int) -> str:
    """The smaps VmFlags line without its label: two letters a bit, in bit order."""
    return " ".join(letters for bit, letters in LETTERS if vm_flags & bit)


@lru_cache(maxsize=4096)
def vmflags_from_letters(text: str) -> int:
    """The vm_flags that a smaps VmFlags line shows.

    Linux 6.1 has no letters for VM_LOCKONFAULT and prints ``??`` for it.
    """
    flags = 0
    for letters in text.split():
        flags |= _BY_LETTER.get(letters, VM_LOCKONFAULT if letters == "??" else 0)
    return flags


def vmflags_from_perms(text: str) -> int:
    """The flags that a perms column tells for certain (``rwxp`` → VM_READ | VM_WRITE | VM_EXEC)."""
    flags = 0
    for letter, bit in zip(text, (VM_READ, VM_WRITE, VM_EXEC), strict=False):
        if letter != "-":
            flags |= bit
    return flags | (VM_MAYSHARE | VM_SHARED if text[3:4] == "s" else 0)
