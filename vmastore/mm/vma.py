"""The VMA, and what two of them must share to be one.

All that must be equal for two touching VMAs to merge, but the anon_vma, is one shared immutable
object, `VmaAttrs`. Its page offset is kept as `delta = vm_pgoff - (vm_start >> PAGE_SHIFT)`, which no
split or merge changes, so that the contiguity of offsets is equality too. Mergeability is then one
identity test (`a.compat is b.compat`) and the anon_vma rule.
"""

from __future__ import annotations

import sys
from typing import ClassVar, Final, NamedTuple

from vmastore.mm.flags import PAGE_SHIFT, PMD_SIZE, VM_HUGETLB, VM_MAYSHARE, VM_MAYWRITE, VM_SHARED, VM_SPECIAL
from vmastore.mm.outcome import Reason

_IMPORT_TIME_FLOOR: Final = 20_000  # interned attributes below which no sweep is worth its time


SEALED: Final = "memfd, sealed"  # kind of a memfd that may not be written any more


class File:
    """An open file description (struct file): merging compares it by identity.

    What the trace does not tell (path, dev, inode of a shmem file, …) is None until observed.
    """

    __slots__ = ("dev", "file", "flags", "inode", "kind", "path", "readable", "size", "writable")

    def __init__(
        self,
        file: int,
        kind: str,
        path: str | None = None,
        *,
        dev: str | None = None,
        inode: int | None = None,
        readable: bool | None = None,
        writable: bool | None = None,
        size: int | None = None,
        flags: int | None = None,
    ) -> None:
        self.file = file  # number in the trace; 0 for files that the kernel makes (shared anonymous)
        self.kind = kind  # regular, memfd, shmem, shm, hugeshm, zero, hugetlb, uffd, device, directory, special, …
        self.path = path
        self.dev = dev
        self.inode = inode
        self.readable = readable
        self.writable = writable
        self.size = size  # bytes
        self.flags = flags

    def __repr__(self) -> str:
        return f"File({self.file}, {self.kind!r}, {self.path!r})"

    @property
    def is_shmem(self) -> bool:
        return self.kind in ("memfd", SEALED, "shmem", "shm", "tmpfs")

    @property
    def is_huge(self) -> bool:
        """Whether it is mapped in huge pages: hugetlbfs, or a System V segment of SHM_HUGETLB."""
        return self.kind in ("hugetlb", "hugeshm")

    @property
    def is_segment(self) -> bool:
        """Whether it is a System V shared memory segment."""
        return self.kind in ("shm", "hugeshm")


class Mempolicy(NamedTuple):
    """struct mempolicy: equal policies compare equal (__mpol_equal)."""

    mode: int
    flags: int
    nodes: int  # node mask
    user_nodes: int  # the mask as given, for MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES
    home_node: int = -1


class AnonVma:
    """struct anon_vma: what the written pages of a group of VMAs share."""

    __slots__ = ("number", "parent", "root")
    _count: ClassVar[int] = 0

    def __init__(self, parent: AnonVma | None = None) -> None:
        AnonVma._count += 1
        self.number = AnonVma._count
        self.parent = parent or self
        self.root: AnonVma = self if parent is None else parent.root

    def __repr__(self) -> str:
        return f"AnonVma#{self.number}"


class BaseAnon:
    """What an observation of a process that ran before the trace leaves open about one of its VMAs.

    Whether it is written, if `written` does not say so; with which other VMAs of that observation it
    shares its anon_vma; and how long its anon_vma_chain is, unless it is the process's `own`, inherited through no
    fork. Pieces of one VMA have one BaseAnon.

    late: it was mapped after the trace began and is written, but the trace does not show when first: a neighbour's
    anon_vma may be its own as well. lent: the one taken for its own (a guess) is a neighbour's.
    """

    __slots__ = ("late", "lent", "own", "written")

    def __init__(self, written: bool, own: bool = False, late: bool = False, lent: bool = False) -> None:
        self.written = written
        self.own = own
        self.late = late
        self.lent = lent


class UffdCtx:
    """struct userfaultfd_ctx: compared by identity.

    file: its open file description, 0 for one that fork made and no call has named yet. mm: the number of
    the address space that it watches, which calls through it change, whoever makes them.
    """

    __slots__ = ("features", "file", "mm", "released")

    def __init__(self, file: int, features: int = 0, mm: int = 0) -> None:
        self.file = file
        self.features = features
        self.mm = mm
        self.released = False


