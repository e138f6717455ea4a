"""Random calls on the engine and on a naive page-array model agree after every step."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from naive import ADVICE, UFFD_MISSING, UFFD_WP, Naive, Page

from vmastore.mm.flags import VM_SOFTDIRTY
from vmastore.mm.merge import split as split_module
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import preset
from vmastore.mm.validate import validate_mm
from vmastore.mm.vma import File
from vmastore.syscalls.brk import sys_brk
from vmastore.syscalls.fault import fault
from vmastore.syscalls.madvise import sys_madvise
from vmastore.syscalls.mempolicy import sys_mbind
from vmastore.syscalls.mlock import sys_mlock, sys_munlock
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.mprotect import sys_mprotect
from vmastore.syscalls.mremap import sys_mremap
from vmastore.syscalls.mseal import sys_mseal
from vmastore.syscalls.munmap import sys_munmap
from vmastore.syscalls.prctl import sys_prctl
from vmastore.syscalls.process import dup_mmap
from vmastore.syscalls.userfaultfd import uffd_ctx, uffdio_register, uffdio_unregister

BASE, PAGES = 0x100000, 16  # page numbers
HEAP = BASE + 100
PRESETS = ("6.1", "6.8", "6.12", "6.18", "7.3")
MAP = {"private": 0x22, "shared": 0x21, "file": 2, "file-shared": 1, "file-readonly": 1}

ranges = st.tuples(st.integers(0, PAGES - 1), st.integers(1, PAGES)).map(
    lambda r: (BASE + r[0], BASE + min(PAGES, r[0] + r[1]))
)
prots = st.sampled_from([0, 1, 3, 5, 7])


class Machine(RuleBasedStateMachine):
    """No page is ever written: then the VMAs are exactly the maximal runs of equal pages."""

    exact = True
    kinds = Bundle("kinds")

    @initialize(kernel=st.sampled_from(PRESETS))
    def begin(self, kernel: str) -> None:
        rules = preset(kernel)
        self.mm = Mm(Env(rules, Config(anon_name=True)))
        self.naive = Naive(
            drops_account=rules.mprotect_drops_account,
            has_mseal=rules.mseal,
            names_shmem=rules.anon_name_shmem,
            own_uffd=rules.uffd_unregister_own_ctx,
            checks_first=rules.mremap_checks_first,
        )
        self.tails_merge = rules.uffd_merge_offset
        self.mm.start_brk = self.mm.brk = HEAP << 12
        self.files = {
            1: File(1, "regular", "/a", readable=True, writable=True, size=1 << 30),
            2: File(2, "regular", "/b", readable=True, writable=True, size=1 << 30),
            3: File(3, "regular", "/a", readable=True, writable=False, size=1 << 30),
        }
        self.numbers: dict[File, int] = {file: n for n, file in self.files.items()}
        self.fresh = 100

    @rule(
        where=ranges,
        prot=prots,
        kind=st.sampled_from(list(MAP)),
        other=st.booleans(),
        aligned=st.booleans(),
        noreserve=st.sampled_from([False, False, False, True]),
    )
    def mmap(self, where: tuple[int, int], prot: int, kind: str, other: bool, aligned: bool, noreserve: bool) -> None:
        start, end = where
        if self.leaves_split(where):
            return
        number = 3 if kind == "file-readonly" else 2 if other else 1
        offset = start if aligned else 0
        if kind == "shared":
            self.fresh += 1
            number = self.fresh
        file = self.files[number] if kind.startswith("file") else None
        flags = MAP[kind] | 0x10 | (0x4000 if noreserve else 0)
        got = sys_mmap(self.mm, start << 12, (end - start) << 12, prot, flags, file, offset << 12)
        expected = self.naive.mmap(start, end, prot, kind, number, offset, noreserve)
        assert min(got, 0) == expected
        if kind == "shared" and got >= 0:
            made = self.mm.vma_lookup(start << 12)
            assert made is not None and made.vm_file is not None
            self.numbers[made.vm_file] = number

    def leaves_split(self, where: tuple[int, int]) -> bool:
        """Removing a range with a sealed page fails, but may leave the split of its edge behind."""
        return self.exact and self.naive.sealed(*where)

    @rule(where=ranges)
    def munmap(self, where: tuple[int, int]) -> None:
        start, end = where
        if self.leaves_split(where):
            return
        assert sys_munmap(self.mm, start << 12, (end - start) << 12) == self.naive.munmap(start, end)

    @rule(where=ranges, prot=prots)
    def mprotect(self, where: tuple[int, int], prot: int) -> None:
        start, end = where
        assert sys_mprotect(self.mm, start << 12, (end - start) << 12, prot) == self.naive.mprotect(start, end, prot)

    @rule(where=ranges, advice=st.sampled_from(sorted(ADVICE)))
    def madvise(self, where: tuple[int, int], advice: int) -> None:
        start, end = where
        assert sys_madvise(self.mm, start << 12, (end - start) << 12, advice) == self.naive.madvise(
            start, end, advice
        )

    @rule(where=ranges, lock=st.booleans())
    def mlock(self, where: tuple[int, int], lock: bool) -> None:
        start, end = where
        length = (end - start) << 12
        got = sys_mlock(self.mm, start << 12, length, 1) if lock else sys_munlock(self.mm, start << 12, length)
        assert got == self.naive.mlock2(start, end, lock)

    @rule(where=ranges, mode=st.sampled_from([0, 2, 3]))
    def mbind(self, where: tuple[int, int], mode: int) -> None:
        start, end = where
        got = sys_mbind(self.mm, start << 12, (end - start) << 12, mode, 1 if mode else None, 8 if mode else 0, 0)
        assert got == self.naive.mbind(start, end, mode or None)

    @rule(where=ranges, name=st.sampled_from([None, "a", "b"]))
    def anon_name(self, where: tuple[int, int], name: str | None) -> None:
        start, end = where
        got = sys_prctl(self.mm, 0x53564D41, 0, start << 12, (end - start) << 12, 0, name)
        assert got == self.naive.anon_name(start, end, name)

    @rule(where=ranges, really=st.sampled_from([False, False, False, False, True]))
    def mseal(self, where: tuple[int, int], really: bool) -> None:
        if really:
            start, end = where[0], min(where[1], where[0] + 2)
            assert sys_mseal(self.mm, start << 12, (end - start) << 12, 0) == self.naive.mseal(start, end)

    @rule(where=ranges, ctx=st.sampled_from([1, 2]), mode=st.sampled_from([1, 2, 3]))
    def uffd_register(self, where: tuple[int, int], ctx: int, mode: int) -> None:
        start, end = where
        if not self.tails_merge and self.exact:
            return  # 6.1 loses merges of a tail
        got = uffdio_register(self.mm, uffd_ctx(self.mm, ctx), start << 12, (end - start) << 12, mode)
        flags = (UFFD_MISSING if mode & 1 else 0) | (UFFD_WP if mode & 2 else 0)
        assert got == self.naive.uffd_register(start, end, ctx, flags)

    @rule(where=ranges, ctx=st.sampled_from([1, 2]))
    def uffd_unregister(self, where: tuple[int, int], ctx: int) -> None:
        start, end = where
        if not self.tails_merge and self.exact:
            return
        got = uffdio_unregister(self.mm, uffd_ctx(self.mm, ctx), start << 12, (end - start) << 12)
        assert got == self.naive.uffd_unregister(start, end, ctx)

    @rule(where=ranges, to=st.integers(0, PAGES - 1))
    def mremap(self, where: tuple[int, int], to: int) -> None:
        start, end = where
        target = BASE + to
        vma = self.mm.vma_lookup(start << 12)
        inside = vma is not None and vma.vm_end >= end << 12 and vma.attrs.uffd is None
        apart = target >= end or target + end - start <= start
        sealed = self.naive.sealed(start, end) or self.naive.sealed(target, target + end - start)
        if not inside or not apart or sealed or target + end - start > BASE + PAGES:
            return
        length = (end - start) << 12
        got = sys_mremap(self.mm, start << 12, length, length, 3, target << 12)
        assert got == target << 12
        self.naive.mremap(start, end, target)

    @rule(count=st.integers(0, 20))
    def brk(self, count: int) -> None:
        assert sys_brk(self.mm, (HEAP + count) << 12) == (HEAP + count) << 12
        self.naive.brk(HEAP, count)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "mm"):
            return
        validate_mm(self.mm)
        runs = [run for vma in self.mm.vmas() for run in [self.seen(vma)]]
        if self.exact:
            assert runs == self.naive.runs()
        pages = {n: page for start, end, page in runs for n in range(start, end)}
        assert {n: self.plain(p) for n, p in pages.items()} == {n: self.plain(p) for n, p in self.naive.pages.items()}

    def plain(self, page: Page) -> Page:
        return page

    def seen(self, vma: object) -> tuple[int, int, Page]:
        """A VMA in the naive model's terms."""
        attrs = vma.attrs  # type: ignore[attr-defined]
        file = 0 if attrs.vm_file is None else self.numbers.get(attrs.vm_file, self.fresh)
        policy = attrs.vm_policy.mode if attrs.vm_policy else None
        uffd = attrs.uffd.file if attrs.uffd else 0
        page = Page(attrs.vm_flags & ~VM_SOFTDIRTY, file, attrs.delta, policy, attrs.anon_name, uffd)
        return vma.vm_start >> 12, vma.vm_end >> 12, page  # type: ignore[attr-defined]


