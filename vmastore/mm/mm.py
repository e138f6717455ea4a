"""The address space (struct mm_struct): VMAs in order, linked, counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from vmastore.mm.flags import PMD_SIZE, TASK_SIZE, VM_MAYBE_GUARD, VM_SOFTDIRTY
from vmastore.mm.guards import Guards
from vmastore.mm.index import VmaIndex
from vmastore.mm.outcome import Decision
from vmastore.mm.rules import RuleSet
from vmastore.mm.vma import AttrsTable, File, UffdCtx, Vma

DEFAULT_MAX_MAP_COUNT: Final = 65530


@dataclass
class Config:
    """What changes outcomes besides the rules: sysctls, kernel configuration, limits.

    None: unknown; the kernel's answer in the trace then decides.
    """

    max_map_count: int = DEFAULT_MAX_MAP_COUNT
    overcommit_memory: int = 0
    mmap_min_addr: int = 65536
    stack_guard_gap: int = 256  # pages
    thp: str = "madvise"  # always, madvise, never
    shmem_thp: str = "never"
    anon_name: bool | None = None  # CONFIG_ANON_VMA_NAME
    userfaultfd: bool = True
    ksm: bool = True
    hugepage: bool = True  # CONFIG_TRANSPARENT_HUGEPAGE
    numa: bool = True
    nodes: int = 1  # mask of nodes with memory
    soft_dirty: bool = False  # CONFIG_MEM_SOFT_DIRTY
    privileged: bool | None = None  # CAP_IPC_LOCK, CAP_SYS_NICE …
    cpus: int | None = None  # possible ones
    rlimits: dict[str, int] = field(default_factory=dict)


class Env:
    """What all address spaces of one replay share: rules, configuration, interned attributes."""

    def __init__(self, rules: RuleSet, config: Config | None = None) -> None:
        self.rules = rules
        self.config = config or Config()
        ignored = VM_SOFTDIRTY | (VM_MAYBE_GUARD if rules.sticky_flags else 0)
        self.sticky = ignored if rules.sticky_flags else 0
        self.seals_first = rules.mseal and not rules.seal_check_in_loop  # a whole range is checked, then changed
        self.judged: dict[tuple[Any, ...], bool] = {}  # whether decisions are certain, by what decides it (mm/merge)
        self.open_offsets = False  # some VMA may have another page offset than the one taken for it
        self.table = AttrsTable(ignored, ("special", "perf") if rules.perf_may_not_split else ("special",))
        self.soft_dirty = VM_SOFTDIRTY if self.config.soft_dirty else 0
        self.uffds: dict[int, UffdCtx] = {}  # by open file description
        self.forked_uffds: list[UffdCtx] = []  # made by fork (EVENT_FORK), not named by a call yet, oldest first
        self.zero_dev: str | None = None  # the device of kernel-made shmem files, once observed
        self.inferred = 0  # VMAs that must have existed but that no event made
        self.fs_known = True  # the kind of a file tells its file system (tmpfs or not)
        self.faults = "recorded"  # recorded, none, written, untouched: what the trace shows of page faults


MOST_NOTED: Final = 512 << 30  # bytes: which page tables a longer range has is not noted: no memory holds its pages
_FAR: Final = 1 << 256  # where the sentinels are: beyond whatever a damaged trace may give as an address


class Mm:
    """struct mm_struct. `head` and `tail` are sentinels, so every VMA has a prev and a next.

    `decisions` collects what the merge/split API decides until the caller takes it.
    `dirty` collects VMAs inserted, changed or removed, where a caller wants to know (else None).
    """

    __slots__ = (
        "attached",
        "brk",
        "complete",
        "config",
        "decisions",
        "def_flags",
        "dirty",
        "env",
        "exec_rlimits",
        "expect_errno",
        "expect_result",
        "guards",
        "head",
        "imaged",
        "index",
        "inferred",
        "map_count",
        "mdwe",
        "merge_any",
        "number",
        "observed",
        "persona",
        "pmds",
        "rlimits",
        "rules",
        "start_brk",
        "start_stack",
        "tail",
        "vmi",
    )

    def __init__(self, env: Env, number: int = 1) -> None:
        self.env = env
        self.rules = env.rules
        self.config = env.config
        self.rlimits = env.config.rlimits  # soft limits in bytes, -1: none; replaced, never changed in place
        self.exec_rlimits = self.rlimits  # those that exec laid the address space out by
        self.number = number
        none = env.table.get(0)
        self.head = Vma(-_FAR, -_FAR, none)
        self.tail = Vma(_FAR, _FAR, none)
        self.head.prev = self.head
        self.head.next = self.tail
        self.tail.prev = self.head
        self.tail.next = self.tail
        self.index = VmaIndex(self.head, self.tail)
        self.map_count = 0
        self.start_brk = 0
        self.brk = 0
        self.start_stack = 0  # an address of the main stack
        self.attached = False  # observed after it had run for a while: VMAs may have a `base`
        self.complete = False  # a baseline or an exec gave its whole content
        self.imaged = False  # what exec mapped of the program is known, though nobody observed it
        self.inferred = 0  # VMAs that must have existed but that no event made
        self.def_flags = 0
        self.merge_any = False  # MMF_VM_MERGE_ANY
        self.mdwe = False
        self.persona = 0
        self.pmds: set[int] = set()  # 2 MiB regions whose page table exists
        self.guards = Guards()  # which pages are guard pages
        self.decisions: list[Decision] = []
        self.dirty: list[Vma] | None = None
        self.vmi = VmaIterator(self)
        # what the trace says the kernel answered; None: nothing known, predict
        self.observed = False
        self.expect_result: int | None = None
        self.expect_errno = 0

    # -- looking ---------------------------------------------------------------------------------

    def vmas(self) -> Iterator[Vma]:
        """All VMAs, by address."""
        vma, tail = self.head.next, self.tail
        while vma is not tail:
            yield vma
            vma = vma.next

    def find_vma(self, addr: int) -> Vma:
        """The first VMA that ends above addr, or the tail sentinel (find_vma)."""
        return self.index.find(addr)

    def find_vma_intersection(self, start: int, end: int) -> Vma | None:
        """The first VMA that overlaps [start, end) (find_vma_intersection)."""
        vma = self.find_vma(start)
        return vma if vma.vm_start < end else None

    def vma_lookup(self, addr: int) -> Vma | None:
        """The VMA that holds addr (vma_lookup)."""
        vma = self.find_vma(addr)
        return vma if vma.vm_start <= addr else None

    def fails(self, errno: int) -> bool:
        """Whether the kernel, at a check that the model cannot decide, answered errno."""
        return self.observed and self.expect_errno == errno

    # -- changing (for the merge/split package and the whole-mm operations only) ------------------------

    def insert(self, vma: Vma) -> None:
        """Link a new VMA in at its place (vma_link)."""
        self.insert_after(self.index.floor(vma.vm_start), vma)

    def insert_after(self, prev: Vma, vma: Vma) -> None:
        nxt = prev.next
        vma.prev = prev
        vma.next = nxt
        prev.next = vma
        nxt.prev = vma
        self.index.add_after(prev, vma)
        self.map_count += 1
        if self.dirty is not None:
            self.dirty.append(vma)

    def fill(self, vmas: list[Vma]) -> None:
        """Link VMAs, by address, into an address space that has none: what a copy or a snapshot holds."""
        prev = self.head
        for vma in vmas:
            vma.prev = prev
            prev.next = vma
            prev = vma
        prev.next = self.tail
        self.tail.prev = prev
        self.index.fill([vma.vm_start for vma in vmas], vmas)
        self.map_count = len(vmas)

    def close(self) -> None:
        """Let all VMAs go at once, not when the cycle collector comes by: they are linked to one another.

        The address space is empty then.
        """
        end = self.tail
        vma = self.head.next
        while vma is not end:
            after = vma.next
            vma.prev = vma.next = end
            vma = after
        self.head.next = end
        end.prev = self.head
        self.index = VmaIndex(self.head, end)
        self.map_count = 0

    def split_below(self, vma: Vma, addr: int) -> Vma:
        """Make a new VMA of vma's pages below addr, which takes vma's place in the index. Returns it."""
        part = Vma(vma.vm_start, addr, vma.attrs, vma.anon_vma, vma.chain, vma.label)
        part.unsure, part.base = vma.unsure, vma.base
        prev = vma.prev
        part.prev = prev
        part.next = vma
        prev.next = vma.prev = part
        self.index.add_below(vma, part, addr)
        self.map_count += 1
        vma.vm_start = addr
        if self.dirty is not None:
            self.dirty.append(part)
            self.dirty.append(vma)
        return part

    def split_above(self, vma: Vma, addr: int) -> Vma:
        """Make a new VMA of vma's pages from addr on. Returns it."""
        part = Vma(addr, vma.vm_end, vma.attrs, vma.anon_vma, vma.chain, vma.label)
        part.unsure, part.base = vma.unsure, vma.base
        nxt = vma.next
        part.prev = vma
        part.next = nxt
        vma.next = nxt.prev = part
        self.index.add_after(vma, part)
        self.map_count += 1
        vma.vm_end = addr
        if self.dirty is not None:
            self.dirty.append(vma)
            self.dirty.append(part)
        return part

    def split_around(self, vma: Vma, start: int, end: int) -> None:
        """split_below(vma, start) and split_above(vma, end) at once."""
        below = Vma(vma.vm_start, start, vma.attrs, vma.anon_vma, vma.chain, vma.label)
        above = Vma(end, vma.vm_end, vma.attrs, vma.anon_vma, vma.chain, vma.label)
        if vma.unsure or vma.base is not None:
            below.unsure = above.unsure = vma.unsure
            below.base = above.base = vma.base
        prev, nxt = vma.prev, vma.next
        below.prev = prev
        above.next = nxt
        below.next = above.prev = vma
        prev.next = vma.prev = below
        nxt.prev = vma.next = above
        self.index.add_around(vma, below, above, start)
        self.map_count += 2
        vma.vm_start, vma.vm_end = start, end
        if self.dirty is not None:
            self.dirty += below, vma, above

    def take_over(self, vma: Vma, nxt: Vma) -> None:
        """Take vma out and let nxt, the VMA above, start where it started."""
        prev, start = vma.prev, vma.vm_start
        prev.next = nxt
        nxt.prev = prev
        index = self.index
        index.take_over(vma, nxt)
        index.cached = nxt
        self.map_count -= 1
        if self.dirty is not None:
            self.dirty.append(Vma(nxt.vm_start, nxt.vm_start, nxt.attrs))  # the old start is no more
            self.dirty.append(nxt)
        nxt.vm_start = start

    def remove(self, vma: Vma) -> None:
        """Take a VMA out (vma_iter_clear and remove_vma)."""
        vma.prev.next = vma.next
        vma.next.prev = vma.prev
        index = self.index
        index.remove(vma)
        index.cached = vma.next
        self.map_count -= 1
        if self.dirty is not None:
            self.dirty.append(vma)

    def remove_run(self, vmas: list[Vma]) -> None:
        """Take out VMAs that follow one another: at least one."""
        prev, nxt = vmas[0].prev, vmas[-1].next
        prev.next = nxt
        nxt.prev = prev
        index = self.index
        index.remove(vmas[0], len(vmas))
        index.cached = nxt
        for vma in vmas:
            vma.prev = prev  # not to one another: only the cycle collector would ever free them
        self.map_count -= len(vmas)
        if self.dirty is not None:
            self.dirty.extend(vmas)

    def replace_run(self, vmas: list[Vma], vma: Vma) -> None:
        """Let `vma` take the place of VMAs that follow one another, at least one: it starts at or below the first."""
        first, count = vmas[0], len(vmas)
        prev, nxt = first.prev, vmas[-1].next
        vma.prev = prev
        vma.next = nxt
        prev.next = nxt.prev = vma
        index = self.index
        index.put(vma, first, count)
        index.cached = vma
        if count > 1:
            for gone in vmas:
                gone.prev = prev  # not to one another: only the cycle collector would ever free them
        self.map_count += 1 - count
        if self.dirty is not None:
            self.dirty.extend(vmas)
            self.dirty.append(vma)

    def set_start(self, vma: Vma, vm_start: int) -> None:
        self.index.move(vma, vm_start)
        if self.dirty is not None:  # the old start is no more
            gone = Vma(vma.vm_start, vma.vm_start, vma.attrs)
            self.dirty.append(gone)
            self.dirty.append(vma)
        vma.vm_start = vm_start

    def set_end(self, vma: Vma, vm_end: int) -> None:
        vma.vm_end = vm_end
        if self.dirty is not None:
            self.dirty.append(vma)

    def touch(self, vma: Vma) -> None:
        """Note that a VMA's attributes changed."""
        if self.dirty is not None:
            self.dirty.append(vma)

    def touch_within(self, vma: Vma, start: int, end: int) -> None:
        """Note that [start, end) of a VMA was a VMA for a while."""
        if self.dirty is not None:
            self.dirty += vma, Vma(start, start, vma.attrs), Vma(end, end, vma.attrs)

    def note_page_tables(self, start: int, end: int) -> None:
        """[start, end), not empty, has been faulted in."""
        if end - start <= MOST_NOTED:
            self.pmds.update(range(start // PMD_SIZE, (end - 1) // PMD_SIZE + 1))

    def clear(self) -> None:
        """Drop every VMA (exit_mmap)."""
        if self.dirty is not None:
            self.dirty.extend(self.vmas())
        self.close()
        self.pmds.clear()
        self.guards = Guards()

    def kernel_file(self, path: str, size: int) -> File:
        """The file that the kernel makes for shared anonymous memory (shmem_zero_setup). size: bytes."""
        return File(0, "shmem", path, dev=self.env.zero_dev, readable=True, writable=True, size=size)


class VmaIterator:
    """VMA_ITERATOR: names the address space that an API call works on."""

    __slots__ = ("mm",)

    def __init__(self, mm: Mm) -> None:
        self.mm = mm


def in_task(addr: int, length: int) -> bool:
    """Whether [addr, addr+length) lies below TASK_SIZE."""
    return length <= TASK_SIZE and addr <= TASK_SIZE - length
