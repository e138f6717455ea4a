"""Which mappings count against the commit limit (accountable_mapping)."""

from __future__ import annotations

from vmastore.mm.flags import VM_HUGETLB, VM_NORESERVE, VM_SHARED, VM_WRITE
from vmastore.mm.vma import File


def accountable(vm_flags: int, file: File | None) -> bool:
    """accountable_mapping(): private, writable, not NORESERVE, not hugetlb."""
    if vm_flags & VM_HUGETLB or (file is not None and file.is_huge):
        return False
    return vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE
