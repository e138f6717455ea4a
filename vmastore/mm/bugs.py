"""Bugs of past releases, as switches that bring them back: each is off where it was mended.

The museum plays them. The change named is the one that mended the bug.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmastore.mm.switch import ALWAYS, NEVER, switch


@dataclass(frozen=True)
class Bugs:
    """Which bugs a kernel has. Attribute names are the switch names with underscores."""

    mremap_extend_wrong_offset: bool = switch(
        (6, 1, 0),
        "mm, mremap: fix mremap() expanding vma with addr inside vma (6f12be792fde)",
        "mremap that grows in place from an address inside a VMA hands the merge an offset as if that address were "
        "the VMA's start; it does not fit and the call fails with ENOMEM.",
        until=(6, 2, 0),
        ended={(6, 1): 3},
    )
    mremap_extend_needs_no_close: bool = switch(
        (6, 1, 0),
        "mm, mremap: fix mremap() expanding for vma's with vm_ops->close() (d014cd7c1c35)",
        "mremap does not grow a VMA with a close hook (SysV shm) in place: the merge that does it refuses the hook, "
        "and the call fails with ENOMEM.",
        until=(6, 2, 0),
        ended={(6, 1): 11},
    )
    mbind_stale_prev: bool = switch(
        (6, 3, 0),
        "mm/mempolicy: correctly update prev when policy is equal on mbind (00ca0f2e86bf)",
        "After a VMA that has the policy already, mbind hands the merge a VMA before that one as the lower "
        "neighbour: the next VMA merges with nobody.",
        until=(6, 4, 0),
        backports={(6, 1): 27, (6, 2): 14},
        ended={(6, 1): 28, (6, 2): 15, (6, 3): 2},
    )
    mbind_underflow: bool = switch(
        NEVER,
        "mm/mempolicy: fix mbind_range() arguments to vma_merge() (7329e3ebe359)",
        "mbind at address 0 looks for the VMA below it, finds the highest of all, and splits that at an address it "
        "does not hold: the VMAs between are lost (outcome oops). 6.1-rc1 only.",
    )
    mbind_range_offset: bool = switch(
        ALWAYS,
        "mm/mempolicy.c: fix pgoff in mbind vma merge (8aacc9f550fe)",
        "mbind counts the offset that it hands to the merge from the start of its range, so that no VMA behind the "
        "first fits its neighbours.",
        until=(3, 1, 0),
    )
    mbind_vma_offset: bool = switch(
        (3, 1, 0),
        "mm/mempolicy.c: refix mbind_range() vma issue",
        "mbind hands the page offset of the VMA's start to the merge, also where its range begins inside: the tail "
        "of a VMA does not merge with the VMA above.",
        until=(3, 3, 0),
    )
    uffd_never_merges: bool = switch(
        NEVER,
        "userfaultfd: teach vma_merge to merge across vma->vm_userfaultfd_ctx (19a809afe2fe)",
        "userfaultfd register and unregister split VMAs and never merge them again. Before 4.3, which has the fix.",
    )
    anon_vma_reused_twice: bool = switch(
        ALWAYS,
        "mm/rmap: Fix anon_vma->degree ambiguity leading to double-reuse (2555283eb40d, CVE-2022-42703)",
        "fork takes an anon_vma that has one user or one child, whichever it is, for free to be used again: two VMAs "
        "of a child may get the same one, and merge.",
        until=(6, 0, 0),
        ended={(5, 19): 7},
    )
    thp_align_ignores_hint: bool = switch(
        (6, 7, 0),
        "mm: respect mmap hint address when aligning for THP (249608ee4713)",
        "A large anonymous mapping goes to its hint only if there is room for 2 MiB more than it needs.",
        until=(6, 13, 0),
        ended={(6, 12): 2},
    )
    unmapped_area_no_guard_gap: bool = switch(
        (6, 1, 0),
        "mm/mmap: regression fix for unmapped_area{_topdown} (58c5d0d6d522)",
        "The search for a free range leaves no guard gap below a GROWSDOWN VMA: a new mapping may touch it, and the "
        "stack cannot grow.",
        until=(6, 3, 0),
        ended={(6, 1): 26, (6, 2): 13},
    )
