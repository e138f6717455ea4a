"""Merging and splitting VMAs: private, behind six functions and the entries that live beside them."""

from vmastore.mm.merge.existing import Oops
from vmastore.mm.merge.modify import (
    vma_merge_extend,
    vma_merge_new_vma,
    vma_modify_flags,
    vma_modify_flags_name,
    vma_modify_policy,
    vma_modify_uffd,
    why_not_one,
)
from vmastore.mm.merge.region import copy_vma, do_brk_flags, expand_stack, isolate_vma, mmap_region
from vmastore.mm.merge.unmap import do_vmi_munmap

__all__ = [
    "Oops",
    "copy_vma",
    "do_brk_flags",
    "do_vmi_munmap",
    "expand_stack",
    "isolate_vma",
    "mmap_region",
    "vma_merge_extend",
    "vma_merge_new_vma",
    "vma_modify_flags",
    "vma_modify_flags_name",
    "vma_modify_policy",
    "vma_modify_uffd",
    "why_not_one",
]
