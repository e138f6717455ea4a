"""mremap: exhibits."""

from __future__ import annotations

from vmastore.reports.museum.exhibit import BASE, PAGE, Exhibit, anon, move

MREMAP: tuple[Exhibit, ...] = (
    Exhibit(
        "mremap-expand",
        "mremap cannot grow from inside a VMA",
        "Since mremap grows in place through the merge (ca3d76b0aa80), it needs the page offset of what it adds. That"
        " was reckoned as if the call named the start of the VMA, also where it named an address inside: the offset"
        " fitted nothing, and mremap failed with ENOMEM. Random failures of rpm brought it to light.",
        "mm, mremap: fix mremap() expanding vma with addr inside vma (6f12be792fde, 6.1.3)",
        "6.1",
        {"mremap-extend-wrong-offset": True},
        {},
        (anon(0, 2), anon(3, 2), ("mremap", BASE + PAGE, PAGE, 2 * PAGE, 0, 0)),
    ),
    Exhibit(
        "mremap-expand-close",
        "mremap cannot grow what has a close hook",
        "The merge that mremap grows by refuses a VMA with a close hook, as if growing could remove it. A segment of"
        " shared memory that was cut could not be made longer again.",
        "mm, mremap: fix mremap() expanding for vma's with vm_ops->close() (d014cd7c1c35, 6.1.11)",
        "6.1",
        {"mremap-extend-needs-no-close": True},
        {},
        (
            ("shmat", 1, BASE, 0, 8 * PAGE),
            ("munmap", BASE + 4 * PAGE, 4 * PAGE),
            ("mremap", BASE, 4 * PAGE, 6 * PAGE, 0, 0),
        ),
    ),
    Exhibit(
        "dontunmap-self-merge",
        "MREMAP_DONTUNMAP merges a copy with its own source",
        "Moved with MREMAP_DONTUNMAP to the place beside itself, an unwritten VMA merged with the copy: one VMA of"
        " both, and what is accounted for the source went wrong.",
        "mm/mremap: fix locked_vm leak from MREMAP_DONTUNMAP self-merge (7.3)",
        "7.3",
        {"dontunmap-no-self-merge": False},
        {},
        (anon(0, 2), move(0, 2, 2, 7, 2)),
    ),
    Exhibit(
        "dontunmap-locked-part",
        "MREMAP_DONTUNMAP of a part unlocks the whole",
        "MREMAP_DONTUNMAP of a part of a locked VMA took the lock from all of it. With the fix that part is split off"
        " first.",
        "mm/mremap: fix locked_vm leak by splitting VMA for MREMAP_DONTUNMAP (7.3)",
        "7.3",
        {"dontunmap-splits-locked": False},
        {},
        (anon(0, 4), ("mlock", BASE, 4 * PAGE), move(1, 1, 1, 7, 20)),
    ),
    Exhibit(
        "mremap-checks-late",
        "A refused mremap destroys its target",
        "With MREMAP_FIXED the target was unmapped before the source was looked at: a call that fails, here because"
        " nothing is mapped at its source, leaves a hole. The checks stood so late since the days of the"
        ' "do_mremap() mess" (CVE-2010-0291).',
        "mm/mremap: check parameters and the VMA before anything is unmapped (6.17)",
        "6.18",
        {"mremap-checks-first": False},
        {},
        (anon(0, 2), anon(8, 4), move(1, 2, 3, 3, 9)),
    ),
)
