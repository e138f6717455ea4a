"""Which mappings are charged to the commit limit."""

from __future__ import annotations

import pytest
from layout import flag_bits

from vmastore.mm.accounting import accountable
from vmastore.mm.flags import VM_ACCOUNT, VM_HUGETLB
from vmastore.mm.vma import File


@pytest.mark.parametrize(
    ("shade", "bits", "kind", "want"),
    [
        ("w", 0, None, True),
        ("r", 0, None, False),
        ("w", VM_HUGETLB, None, False),
        ("w", 0, "hugetlb", False),
        ("w", 0, "regular", True),
    ],
)
def test_what_is_accounted(shade: str, bits: int, kind: str | None, want: bool) -> None:
    """Private writable memory is, hugetlb never."""
    flags = flag_bits(shade) & ~VM_ACCOUNT | bits
    assert accountable(flags, File(1, kind) if kind else None) == want
