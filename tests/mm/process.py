"""A process to drive in tests: system calls in pages, on an address space that only predicts.

Every call returns what the kernel returns (>= 0, or -errno), and the address space is validated after
it. Addresses are page numbers, page 0 is `layout.BASE`; nothing is mapped at first.
"""

from __future__ import annotations

from layout import BASE, at

from vmastore.mm.flags import PAGE_SHIFT, PAGE_SIZE, perms
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import RuleSet, preset
from vmastore.mm.validate import validate_mm
from vmastore.mm.vma import File
from vmastore.syscalls import uapi
from vmastore.syscalls.brk import sys_brk
from vmastore.syscalls.fault import fault
from vmastore.syscalls.madvise import sys_madvise
from vmastore.syscalls.mlock import sys_mlock, sys_munlock
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.mprotect import sys_mprotect
from vmastore.syscalls.mremap import sys_mremap
from vmastore.syscalls.mseal import sys_mseal
from vmastore.syscalls.munmap import sys_munmap
from vmastore.syscalls.prctl import sys_prctl
from vmastore.syscalls.process import dup_mmap
from vmastore.syscalls.shm import sys_shmat, sys_shmdt
from vmastore.syscalls.userfaultfd import (
    uffd_ctx,
    uffdio_api,
    uffdio_register,
    uffdio_unregister,
    userfaultfd_release,
)

NONE, R, RW = 0, uapi.PROT_READ, uapi.PROT_READ | uapi.PROT_WRITE
RWX = RW | uapi.PROT_EXEC
ANON = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS
MOVE = uapi.MREMAP_MAYMOVE | uapi.MREMAP_FIXED