class VmaAttrs:
    """What two touching VMAs must share to merge, interned: equal ones are identical.

    `compat` is the same without the flags that a comparison ignores: two VMAs may merge (as far
    as everything but the anon_vma goes) iff their `compat` are identical.
    """

    __slots__ = (
        "_memo",
        "anon_delta",
        "anon_name",
        "close",
        "compat",
        "delta",
        "special",
        "splittable",
        "table",
        "uffd",
        "vm_file",
        "vm_flags",
        "vm_policy",
        "whys",
    )
    __deletable__ = ("compat",)  # for mypyc

    vm_flags: int
    vm_file: File | None
    vm_policy: Mempolicy | None
    uffd: UffdCtx | None
    anon_name: str | None
    delta: int  # pages
    # pages: of a moved private file mapping under anon-pgoff-private-file, the distance of its anonymous offset; of a
    # moved anonymous VMA, what `delta` may be larger by, where the trace does not show if it was written before
    anon_delta: int
    close: bool  # vm_ops->close is set
    special: bool  # VM_SPECIAL: never merges
    splittable: bool  # may be split at any page
    compat: VmaAttrs
    table: AttrsTable
    _memo: dict[int, VmaAttrs]  # new vm_flags -> attributes
    whys: dict[VmaAttrs, Reason | None]  # other attributes -> the first reason why not to merge, for merge/predicates

    def with_flags(self, vm_flags: int) -> VmaAttrs:
        """These attributes with other vm_flags."""
        found = self._memo.get(vm_flags)
        if found is None:
            found = self.table.get(
                vm_flags, self.vm_file, self.vm_policy, self.uffd, self.anon_name, self.delta, self.anon_delta
            )
            self._memo[vm_flags] = found
        return found

    @property
    def open_offset(self) -> int:
        """By how many pages the offset of a moved anonymous VMA may be another than `delta` says; 0: it is known."""
        if not self.anon_delta:
            return 0
        file = self.vm_file
        return self.anon_delta if file is None or (file.kind == "zero" and not self.vm_flags & VM_SHARED) else 0

    def with_name(self, anon_name: str | None) -> VmaAttrs:
        return self.table.get(
            self.vm_flags, self.vm_file, self.vm_policy, self.uffd, anon_name, self.delta, self.anon_delta
        )

    def with_policy(self, vm_policy: Mempolicy | None) -> VmaAttrs:
        return self.table.get(
            self.vm_flags, self.vm_file, vm_policy, self.uffd, self.anon_name, self.delta, self.anon_delta
        )

    def with_uffd(self, vm_flags: int, uffd: UffdCtx | None) -> VmaAttrs:
        return self.table.get(
            vm_flags, self.vm_file, self.vm_policy, uffd, self.anon_name, self.delta, self.anon_delta
        )

    def with_delta(self, delta: int, anon_delta: int = 0) -> VmaAttrs:
        return self.table.get(
            self.vm_flags, self.vm_file, self.vm_policy, self.uffd, self.anon_name, delta, anon_delta
        )


_Key = tuple[int, File | None, Mempolicy | None, UffdCtx | None, str | None, int, int]


