"""Where the kernel puts a mapping: exhibits."""

from __future__ import annotations

from vmastore.reports.museum.exhibit import BASE, PAGE, RW, Exhibit, anon

_STACK = 0x7FFFFFFD0000  # where exec may put one
_TOP = 0x7FFFF7FFF000  # below it mappings are placed where no stack is known

PLACING: tuple[Exhibit, ...] = (
    Exhibit(
        "thp-alignment",
        "Aligned mappings no longer touch: cactusBSSN",
        "Anonymous mappings of 2 MiB and more came to be placed on 2 MiB boundaries. Those of 4,632 KiB, which had"
        " merged into one VMA as they came, then stood apart, and a benchmark that makes many of them took up to"
        " seven times as long. Since, only multiples of 2 MiB are aligned.",
        "mm, mmap: limit THP alignment of anonymous mappings to PMD-aligned sizes (d4148aeab412, 6.12)",
        "6.12",
        {"thp-align-multiple": False},
        {},
        (
            ("mmap", _TOP - (4632 << 10), 4632 << 10, RW, 0x32, -1, 0),
            ("mmap", 0, 4632 << 10, RW, 0x22, -1, 0),
            ("mmap", 0, 4632 << 10, RW, 0x22, -1, 0),
        ),
    ),
    Exhibit(
        "thp-hint",
        "A hint of mmap is ignored",
        "The same alignment asked for 2 MiB more than the mapping needs, also at the address that the caller hinted"
        " at. Where the hole there held the mapping and not the two, the mapping went elsewhere, and did not merge"
        " with the one it was meant to follow.",
        "mm: respect mmap hint address when aligning for THP (249608ee4713, 6.13; 6.12.2)",
        "6.12",
        {"thp-align-ignores-hint": True},
        {},
        (anon(0, 512), anon(1024, 512, 1), ("mmap", BASE + 512 * PAGE, 512 * PAGE, RW, 0x22, -1, 0)),
    ),
    Exhibit(
        "unmapped-area",
        "A mapping touches the stack above it",
        "The search for a free range in the maple tree forgot the guard gap below a VMA that grows down: a mapping"
        " was put right below a stack, which then could not grow.",
        "mm/mmap: regression fix for unmapped_area{_topdown} (58c5d0d6d522, 6.3; 6.1.26)",
        "6.1",
        {"unmapped-area-no-guard-gap": True},
        {},
        (
            ("mmap", _STACK, 32 * PAGE, RW, 0x132, -1, 0),
            ("mmap", _STACK + 32 * PAGE - (128 << 20) - 4 * PAGE, 4 * PAGE, RW, 0x132, -1, 0),
            ("mmap", 0, 4 * PAGE, RW, 0x22, -1, 0),
        ),
    ),
)
