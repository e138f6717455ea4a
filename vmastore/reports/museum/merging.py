"""Which VMAs merge: exhibits."""

from __future__ import annotations

from vmastore.reports.museum.exhibit import BASE, PAGE, RO, RW, RWX, Exhibit, anon, fork, leave, move, protect, write

MERGING: tuple[Exhibit, ...] = (
    Exhibit(
        "series-v1",
        "A failed split passes for a merge",
        "The first version of the series that made vma_modify() asked whether it had got a merged VMA before it asked"
        " whether that was an error pointer. Splitting at the map limit gives one: mprotect of a part of a mapping"
        " then dereferenced it. Version 2 asked in the other order, and nothing with the bug was released.",
        'version 1 of "Abstract vma_merge() and split_vma()", October 2023',
        "6.7",
        {},
        {},
        (anon(0, 4), protect(1, 1, RO)),
        {"max_map_count": 1},
        bug_kernel="series-v1",
    ),
    Exhibit(
        "missed-merge",
        "The merge that was missed for fifteen years",
        "A range that was written did not merge into a neighbour that was not: the check looked at the chain of the"
        " neighbour, which an unwritten VMA does not have. So a mapping of which half was written stayed two lines"
        " when both halves were alike again.",
        "mm/vma: fix incorrectly disallowed anonymous VMA merges (6.16)",
        "6.18",
        {"anon-merge-source-chain": False},
        {},
        (anon(0, 4), protect(0, 2, RWX), write(2), protect(2, 2, RWX)),
    ),
    Exhibit(
        "cve-2026-23077",
        "mremap leaves a merged VMA without its anon_vma",
        "With the missed merge mended, mremap of a written VMA to a place beside an unwritten one merged the two. If"
        " the moved VMA was inherited through fork, the merged one was left without the anon_vma that its pages name:"
        " use after free. With the fix such a VMA does not merge.",
        "mm/vma: fix anon_vma UAF on mremap() faulted, unfaulted merge; CVE-2026-23077",
        "6.18",
        {"mremap-copy-anon-vma": False},
        {},
        (
            anon(8, 2),
            write(8),
            ("fork", 0, 2),
            move(8, 2, 2, 3, 20),
            anon(10, 2),
            move(20, 2, 2, 3, 8),
        ),
    ),
    Exhibit(
        "ksm-new-mappings",
        "Under PR_SET_MEMORY_MERGE no new mapping merges",
        "VM_MERGEABLE was set after a new mapping had tried to merge, so it never had the flags of its neighbour,"
        " which had got the flag: every mmap made a VMA.",
        "mm: prevent KSM from breaking VMA merging for new VMAs (6.17)",
        "6.18",
        {"ksm-new-maps-merge": False},
        {},
        (("prctl", 67, 1, 0, 0, 0), anon(0, 2), anon(2, 2), anon(4, 2)),
    ),
    Exhibit(
        "close-hook",
        "SysV shared memory never merges again",
        "A VMA whose file has a close hook was taken to be removed by any merge, and refused. A part of a SysV"
        " segment that was made read-only and writable again stayed apart, although nothing was to be removed.",
        "may_remove_vma (6.3), can_merge_remove_vma() (6.12)",
        "6.12",
        {"close-prev-may-merge": False, "close-only-removed": False},
        {},
        (("shmat", 1, BASE, 0, 8 * PAGE), protect(2, 4, RO), protect(2, 2, RW)),
    ),
    Exhibit(
        "map-stack",
        "Thread stacks stop merging",
        "MAP_STACK, which had done nothing, came to set VM_NOHUGEPAGE: the stacks of threads no longer merge with"
        " plain mappings beside them.",
        "mm: mmap: map MAP_STACK to VM_NOHUGEPAGE (6.7/6.8)",
        "6.8",
        {},
        {"map-stack-nohugepage": False},
        (anon(0, 4), anon(4, 4, RW, 0x20032), anon(8, 4)),
    ),
    Exhibit(
        "cve-2022-42703",
        "fork hands one anon_vma out twice",
        "fork gives a child's VMA an anon_vma of its chain that nobody needs any more. Whether it is needed was one"
        " number, users and children together, so an anon_vma with one user passed for one with one child, and was"
        " given away again. Here both halves of a VMA get the same one, and merge where they must not; where the"
        " chains of the two differ, pages are left with one that the merged VMA does not have: use after free.",
        "mm/rmap: Fix anon_vma->degree ambiguity leading to double-reuse (2555283eb40d, 6.0); CVE-2022-42703",
        "6.1",
        {"anon-vma-reused-twice": True},
        {},
        (
            anon(0, 4),
            write(0),
            fork(2),
            fork(3),
            leave(2),
            fork(4),
            leave(3),
            protect(0, 2, RO),
            fork(5),
            ("fault", BASE, PAGE, "r", None, "user"),
            protect(0, 2, RW),
        ),
    ),
    Exhibit(
        "driver-flags",
        "A file system's flags keep its mappings apart",
        "The mmap hook of a file may add flags: ext4 and xfs with DAX set VM_HUGEPAGE. The merge was tried before the"
        " hook, with the flags of the call, and never again: mappings of one file side by side stayed apart.",
        "mm: mmap: merge vma after call_mmap() if possible (d70cec898324, 5.9)",
        "6.12",
        {"second-merge-attempt": False},
        {},
        (("mmap", BASE, 2 * PAGE, RW, 0x11, 4, 0), ("mmap", BASE + 2 * PAGE, 2 * PAGE, RW, 0x11, 4, 2 * PAGE)),
    ),
)
