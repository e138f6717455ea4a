"""Memory policies: exhibits."""

from __future__ import annotations

from vmastore.reports.museum.exhibit import PAGE, Exhibit, anon, bind

POLICY: tuple[Exhibit, ...] = (
    Exhibit(
        "mbind-stale-prev",
        "mbind forgets a VMA that has the policy already",
        "mbind goes through the VMAs of its range and hands each the one before it to merge with. It did not move"
        " that on over a VMA whose policy was equal, and the next one met a neighbour that it does not touch: no"
        " merge. LTP's vma02 found it.",
        "mm/mempolicy: correctly update prev when policy is equal on mbind (00ca0f2e86bf, 6.4)",
        "6.12",
        {"mbind-stale-prev": True},
        {},
        (anon(0, 3), bind(0, 1), bind(0, 3)),
    ),
    Exhibit(
        "mbind-underflow",
        "mbind at address 0 loses VMAs",
        "To find the VMA below its range mbind searched down from the address before it. Before 0 that is the highest"
        " address there is: the search found the highest VMA, and that was split at the end of the range, far below"
        " itself. The tree of VMAs lost all that lay between, and exit found the count wrong.",
        "mm/mempolicy: fix mbind_range() arguments to vma_merge() (7329e3ebe359, 6.1-rc2)",
        "6.1",
        {"mbind-underflow": True},
        {},
        (("mmap", 0, 4 * PAGE, 3, 0x32, -1, 0), anon(0, 4), ("mbind", 0, PAGE, 1, 1, 64, 0)),
        {"mmap_min_addr": 0},
    ),
    Exhibit(
        "mbind-offset",
        "mbind merges the tail of a VMA by the offset of its head",
        "The fix of mbind's page offset in 3.1 took that of the VMA, also where the range begins inside it. The tail"
        " of a VMA did not merge with the VMA above; and where the wrong offset fitted, two parts of a file came"
        " together that are none, and the kernel stopped.",
        "mm/mempolicy.c: refix mbind_range() vma issue (3.3)",
        "6.12",
        {"mbind-vma-offset": True},
        {},
        (anon(0, 6), bind(4, 2), bind(2, 2)),
    ),
    Exhibit(
        "mbind-range-offset",
        "mbind over several VMAs merges only the first",
        "Before that, the offset was counted from the start of the range: of every VMA behind the first it was too"
        " low, and merged with nothing. mbind over pages that had been bound one by one left them apart.",
        "mm/mempolicy.c: fix pgoff in mbind vma merge (8aacc9f550fe, 3.1)",
        "6.12",
        {"mbind-range-offset": True},
        {},
        (anon(0, 3), bind(1, 1, nodes=2), bind(0, 3)),
        {"nodes": 3},
    ),
)
