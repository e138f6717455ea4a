"""fork, exec and exit, as far as VMAs go. Sources: dup_mmap(), anon_vma_fork(), exec_mmap(), exit_mmap()."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vmastore.mm.flags import (
    VM_DONTCOPY,
    VM_LOCKED_MASK,
    VM_NOHUGEPAGE,
    VM_UFFD_FLAGS,
    VM_WIPEONFORK,
    VM_WRITE,
)
from vmastore.mm.mm import Mm
from vmastore.mm.unknown import UNSURE_FORKED, write_open
from vmastore.mm.vma import AnonVma, UffdCtx, Vma
from vmastore.syscalls.fault import becomes_writable
from vmastore.syscalls.uapi import UFFD_FEATURE_EVENT_FORK

_WIPED: Final = VM_WIPEONFORK | VM_WRITE


def dup_mmap(parent: Mm, number: int, alive: Iterable[Mm]) -> Mm:
    """The child's address space: no merging, no locks, anon_vmas of its own. Source: dup_mmap().

    alive: all address spaces (an anon_vma that none of their VMAs uses may be reused).
    """
    child = Mm(parent.env, number)
    child.start_brk, child.brk = parent.start_brk, parent.brk
    child.start_stack, child.complete = parent.start_stack, parent.complete
    child.def_flags = parent.def_flags & VM_NOHUGEPAGE
    child.merge_any, child.mdwe, child.persona = parent.merge_any, parent.mdwe, parent.persona
    child.attached, child.imaged = parent.attached, parent.imaged
    child.rlimits, child.exec_rlimits = parent.rlimits, parent.exec_rlimits
    child.pmds = set(parent.pmds)
    chains = _ChainCounts(parent, alive)
    watchers: dict[UffdCtx, UffdCtx] = {}
    last = child.head
    for vma in parent.vmas():
        if vma.attrs.vm_flags & VM_DONTCOPY:
            continue
        copy = _copy(vma, chains, child, watchers)
        child.insert_after(last, copy)
        if copy.attrs.vm_flags & _WIPED == _WIPED and child.env.faults != "recorded":
            becomes_writable(child, copy)  # by the child, unseen
        if parent.guards and not vma.attrs.vm_flags & VM_WIPEONFORK:
            _copy_guards(parent, child, vma)
        last = copy
    return child


def _copy_guards(parent: Mm, child: Mm, vma: Vma) -> None:
    """copy_pte_marker(): guard pages stay guard pages (a VMA that has some has its page tables copied)."""
    addr = parent.guards.first(vma.vm_start, vma.vm_end)
    while addr < vma.vm_end:
        end = parent.guards.end(addr, vma.vm_end)
        child.guards.add(addr, end)
        addr = parent.guards.first(end, vma.vm_end)


def _copy(vma: Vma, chains: _ChainCounts, child: Mm, watchers: dict[UffdCtx, UffdCtx]) -> Vma:
    flags = vma.attrs.vm_flags & ~VM_LOCKED_MASK
    attrs = vma.attrs.with_flags(flags)
    ctx = attrs.uffd
    if ctx is not None and not ctx.features & UFFD_FEATURE_EVENT_FORK:
        attrs = attrs.with_uffd(flags & ~VM_UFFD_FLAGS, None)
    elif ctx is not None:
        attrs = attrs.with_uffd(flags, _watcher(ctx, child, watchers))
    copy = Vma(vma.vm_start, vma.vm_end, attrs, label=vma.label)
    copy.unsure = UNSURE_FORKED if write_open(vma) else 0
    if flags & VM_WIPEONFORK:
        copy.unsure = 0
    elif vma.anon_vma is not None:
        copy.anon_vma, copy.chain = chains.fork(vma)
    return copy


def _watcher(ctx: UffdCtx, child: Mm, watchers: dict[UffdCtx, UffdCtx]) -> UffdCtx:
    """The context that watches the child as ctx does its parent: one of its own (dup_userfaultfd)."""
    found = watchers.get(ctx)
    if found is None:
        found = watchers[ctx] = UffdCtx(0, ctx.features, child.number)
        child.env.forked_uffds.append(found)
    return found


class _ChainCounts:
    """anon_vma_fork(): reuse of an abandoned anon_vma of the chain, else a new one."""

    def __init__(self, parent: Mm, alive: Iterable[Mm]) -> None:
        self._active: dict[AnonVma, int] = {}
        self._children: dict[AnonVma, set[AnonVma]] = {}
        self._twice = parent.rules.anon_vma_reused_twice
        if any(len(v.chain) > 1 for v in parent.vmas()):
            self._count(alive)

    def _count(self, alive: Iterable[Mm]) -> None:
        for mm in alive:
            for vma in mm.vmas():
                if vma.anon_vma is not None:
                    self._active[vma.anon_vma] = self._active.get(vma.anon_vma, 0) + 1
                for anon in vma.chain:
                    self._children.setdefault(anon.parent, set()).add(anon)

    def _is_free(self, anon: AnonVma, source: AnonVma | None) -> bool:
        """Whether fork may reuse it: no VMA has it as its own, and it has one child at most (root: itself)."""
        users, children = self._active.get(anon, 0), len(self._children.get(anon, ()))
        if self._twice:  # one count of both
            return anon is not source and users + children < 2
        return not users and children < 2

    def fork(self, vma: Vma) -> tuple[AnonVma, tuple[AnonVma, ...]]:
        """(anon_vma, chain) of the child's copy of a written VMA."""
        if len(vma.chain) > 1:
            for anon in reversed(vma.chain):
                if self._is_free(anon, vma.anon_vma):
                    self._active[anon] = self._active.get(anon, 0) + 1
                    return anon, vma.chain
        assert vma.anon_vma is not None
        new = AnonVma(vma.anon_vma)
        self._active[new] = 1
        self._children.setdefault(vma.anon_vma, set()).add(new)
        return new, (new, *vma.chain)
