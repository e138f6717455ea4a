"""vm_flags: kernel values (x86-64), the perms column of /proc/PID/maps, the letters of smaps.

Source: include/linux/mm.h and show_smap_vma_flags() of fs/proc/task_mmu.c. A few flags live on
different bits in different releases; the values here are those of 6.12 and 6.18, since nothing
outside the kernel sees the numbers.
"""

from __future__ import annotations

from functools import lru_cache

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = ~(PAGE_SIZE - 1)
IN_PAGE = PAGE_SIZE - 1  # the bits of an address that say where in its page it is
TASK_SIZE = 0x7FFFFFFFF000  # four-level page tables
PMD_SHIFT = 21
PMD_SIZE = 1 << PMD_SHIFT
U64 = (1 << 64) - 1

VM_READ = 0x1
VM_WRITE = 0x2
VM_EXEC = 0x4
VM_SHARED = 0x8
VM_MAYREAD = 0x10
VM_MAYWRITE = 0x20
VM_MAYEXEC = 0x40
VM_MAYSHARE = 0x80
VM_GROWSDOWN = 0x100
VM_UFFD_MISSING = 0x200
VM_PFNMAP = 0x400
VM_MAYBE_GUARD = 0x800
VM_UFFD_WP = 0x1000
VM_LOCKED = 0x2000
VM_IO = 0x4000
VM_SEQ_READ = 0x8000
VM_RAND_READ = 0x10000
VM_DONTCOPY = 0x20000
VM_DONTEXPAND = 0x40000
VM_LOCKONFAULT = 0x80000
VM_ACCOUNT = 0x100000
VM_NORESERVE = 0x200000
VM_HUGETLB = 0x400000
VM_SYNC = 0x800000
VM_ARCH_1 = 0x1000000
VM_WIPEONFORK = 0x2000000
VM_DONTDUMP = 0x4000000
VM_SOFTDIRTY = 0x8000000
VM_MIXEDMAP = 0x10000000
VM_HUGEPAGE = 0x20000000
VM_NOHUGEPAGE = 0x40000000
VM_MERGEABLE = 0x80000000
VM_PKEY_SHIFT = 32
VM_PKEY_MASK = 0xF << VM_PKEY_SHIFT
VM_SHADOW_STACK = 1 << 37
VM_UFFD_MINOR = 1 << 38
VM_DROPPABLE = 1 << 40
VM_SEALED = 1 << 42

VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC
VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP
VM_LOCKED_MASK = VM_LOCKED | VM_LOCKONFAULT
VM_UFFD_FLAGS = VM_UFFD_MISSING | VM_UFFD_WP | VM_UFFD_MINOR
VM_DATA_FLAGS_EXEC = VM_READ | VM_WRITE | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
VM_DATA_DEFAULT_FLAGS = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC

LETTERS: tuple[tuple[int, str], ...] = (
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
_BY_LETTER = {letters: bit for bit, letters in LETTERS}


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
