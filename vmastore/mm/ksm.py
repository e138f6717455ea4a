"""Which mappings KSM may scan (ksm_compatible / vma_ksm_compatible)."""

from __future__ import annotations

from typing import Final

from vmastore.mm.flags import (
    VM_DONTEXPAND,
    VM_DROPPABLE,
    VM_HUGETLB,
    VM_IO,
    VM_MAYSHARE,
    VM_MIXEDMAP,
    VM_PFNMAP,
    VM_SHADOW_STACK,
    VM_SHARED,
)
from vmastore.mm.vma import File

_REFUSED: Final = (
    VM_SHARED | VM_MAYSHARE | VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_HUGETLB | VM_MIXEDMAP | VM_DROPPABLE
) | VM_SHADOW_STACK


def ksm_compatible(vm_flags: int, file: File | None) -> bool:
    """Whether VM_MERGEABLE may be set; else MADV_MERGEABLE silently does nothing."""
    return not vm_flags & _REFUSED
