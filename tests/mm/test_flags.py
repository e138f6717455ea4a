"""vm_flags as /proc shows them."""

from __future__ import annotations

import pytest

from vmastore.mm import flags as f


def test_values_are_distinct_bits() -> None:
    """Every named flag that smaps has letters for is one bit of its own, every pair of letters used once."""
    bits = [bit for bit, _ in f.LETTERS]
    assert len(set(bits)) == len(bits) == len({letters for _, letters in f.LETTERS})
    assert all(bit & (bit - 1) == 0 for bit in bits)
    assert bits == sorted(bits)


@pytest.mark.parametrize(("bit", "letters"), f.LETTERS)
def test_letters_come_back(bit: int, letters: str) -> None:
    """A flag's letters give the flag again."""
    assert f.vmflags_letters(bit) == letters
    assert f.vmflags_from_letters(letters) == bit


def test_all_letters_come_back() -> None:
    """A whole VmFlags line comes back; 6.1 prints ?? for VM_LOCKONFAULT."""
    text = "rd wr mr mw me lo lf ac sd"
    assert f.vmflags_letters(f.vmflags_from_letters(text)) == text
    assert f.vmflags_from_letters(text.replace("lf", "??")) == f.vmflags_from_letters(text)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0, "---p"),
        (f.VM_READ | f.VM_WRITE, "rw-p"),
        (f.VM_READ | f.VM_EXEC, "r-xp"),
        (f.VM_READ | f.VM_WRITE | f.VM_SHARED | f.VM_MAYSHARE, "rw-s"),
        (f.VM_READ | f.VM_MAYSHARE, "r--s"),  # shared, of a file that is not open for writing
        (f.VM_MAYREAD | f.VM_MAYWRITE | f.VM_MAYEXEC, "---p"),
    ],
)
def test_perms(bits: int, text: str) -> None:
    """The column follows the rights that are, and VM_MAYSHARE."""
    assert f.perms(bits) == text
    assert f.perms(f.vmflags_from_perms(text)) == text
