"""Machines that make the same calls on the engine and on the naive model, and compare after each."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from naive import ADVICE, NOHUGE, NORESERVE, UFFD_MISSING, UFFD_WP, Naive
from naive_vmas import LOCKED, ONFAULT, Page, own

from vmastore.mm.flags import VM_MAYBE_GUARD, VM_SOFTDIRTY
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import preset
from vmastore.mm.validate import validate_mm
from vmastore.mm.vma import File, Vma
from vmastore.syscalls.brk import sys_brk
from vmastore.syscalls.fault import fault
from vmastore.syscalls.madvise import sys_madvise
from vmastore.syscalls.mempolicy import sys_mbind
from vmastore.syscalls.mlock import sys_mlock, sys_mlockall, sys_munlock, sys_munlockall
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.mprotect import sys_mprotect
from vmastore.syscalls.mremap import sys_mremap
from vmastore.syscalls.mseal import sys_mseal
from vmastore.syscalls.munmap import sys_munmap
from vmastore.syscalls.prctl import sys_prctl
from vmastore.syscalls.process import dup_mmap
from vmastore.syscalls.shm import sys_shmat
from vmastore.syscalls.userfaultfd import (
    uffd_ctx,
    uffdio_api,
    uffdio_register,
    uffdio_unregister,
    userfaultfd_release,
)

BASE, PAGES = 0x100000, 16  # page numbers
HEAP = BASE + 100
PRESETS = {"6.1": (6, 1), "6.8": (6, 8), "6.12": (6, 12), "6.18": (6, 18), "7.3": (7, 3)}
MAP = {"private": 0x22, "shared": 0x21, "file": 2, "file-shared": 1, "file-readonly": 1, "droppable": 0x28}
SIZE = 1 << 40  # bytes: files reach beyond every page that is mapped

Range = tuple[int, int]
lengths = st.sampled_from([1, 1, 2, 2, 3, 4, 6, PAGES])
ranges = st.tuples(st.integers(0, PAGES - 1), lengths).map(lambda r: (BASE + r[0], BASE + min(PAGES, r[0] + r[1])))
short = ranges.map(lambda r: (r[0], min(r[1], r[0] + 3)))
prots = st.sampled_from([3, 3, 3, 1, 0, 5, 7])
kinds = st.sampled_from(["private", "private", "private", *MAP])
seldom = st.sampled_from([False, False, False, False, True])


def span(where: Range) -> tuple[int, int]:
    """(address, length) of a range of pages."""
    return where[0] << 12, (where[1] - where[0]) << 12


class Machine(RuleBasedStateMachine):
    """No page is ever written: then the VMAs are exactly the maximal runs of equal pages."""

    kernel = "6.18"
    exact = True
    limit = 65530
    flipped = ""  # a rule switch that the engine, not the model, has the wrong way round

    def __init__(self) -> None:
        super().__init__()
        rules = preset(self.kernel)
        if self.flipped:
            rules = rules.with_rule(self.flipped, self.flipped not in rules.on())
        self.mm = Mm(Env(rules, Config(anon_name=True, max_map_count=self.limit)))
        self.naive = Naive(PRESETS[self.kernel], self.limit)
        self.mm.start_brk = self.mm.brk = HEAP << 12
        self.heap = 0  # pages
        self.alive = [self.mm]
        regular = {n: File(n, "regular", f"/{n}", readable=True, writable=n < 3, size=SIZE) for n in (1, 2, 3)}
        self.files = regular
        self.numbers: dict[File, int] = {file: n for n, file in regular.items()}
        self.fresh = 100
        self.uffds = [1, 2]  # the second asked for EVENT_REMAP
        self.ask_for_remap(2)
        self.cuts: set[int] = set()
        self.edges: set[int] = set()  # where the last call may have cut equal pages apart

    @initialize(mappings=st.lists(st.tuples(kinds, prots, st.integers(1, 5)), min_size=4, max_size=8))
    def fill(self, mappings: list[tuple[str, int, int]]) -> None:
        """Begin with an arena that is mostly mapped, from below."""
        at = BASE
        for kind, prot, pages in mappings:
            end = min(at + pages, BASE + PAGES)
            if at < end:
                self.map((at, end), prot, kind)
            at = end

    # -- mmap, munmap, brk -----------------------------------------------------------------------

    @rule(
        where=short,
        prot=prots,
        kind=kinds,
        other=st.booleans(),
        aligned=st.booleans(),
        noreserve=seldom,
        replace=st.sampled_from([True, True, False]),
        stack=seldom,
        populate=st.sampled_from(["", "", "", "populate", "lock"]),
    )
    def mmap(
        self,
        where: Range,
        prot: int,
        kind: str,
        other: bool,
        aligned: bool,
        noreserve: bool,
        replace: bool,
        stack: bool,
        populate: str,
    ) -> None:
        if self.exact and kind == "droppable":
            return  # locking writes it
        if not self.leaves_split(where):
            self.map(where, prot, kind, other, aligned, noreserve, replace, stack, "" if self.exact else populate)

    def map(
        self,
        where: Range,
        prot: int,
        kind: str,
        other: bool = False,
        aligned: bool = True,
        noreserve: bool = False,
        replace: bool = True,
        stack: bool = False,
        populate: str = "",
    ) -> None:
        start, end = where
        number = 3 if kind == "file-readonly" else 2 if other else 1
        if kind == "shared":
            number = self.fresh = self.fresh + 1
        file = self.files[number] if kind.startswith("file") else None
        offset = start if aligned else 0
        flags = MAP[kind] | (0x10 if replace else 0x100000) | (0x4000 if noreserve else 0)
        flags |= 0x20000 if stack else 0
        flags |= {"": 0, "populate": 0x8000, "lock": 0x2000}[populate]
        more = (NORESERVE if noreserve else 0) | (LOCKED if populate == "lock" else 0)
        more |= NOHUGE if stack and self.naive.release >= (6, 8) else 0
        got = sys_mmap(self.mm, *span(where), prot, flags, file, offset << 12)
        self.edges |= {start, end}
        expected = self.naive.mmap(
            start, end, prot, kind, number, offset, more=more, populate=bool(populate), replace=replace
        )
        assert got == (expected or start << 12)
        if kind == "shared" and got >= 0:
            made = self.mm.vma_lookup(start << 12)
            assert made is not None and made.vm_file is not None
            self.numbers[made.vm_file] = number

    @rule(where=short)
    def shmat(self, where: Range) -> None:
        self.fresh += 1
        file = File(0, "shm", "/SYSV")
        self.numbers[file] = self.fresh
        self.edges = set(where)
        got = sys_shmat(self.mm, where[0] << 12, 0, (where[1] - where[0]) << 12, file)
        file.size = SIZE
        assert got == (self.naive.shmat(*where, self.fresh) or where[0] << 12)

    def ask_for_remap(self, ctx: int) -> None:
        uffdio_api(self.mm, ctx, 4)
        self.naive.remapping |= {ctx}

    def leaves_split(self, where: Range) -> bool:
        """Removing a range with a sealed page fails, but may leave the split of its edge behind."""
        return self.exact and self.naive.sealed(*where)

    @rule(where=short)
    def munmap(self, where: Range) -> None:
        if self.leaves_split(where):
            return
        self.edges = set(where)
        assert sys_munmap(self.mm, *span(where)) == self.naive.munmap(*where)

    @rule(count=st.integers(0, 20))
    def brk(self, count: int) -> None:
        got = sys_brk(self.mm, (HEAP + count) << 12)
        self.edges = {HEAP + count, HEAP + self.heap}
        self.heap = self.naive.brk(HEAP, self.heap, count)
        assert got == (HEAP + self.heap) << 12

    # -- attributes ------------------------------------------------------------------------------

    @rule(where=ranges, prot=prots)
    def mprotect(self, where: Range, prot: int) -> None:
        self.edges = set(where)
        assert sys_mprotect(self.mm, *span(where), prot) == self.naive.mprotect(*where, prot)

    @rule(where=ranges, advice=st.sampled_from(sorted(ADVICE)))
    def madvise(self, where: Range, advice: int) -> None:
        self.edges = set(where)
        assert sys_madvise(self.mm, *span(where), advice) == self.naive.madvise(*where, advice)

    @rule(where=ranges, lock=st.sampled_from([0, 0, LOCKED | ONFAULT, LOCKED]))
    def mlock(self, where: Range, lock: int) -> None:
        lock = lock and (lock | ONFAULT if self.exact else lock)
        flags = 1 if lock & ONFAULT else 0
        got = sys_mlock(self.mm, *span(where), flags) if lock else sys_munlock(self.mm, *span(where))
        self.edges = set(where)
        assert got == self.naive.mlock(*where, lock)

    @rule(where=ranges, mode=st.sampled_from([0, 2, 3]))
    def mbind(self, where: Range, mode: int) -> None:
        got = sys_mbind(self.mm, *span(where), mode, 1 if mode else None, 8 if mode else 0, 0)
        self.edges = set(where)
        assert got == self.naive.mbind(*where, mode or None)

    @rule(where=ranges, name=st.sampled_from([None, "a", "b"]))
    def anon_name(self, where: Range, name: str | None) -> None:
        got = sys_prctl(self.mm, 0x53564D41, 0, *span(where), 0, name)
        self.edges = set(where)
        assert got == self.naive.anon_name(*where, name)

    @rule(where=ranges, really=seldom)
    def mseal(self, where: Range, really: bool) -> None:
        if really:
            where = (where[0], min(where[1], where[0] + 2))
            self.edges = set(where)
            assert sys_mseal(self.mm, *span(where), 0) == self.naive.mseal(*where)

    def loses_merges(self) -> bool:
        """On 6.1 userfaultfd does not merge the tail of a VMA."""
        return self.exact and self.kernel == "6.1"

    @rule(where=ranges, which=st.sampled_from([0, 0, 1]), mode=st.sampled_from([1, 2, 3]))
    def uffd_register(self, where: Range, which: int, mode: int) -> None:
        if self.loses_merges():
            return
        ctx = self.uffds[which]
        got = uffdio_register(self.mm, uffd_ctx(self.mm, ctx), *span(where), mode)
        flags = (UFFD_MISSING if mode & 1 else 0) | (UFFD_WP if mode & 2 else 0)
        self.edges = set(where)
        assert got == self.naive.uffd_register(*where, ctx, flags)

    @rule(where=ranges, which=st.sampled_from([0, 0, 1]))
    def uffd_unregister(self, where: Range, which: int) -> None:
        if self.loses_merges():
            return
        ctx = self.uffds[which]
        got = uffdio_unregister(self.mm, uffd_ctx(self.mm, ctx), *span(where))
        self.edges = set(where)
        assert got == self.naive.uffd_unregister(*where, ctx)

    @rule(which=st.sampled_from([0, 1]), really=seldom)
    def uffd_close(self, which: int, really: bool) -> None:
        if not really:
            return
        self.edges = set()
        userfaultfd_release(self.mm, uffd_ctx(self.mm, self.uffds[which]))
        self.naive.uffd_release(self.uffds[which])
        self.uffds[which] += 2
        if which == 1:
            self.ask_for_remap(self.uffds[1])

    # -- mremap ----------------------------------------------------------------------------------

    @rule(where=short, to=st.integers(0, PAGES - 1), keep=seldom)
    def mremap(self, where: Range, to: int, keep: bool) -> None:
        start, end = where
        target = BASE + to
        there = (target, target + end - start)
        registered = any(self.naive.pages[n].uffd for n in range(start, end) if n in self.naive.pages)
        if self.leaves_split(where) or self.leaves_split(there) or (self.exact and registered):
            return
        keep = keep and not self.exact
        moved = {edge + target - start for run in self.naive.vmas() for edge in (run.start, run.end)}
        got = sys_mremap(self.mm, *span(where), span(where)[1], 7 if keep else 3, target << 12)
        self.edges = {*where, *there, *moved}
        assert got == (self.naive.mremap(start, end, target, keep) or target << 12)

    @rule(where=ranges, pages=st.integers(1, PAGES))
    def mremap_in_place(self, where: Range, pages: int) -> None:
        start, end = where
        stop = start + pages
        if stop == end or self.leaves_split((start, max(end, stop))):
            return
        got = sys_mremap(self.mm, *span(where), pages << 12, 0, 0)
        self.edges = {end, stop}
        expected = self.naive.shrink(start, end, stop) if stop < end else self.naive.grow(start, end, stop)
        assert got == (expected or start << 12)

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        """The engine's VMAs are the model's; a cut between equal pages is old or at an edge of the call."""
        validate_mm(self.mm)
        seen = [self.seen(vma) for vma in self.mm.vmas()]
        assert seen == [(run.start, run.end, run.page) for run in self.naive.vmas()]
        assert self.mm.map_count == len(self.naive.starts)
        if self.exact:
            assert [run for run in seen if run[2].file not in self.naive.closing] == [
                run for run in self.naive.runs() if run[2].file not in self.naive.closing
            ]
        cuts = {end for _, end, _ in seen} & {start for start, _, _ in seen}
        pages = self.naive.pages
        assert all(pages[cut - 1] != pages[cut] for cut in cuts - self.cuts - self.edges)
        self.cuts, self.edges = cuts, set()
        self.agree_on_writing()

    def agree_on_writing(self) -> None:
        """Two VMAs share an anon_vma in the engine iff they do in the model; their chains are as long."""
        pairs = set()
        for vma, run in zip(self.mm.vmas(), self.naive.vmas(), strict=True):
            assert len(vma.chain) == len(run.chain)
            if run.chain:
                pairs.add((vma.anon_vma, own(run.chain)))
        assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})

    def seen(self, vma: Vma) -> tuple[int, int, Page]:
        """A VMA in the naive model's terms."""
        attrs = vma.attrs
        file = 0 if attrs.vm_file is None else self.numbers.get(attrs.vm_file, self.fresh)
        policy = attrs.vm_policy.mode if attrs.vm_policy else None
        uffd = attrs.uffd.file if attrs.uffd else 0
        flags = attrs.vm_flags & ~(VM_SOFTDIRTY | VM_MAYBE_GUARD)
        page = Page(flags, file, attrs.delta, policy, attrs.anon_name, uffd, attrs.anon_delta)
        return vma.vm_start >> 12, vma.vm_end >> 12, page


