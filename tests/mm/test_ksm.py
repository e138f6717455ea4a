"""KSM takes private anonymous and private file mappings only."""

from __future__ import annotations

import pytest

from vmastore.mm import flags as f
from vmastore.mm.ksm import ksm_compatible

REFUSED = {
    f.VM_SHARED,
    f.VM_MAYSHARE,
    f.VM_PFNMAP,
    f.VM_IO,
    f.VM_DONTEXPAND,
    f.VM_HUGETLB,
    f.VM_MIXEDMAP,
    f.VM_DROPPABLE,
    f.VM_SHADOW_STACK,
}


@pytest.mark.parametrize(("bit", "letters"), f.LETTERS)
def test_which_flags_keep_ksm_out(bit: int, letters: str) -> None:
    """Shared, special, huge and droppable mappings are refused, all others taken."""
    assert ksm_compatible(bit, None) == (bit not in REFUSED)
