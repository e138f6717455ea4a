"""Attributes are interned: equal ones are identical, and what nobody holds is forgotten."""

from __future__ import annotations

import gc
from itertools import product

import pytest

from vmastore.mm.flags import PAGE_SHIFT, VM_MAYBE_GUARD, VM_READ, VM_SHARED, VM_SOFTDIRTY, VM_SPECIAL, VM_WRITE
from vmastore.mm.vma import AnonVma, AttrsTable, File, Mempolicy, UffdCtx, Vma, VmaAttrs

FILE = File(1, "regular")
POLICY, EQUAL_POLICY = Mempolicy(2, 0, 1, 1), Mempolicy(2, 0, 1, 1)
CTX = UffdCtx(1)
FIELDS = list(
    product((VM_READ, VM_READ | VM_WRITE), (None, FILE), (None, POLICY), (None, CTX), (None, "a"), (0, 5), (0, 7))
)


def _alive() -> int:
    gc.collect()
    return sum(isinstance(o, VmaAttrs) for o in gc.get_objects())


def test_equal_is_identical() -> None:
    """Two requests for the same seven fields give one object, any difference another one."""
    table = AttrsTable(0)
    made = [table.get(*fields) for fields in FIELDS]
    assert len({id(a) for a in made}) == len(FIELDS)
    assert all(table.get(*fields) is attrs for fields, attrs in zip(FIELDS, made, strict=True))
    assert table.get(VM_READ, vm_policy=EQUAL_POLICY) is table.get(VM_READ, vm_policy=POLICY)
    assert table.get(VM_READ, File(1, "regular")) is not table.get(VM_READ, FILE)


@pytest.mark.parametrize("fields", FIELDS, ids=range(len(FIELDS)))
def test_with_changes_one_field(fields: tuple[int, File, Mempolicy, UffdCtx, str, int, int]) -> None:
    """Each with_…() gives the attributes with that field changed, and back again the very same object."""
    table = AttrsTable(0)
    attrs = table.get(*fields)
    flags, file, policy, uffd, name, delta, anon_delta = fields
    assert attrs.with_flags(VM_SHARED) is table.get(VM_SHARED, *fields[1:])
    assert attrs.with_flags(VM_SHARED).with_flags(flags) is attrs
    assert attrs.with_name("b") is table.get(flags, file, policy, uffd, "b", delta, anon_delta)
    assert attrs.with_policy(None) is table.get(flags, file, None, uffd, name, delta, anon_delta)
    assert attrs.with_uffd(flags, None) is table.get(flags, file, policy, None, name, delta, anon_delta)
    assert attrs.with_delta(9, 8) is table.get(flags, file, policy, uffd, name, 9, 8)


def test_compat_ignores_what_comparisons_ignore() -> None:
    """`compat` is one object for attributes that differ in ignored flags only."""
    table = AttrsTable(VM_SOFTDIRTY | VM_MAYBE_GUARD)
    plain = table.get(VM_READ)
    assert plain.compat is plain
    assert table.get(VM_READ | VM_SOFTDIRTY).compat is plain
    assert table.get(VM_READ | VM_SOFTDIRTY | VM_MAYBE_GUARD).compat is plain
    assert table.get(VM_WRITE | VM_SOFTDIRTY).compat is not plain
    assert AttrsTable(VM_SOFTDIRTY).get(VM_READ | VM_MAYBE_GUARD).compat.vm_flags == VM_READ | VM_MAYBE_GUARD


@pytest.mark.parametrize("kind", ["regular", "shm", "special", "hugetlb", "memfd"])
def test_close_and_special(kind: str) -> None:
    """SysV shm, special mappings and hugetlb have a close hook; VM_SPECIAL is known in advance."""
    table = AttrsTable(0)
    assert table.get(VM_READ, File(1, kind)).close == (kind in ("shm", "special", "hugetlb"))
    bits = [1 << n for n in range(43)]
    assert sum(bit for bit in bits if table.get(bit).special) == VM_SPECIAL


@pytest.mark.parametrize("ignored", [0, VM_SOFTDIRTY], ids=["none-ignored", "soft-dirty-ignored"])
def test_sweep_forgets_what_nobody_holds(ignored: int) -> None:
    """A long replay meets no end of attributes: those in use survive, identical, the rest go."""
    before = _alive()
    table = AttrsTable(ignored)
    held = [table.get(VM_READ | VM_SOFTDIRTY, delta=-n) for n in range(1, 500)]
    by_memo = [a.with_flags(VM_WRITE | VM_SOFTDIRTY) for a in held[:100]]
    for n in range(100_000):
        table.get(VM_READ | (VM_SOFTDIRTY if n & 1 else 0), delta=n)
    assert _alive() - before < 45_000
    for n, attrs in enumerate(held, 1):
        assert table.get(VM_READ | VM_SOFTDIRTY, delta=-n) is attrs
        assert attrs.compat is table.get(VM_READ | VM_SOFTDIRTY & ~ignored, delta=-n)
        assert attrs.compat.compat is attrs.compat
    assert all(a.with_flags(VM_WRITE | VM_SOFTDIRTY) is b for a, b in zip(held[:100], by_memo, strict=True))


def test_vma_tells_its_fields() -> None:
    """A VMA's page offset follows from its start; what it maps decides whether it is anonymous."""
    table = AttrsTable(0)
    vma = Vma(16 << PAGE_SHIFT, 20 << PAGE_SHIFT, table.get(VM_READ, FILE, POLICY, CTX, "a", -10))
    assert (vma.vm_pgoff, vma.vm_flags, vma.vm_file, vma.vm_policy) == (6, VM_READ, FILE, POLICY)
    assert vma.anon_name == "a"
    assert not vma.is_anonymous
    assert Vma(0, 4096, table.get(VM_READ)).is_anonymous
    zero = File(2, "zero")
    assert Vma(0, 4096, table.get(VM_READ, zero)).is_anonymous
    assert not Vma(0, 4096, table.get(VM_READ | VM_SHARED, zero)).is_anonymous


def test_forked_anon_vmas_know_their_root() -> None:
    """An anon_vma made by fork hangs below the parent's, all under one root."""
    first = AnonVma()
    second = AnonVma(first)
    third = AnonVma(second)
    assert first.parent is first
    assert (third.parent, third.root) == (second, first)