class FaultingMachine(Machine):
    """Pages are written too, processes fork, and kernels differ in what merges then."""

    exact = False

    @rule(where=ranges)
    def write(self, where: Range) -> None:
        self._write(*where)

    @rule(first=st.integers(0, 20), count=st.integers(1, 3))
    def write_heap(self, first: int, count: int) -> None:
        self._write(HEAP + first, HEAP + first + count)

    def _write(self, start: int, end: int) -> None:
        refused = fault(self.mm, *span((start, end)), True)
        pages, guards = self.naive.pages, self.naive.guards
        writable = [n for n in range(start, end) if n in pages and pages[n].flags & 2 and n not in guards]
        assert refused == (end - start) - len(writable)
        for n in writable:
            self.naive.write(n)

    @rule(on=st.booleans())
    def memory_merge(self, on: bool) -> None:
        self.edges = set()
        assert sys_prctl(self.mm, 67, int(on), 0, 0, 0, None) == self.naive.memory_merge(on)

    @rule(flags=st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6, 7]))
    def mlockall(self, flags: int) -> None:
        self.edges = set()
        got = sys_mlockall(self.mm, flags) if flags else sys_munlockall(self.mm)
        assert got == self.naive.mlockall(flags)

    @rule(where=ranges)
    def guard(self, where: Range) -> None:
        assert sys_madvise(self.mm, *span(where), 102) == self.naive.guard(*where)

    @rule(really=seldom)
    def fork(self, really: bool) -> None:
        if not really:
            return
        self.mm = dup_mmap(self.mm, self.mm.number + 1, self.alive)
        self.alive.append(self.mm)
        self.naive.fork()


class LimitedMachine(FaultingMachine):
    """The same with room for few VMAs: calls fail half done."""

    limit = 9