class FaultingMachine(Machine):
    """Pages are written too: merging then hangs on it, but no page is ever told wrong."""

    exact = False

    @rule(where=ranges)
    def write(self, where: tuple[int, int]) -> None:
        start, end = where
        refused = fault(self.mm, start << 12, (end - start) << 12, True)
        writable = [n for n in range(start, end) if n in self.naive.pages and self.naive.pages[n].flags & 2]
        assert refused == (end - start) - len(writable)

    @rule()
    def fork(self) -> None:
        self.mm = dup_mmap(self.mm, self.mm.number + 1, [self.mm])
        self.naive.fork()

    def plain(self, page: Page) -> Page:
        """VM_ACCOUNT and the offset of moved anonymous memory hang on whether the VMA has been written."""
        return page._replace(flags=page.flags & ~0x100000, offset=page.offset if page.file else 0)


CI = settings(max_examples=50, stateful_step_count=30, deadline=None, derandomize=True)


def test_unwritten_memory_is_exactly_the_runs_of_equal_pages() -> None:
    """Over all calls and presets, as long as nothing is written, the VMA list is the naive model's."""
    run_state_machine_as_test(Machine, settings=CI)


def test_written_memory_never_mixes_pages() -> None:
    """With write faults no VMA holds pages that differ, none is lost, and every answer is the model's."""
    run_state_machine_as_test(FaultingMachine, settings=CI)


def test_the_machine_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug, the upper half of a split taking wrong flags, is found."""
    real = split_module.split_vma_unchecked

    def wrong(*args: object, **kwargs: object) -> object:
        new = real(*args, **kwargs)  # type: ignore[arg-type]
        if not isinstance(new, int):
            new.attrs = new.attrs.with_flags(new.attrs.vm_flags ^ 0x10000)
        return new

    monkeypatch.setattr(split_module, "split_vma_unchecked", wrong)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=CI)