class AttrsTable:
    """The interning table of `VmaAttrs`; `ignored` are the flags that comparisons leave out.

    whole: the kinds of files whose mappings cannot be split.
    """

    def __init__(self, ignored: int, whole: tuple[str, ...] = ("special",)) -> None:
        self.ignored = ignored
        self.whole = whole
        self._table: dict[_Key, VmaAttrs] = {}
        self._plain: dict[int, VmaAttrs] = {}  # some of the same, by vm_flags alone
        self._sweep_at = _IMPORT_TIME_FLOOR

    def get(
        self,
        vm_flags: int,
        vm_file: File | None = None,
        vm_policy: Mempolicy | None = None,
        uffd: UffdCtx | None = None,
        anon_name: str | None = None,
        delta: int = 0,
        anon_delta: int = 0,
    ) -> VmaAttrs:
        key = (vm_flags, vm_file, vm_policy, uffd, anon_name, delta, anon_delta)
        found = self._table.get(key)
        return found if found is not None else self._make(key)

    def plain(self, vm_flags: int) -> VmaAttrs:
        """`get(vm_flags)`: anonymous memory with nothing special, the commonest by far."""
        found = self._plain.get(vm_flags)
        if found is None:
            found = self._plain[vm_flags] = self.get(vm_flags)
        return found

    def _make(self, key: _Key) -> VmaAttrs:
        if len(self._table) >= self._sweep_at:
            self._sweep()
        attrs = VmaAttrs()
        attrs.vm_flags, attrs.vm_file, attrs.vm_policy, attrs.uffd = key[:4]
        attrs.anon_name, attrs.delta, attrs.anon_delta = key[4:]
        file = attrs.vm_file
        attrs.close = file is not None and (file.is_huge or file.is_segment or file.kind == "special")
        attrs.special = bool(attrs.vm_flags & VM_SPECIAL)
        attrs.splittable = (file is None or file.kind not in self.whole) and not attrs.vm_flags & VM_HUGETLB
        attrs.table = self
        attrs._memo = {}
        attrs.whys = {}
        plain = attrs.vm_flags & ~self.ignored
        attrs.compat = attrs if plain == attrs.vm_flags else self.get(plain, *key[1:])
        self._table[key] = attrs  # complete only now: making its `compat` may sweep
        return attrs

    def _sweep(self) -> None:
        """Forget attributes that only the table still holds."""
        self._plain.clear()
        for attrs in self._table.values():
            attrs._memo.clear()
            attrs.whys.clear()
        probe = {0: VmaAttrs()}  # held as one that only the table holds: how many references that are, Python decides
        held: list[tuple[_Key | None, VmaAttrs]] = [(None, probe[0])]
        held += [(k, a) for k, a in self._table.items() if a.compat is not a]
        held += [(k, a) for k, a in self._table.items() if a.compat is a]
        spare = 0
        for key, attrs in held:
            count = sys.getrefcount(attrs)
            if key is None:
                spare = count
            elif count <= spare + (attrs.compat is attrs):
                if attrs.compat is attrs:
                    del attrs.compat
                del self._table[key]
        probe.clear()  # compiled, it would be let go after its last use
        self._sweep_at = max(_IMPORT_TIME_FLOOR, 2 * len(self._table))


class Vma:
    """struct vm_area_struct: [vm_start, vm_end) in bytes, linked to its neighbours.

    chain: the anon_vmas of its anon_vma_chain, newest first (empty: unfaulted, one: singular,
    more: inherited through fork while written).
    unsure: the trace does not show whether it has been written (anon_vma is then a guess): kinds of
    merge/certainty.py. base: what was open when the trace began, while that is so.
    """

    __slots__ = ("anon_vma", "attrs", "base", "chain", "label", "next", "prev", "unsure", "vm_end", "vm_start")

    def __init__(
        self,
        vm_start: int,
        vm_end: int,
        attrs: VmaAttrs,
        anon_vma: AnonVma | None = None,
        chain: tuple[AnonVma, ...] = (),
        label: str | None = None,
    ) -> None:
        self.vm_start = vm_start
        self.vm_end = vm_end
        self.attrs = attrs
        self.anon_vma = anon_vma
        self.chain = chain
        self.label = label  # name of a special mapping ("[vdso]", "[stack]"), kept by its pieces
        self.unsure = 0
        self.base: BaseAnon | None = None
        self.prev: Vma
        self.next: Vma

    @property
    def vm_flags(self) -> int:
        return self.attrs.vm_flags

    @property
    def vm_file(self) -> File | None:
        return self.attrs.vm_file

    @property
    def vm_pgoff(self) -> int:
        """In pages."""
        return (self.vm_start >> PAGE_SHIFT) + self.attrs.delta

    @property
    def anon_name(self) -> str | None:
        return self.attrs.anon_name

    @property
    def vm_policy(self) -> Mempolicy | None:
        return self.attrs.vm_policy

    @property
    def is_anonymous(self) -> bool:
        """vma_is_anonymous(): no vm_ops; a private mapping of /dev/zero counts, file and all."""
        file = self.attrs.vm_file
        return file is None or (file.kind == "zero" and not self.attrs.vm_flags & VM_SHARED)

    @property
    def has_file(self) -> bool:
        """Whether the kernel's vm_file is set: not of a special mapping ([vdso]), whatever stands for it here."""
        file = self.attrs.vm_file
        return file is not None and file.kind != "special"

    @property
    def is_private_file(self) -> bool:
        flags = self.attrs.vm_flags
        return self.attrs.vm_file is not None and bool(flags & VM_MAYWRITE) and not flags & VM_MAYSHARE

    def may_split(self, addr: int) -> bool:
        """vm_ops->may_split(): not within a huge page, and never a special mapping or a perf event's."""
        if self.attrs.vm_flags & VM_HUGETLB:
            return not addr % PMD_SIZE
        return self.attrs.splittable

    def __repr__(self) -> str:
        return f"Vma({self.vm_start:#x}-{self.vm_end:#x} {self.attrs.vm_flags:#x})"