class Process:
    """One address space and the calls a test makes on it."""

    def __init__(self, rules: str | RuleSet = "6.18", config: Config | None = None, mm: Mm | None = None) -> None:
        found = preset(rules) if isinstance(rules, str) else rules
        self.mm = mm or Mm(Env(found, config))
        self._files = 0

    def _done(self, result: int) -> int:
        validate_mm(self.mm)
        return result

    # -- files -----------------------------------------------------------------------------------

    def open(self, kind: str = "regular", *, size: int = 64 * PAGE_SIZE, write: bool = True) -> File:
        """A new open file description. size: bytes."""
        self._files += 1
        return File(self._files, kind, "f.bin", readable=True, writable=write, size=size)

    def label(self, page: int, letter: str) -> None:
        """Call the VMA at a page by a letter in drawings, if it has none yet."""
        vma = self.mm.vma_lookup(at(page))
        if vma is not None and vma.label is None:
            vma.label = letter

    # -- calls -----------------------------------------------------------------------------------

    def mmap(
        self, page: int, pages: int, prot: int = RW, flags: int = 0, file: File | None = None, offset: int = 0
    ) -> int:
        """mmap with MAP_FIXED; anonymous and private unless a file or a map type is given. offset: pages."""
        if file is None and not flags & uapi.MAP_TYPE:
            flags |= ANON
        elif not flags & uapi.MAP_TYPE:
            flags |= uapi.MAP_PRIVATE
        if not flags & uapi.MAP_FIXED_NOREPLACE:
            flags |= uapi.MAP_FIXED
        length = pages << PAGE_SHIFT
        return self._done(sys_mmap(self.mm, at(page), length, prot, flags, file, offset << PAGE_SHIFT))

    def munmap(self, page: int, pages: int) -> int:
        return self._done(sys_munmap(self.mm, at(page), pages << PAGE_SHIFT))

    def mprotect(self, page: int, pages: int, prot: int) -> int:
        return self._done(sys_mprotect(self.mm, at(page), pages << PAGE_SHIFT, prot))

    def madvise(self, page: int, pages: int, advice: int) -> int:
        return self._done(sys_madvise(self.mm, at(page), pages << PAGE_SHIFT, advice))

    def mlock(self, page: int, pages: int) -> int:
        return self._done(sys_mlock(self.mm, at(page), pages << PAGE_SHIFT))

    def munlock(self, page: int, pages: int) -> int:
        return self._done(sys_munlock(self.mm, at(page), pages << PAGE_SHIFT))

    def mseal(self, page: int, pages: int) -> int:
        return self._done(sys_mseal(self.mm, at(page), pages << PAGE_SHIFT, 0))

    def mremap(self, page: int, old: int, new: int, flags: int = 0, to: int = 0, *, skew: int = 0) -> int:
        """old, new, to: pages. skew: bytes added to the new address."""
        target = at(to) + skew if flags & uapi.MREMAP_FIXED else 0
        return self._done(sys_mremap(self.mm, at(page), old << PAGE_SHIFT, new << PAGE_SHIFT, flags, target))

    def move(self, page: int, pages: int, to: int, flags: int = 0) -> int:
        """mremap to a fixed place, the length kept."""
        return self.mremap(page, pages, pages, MOVE | flags, to)

    def brk(self, page: int) -> int:
        return self._done(sys_brk(self.mm, at(page)))

    def write(self, page: int, pages: int = 1) -> int:
        """Write a byte to each page. Returns how many were refused."""
        return self._done(fault(self.mm, at(page), pages << PAGE_SHIFT, True))

    def name(self, page: int, pages: int, name: str | None) -> int:
        """PR_SET_VMA_ANON_NAME."""
        length = pages << PAGE_SHIFT
        return self._done(sys_prctl(self.mm, uapi.PR_SET_VMA, uapi.PR_SET_VMA_ANON_NAME, at(page), length, 1, name))

    def memory_merge(self, on: bool) -> int:
        """PR_SET_MEMORY_MERGE."""
        return self._done(sys_prctl(self.mm, uapi.PR_SET_MEMORY_MERGE, int(on), 0, 0, 0, None))

    def shmat(self, page: int, pages: int) -> int:
        return self._done(sys_shmat(self.mm, at(page), 0, pages << PAGE_SHIFT, self.open("shm")))

    def shmdt(self, page: int) -> int:
        return self._done(sys_shmdt(self.mm, at(page)))

    # -- userfaultfd -----------------------------------------------------------------------------

    def userfaultfd(self, features: int = 0) -> int:
        """A new userfaultfd with its features fixed. Returns its open file description."""
        self._files += 1
        uffdio_api(self.mm, self._files, features)
        return self._files

    def register(self, uffd: int, page: int, pages: int) -> int:
        ctx = uffd_ctx(self.mm, uffd)
        mode = uapi.UFFDIO_REGISTER_MODE_MISSING
        return self._done(uffdio_register(self.mm, ctx, at(page), pages << PAGE_SHIFT, mode))

    def unregister(self, uffd: int, page: int, pages: int) -> int:
        return self._done(uffdio_unregister(self.mm, uffd_ctx(self.mm, uffd), at(page), pages << PAGE_SHIFT))

    def close_uffd(self, uffd: int) -> None:
        userfaultfd_release(self.mm, uffd_ctx(self.mm, uffd))
        self._done(0)

    # -- whole processes -------------------------------------------------------------------------

    def fork(self) -> Process:
        """The child, as it is right after fork."""
        child = Process(mm=dup_mmap(self.mm, self.mm.number + 1, [self.mm]))
        child._done(0)
        return child

    def lines(self, first: int, end: int) -> str:
        """The VMAs that meet pages [first, end): `[0-2 rw-p][3-4 r--p]`, in pages."""
        met = (v for v in self.mm.vmas() if v.vm_end > at(first) and v.vm_start < at(end))
        return "".join(
            f"[{(v.vm_start - BASE) >> PAGE_SHIFT}-{(v.vm_end - BASE) >> PAGE_SHIFT} {perms(v.vm_flags)}]"
            for v in met
        )
