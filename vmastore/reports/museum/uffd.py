"""userfaultfd: exhibits."""

from __future__ import annotations

from vmastore.reports.museum.exhibit import Exhibit, anon, move, uffd

UFFD: tuple[Exhibit, ...] = (
    Exhibit(
        "uffd-never-back",
        "userfaultfd never merges back",
        "The first patches of userfaultfd split VMAs when a range was registered and looked at no neighbour when it"
        " was unregistered: the pieces stayed for ever. The fix came within the series; no release was without it.",
        "userfaultfd: teach vma_merge to merge across vma->vm_userfaultfd_ctx (19a809afe2fe, 4.3)",
        "6.12",
        {"uffd-never-merges": True},
        {},
        (anon(0, 6), uffd("UFFDIO_REGISTER", 2, 2), uffd("UFFDIO_UNREGISTER", 2, 2)),
    ),
    Exhibit(
        "uffd-part",
        "Registering the tail of a VMA loses the merge above",
        "userfaultfd register and unregister handed the page offset of the VMA's start to the merge, also where the"
        " range began inside it: the offset did not fit the VMA above, and the two stayed apart.",
        "mm/uffd: fix vma operation where start addr cuts part of vma (6.4)",
        "6.1",
        {},
        {"uffd-merge-offset": True},
        (anon(0, 8), uffd("UFFDIO_REGISTER", 4, 4), uffd("UFFDIO_REGISTER", 2, 2)),
    ),
    Exhibit(
        "uffd-mremap",
        "mremap merges VMAs of a userfaultfd and both lose it",
        "A registered VMA whose context has no EVENT_REMAP loses its registration when it is moved. It merged with a"
        " registered neighbour first, and that one lost its registration too.",
        "mm/vma: avoid broken uffd merge on mremap (7.3)",
        "7.3",
        {"uffd-merge-needs-event-remap": False},
        {},
        (
            anon(0, 2),
            anon(10, 2),
            uffd("UFFDIO_REGISTER", 0, 2),
            uffd("UFFDIO_REGISTER", 10, 2),
            move(0, 2, 2, 3, 8),
        ),
    ),
)
