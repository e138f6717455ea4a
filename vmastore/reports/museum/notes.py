"""Bugs of the same history that a replay cannot show, each with the reason."""

from __future__ import annotations

NOTES: tuple[tuple[str, str, str], ...] = (
    (
        "mbind-iterator",
        "set_mempolicy_home_node walks on from a freed node of the tree (66850be55e8e, f4e9e0e69468)",
        "Which VMA it finds next is what the freed node's memory then holds; with the fix the VMAs are those of every"
        " release. What that fix broke in turn is mbind-stale-prev",
    ),
    (
        "policy-freed",
        "vma_merge frees a policy that a VMA still points to (05f144a0d5c2)",
        "The VMAs are those of a kernel without the bug until the memory of the policy is used again, and what they"
        " then are hangs on who used it",
    ),
    (
        "merge-retry",
        "vma_merge leaves the iterator elsewhere when memory runs out (1419430c8abb)",
        "Only an allocation that fails inside the merge shows it. No trace records which allocation failed, and the"
        " map limit, the one failure that a caller can bring about, is met in split_vma alone",
    ),
    (
        "uffd-release-oom",
        "a failed merge is taken for a VMA when a userfaultfd is released (41e6ddcaa0f1)",
        "Release changes whole VMAs: nothing is split, so the map limit cannot make it fail as in series-v1, only an"
        " allocation can, and that no trace records",
    ),
    (
        "uffd-stale",
        "userfaultfd unregister reads a node of the tree that its own split freed (59f2f4b8a757)",
        "What it finds there is what the memory then holds. (65ac132027a8, the later regression in the same function,"
        " cost time and changed no VMA)",
    ),
    (
        "mas-empty-area",
        "MAP_32BIT finds no gap where there is one",
        "The search skipped the last slot of the leftmost node of the maple tree. Which VMAs share a node follows"
        " from every insertion since exec and is no property of the VMAs",
    ),
    (
        "nommu-count",
        "split_vma counts wrong without an MMU (fd9edbdbdcde)",
        "It is in mm/nommu.c, which merges nothing, knows no mprotect and is not the code that is modelled here",
    ),
    (
        "dup-anon-vma-error",
        "error paths of dup_anon_vma and munmap (824135c46b00, 606c812eb1d5)",
        "The first needs an allocation to fail inside the merge, which no trace records. The second leaves the VMAs"
        " as they are: what went wrong is a mark on them and the count of locked pages",
    ),
    (
        "stackrot",
        "CVE-2023-3269: the stack grows while the tree is read",
        "It takes two threads, one of which reads the tree under RCU while the other changes it. A replay does one"
        " call after the other, and each leaves the VMAs that it leaves on a mended kernel",
    ),
)
