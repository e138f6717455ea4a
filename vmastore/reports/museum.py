"""The museum: bugs of VMA merging and splitting that a replay can show, and notes on those it cannot.

Each exhibit is a short trace and two rule sets, one with the bug and one with its fix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vmastore.errors import InputError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import RuleSet, resolve
from vmastore.replay.memory import MemoryTrace, numbered

BASE, PAGE = 0x100000000000, 4096
RW, RO, RWX = 3, 1, 7
Call = tuple[Any, ...]


@dataclass(frozen=True)
class Exhibit:
    """kernel: where both rule sets start. bug, fix: switches flipped there (or a rule set's own name)."""

    name: str
    title: str
    story: str
    change: str  # the commit, change or advisory
    kernel: str
    bug: dict[str, bool]
    fix: dict[str, bool]
    calls: tuple[Call, ...]
    config: dict[str, Any] = field(default_factory=dict)
    bug_kernel: str | None = None  # a rule set of its own

    def rules(self) -> tuple[RuleSet, RuleSet]:
        """(with the bug, with the fix)."""
        bug, fix = resolve(self.bug_kernel or self.kernel), resolve(self.kernel)
        for name, on in self.bug.items():
            bug = bug.with_rule(name, on)
        for name, on in self.fix.items():
            fix = fix.with_rule(name, on)
        return bug, fix

    def trace(self) -> MemoryTrace:
        """Its calls, without answers; a fork goes on in the child."""
        mm, events = 1, [Event(1, 1, 1, 1, None, "maps", ("baseline", 0, None, []), None, 0)]
        for call, *args in self.calls:
            events.append(Event(0, mm, mm, mm, None, call, tuple(args), None, 0, _FILE.get(call)))
            mm += call == "fork"
        header = TraceHeader(self.name, "museum", "jsonl", config=dict(self.config), faults="recorded")
        return MemoryTrace(header, dict(_FILES), numbered(events))


_FILE = {"shmat": 1, "ioctl": 2}
_FILES = {1: FileInfo(1, None, "shm", True, True, size=8 * PAGE), 2: FileInfo(2, None, "uffd")}


def _anon(page: int, pages: int, prot: int = RW, flags: int = 0x32) -> Call:
    return "mmap", BASE + page * PAGE, pages * PAGE, prot, flags, -1, 0


def _protect(page: int, pages: int, prot: int) -> Call:
    return "mprotect", BASE + page * PAGE, pages * PAGE, prot


def _write(page: int) -> Call:
    return "fault", BASE + page * PAGE, PAGE, "w", None, "user"


def _move(page: int, old: int, new: int, flags: int, to: int) -> Call:
    return "mremap", BASE + page * PAGE, old * PAGE, new * PAGE, flags, BASE + to * PAGE


def _uffd(cmd: str, page: int, pages: int) -> Call:
    return "ioctl", 3, cmd, BASE + page * PAGE, pages * PAGE, 1 if cmd == "UFFDIO_REGISTER" else None, None


EXHIBITS: tuple[Exhibit, ...] = (
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
        (_anon(0, 4), _protect(1, 1, RO)),
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
        (_anon(0, 4), _protect(0, 2, RWX), _write(2), _protect(2, 2, RWX)),
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
            _anon(8, 2),
            _write(8),
            ("fork", 0, 2),
            _move(8, 2, 2, 3, 20),
            _anon(10, 2),
            _move(20, 2, 2, 3, 8),
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
        (("prctl", 67, 1, 0, 0, 0), _anon(0, 2), _anon(2, 2), _anon(4, 2)),
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
        (_anon(0, 8), _uffd("UFFDIO_REGISTER", 4, 4), _uffd("UFFDIO_REGISTER", 2, 2)),
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
            _anon(0, 2),
            _anon(10, 2),
            _uffd("UFFDIO_REGISTER", 0, 2),
            _uffd("UFFDIO_REGISTER", 10, 2),
            _move(0, 2, 2, 3, 8),
        ),
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
        (("shmat", 1, BASE, 0, 8 * PAGE), _protect(2, 4, RO), _protect(2, 2, RW)),
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
        (_anon(0, 4), _anon(4, 4, RW, 0x20032), _anon(8, 4)),
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
        (_anon(0, 2), _move(0, 2, 2, 7, 2)),
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
        (_anon(0, 4), ("mlock", BASE, 4 * PAGE), _move(1, 1, 1, 7, 20)),
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
        (_anon(0, 2), _anon(8, 4), _move(1, 2, 3, 3, 9)),
    ),
)

_RACE = "hangs on two threads at once, or on memory freed too early: a replay does one call after the other"
_MEMORY = "needs the kernel to run out of memory inside the call, which no trace shows and the model does not do"
_PLACE = "is about where the kernel puts a mapping; addresses come from the trace"
_NO_SWITCH = "lived in releases before or between those that have rule sets, and no rule switch describes it"

NOTES: tuple[tuple[str, str, str], ...] = (
    ("mremap-expand", "mremap that expands no longer merges with the next (ca3d76b0aa80, d014cd7c1c35)", _NO_SWITCH),
    ("mbind-underflow", "mbind at a low address loses VMAs (66850be55e8e, 7329e3ebe359)", _NO_SWITCH),
    ("mbind-iterator", "mbind goes on with a stale VMA (f4e9e0e69468, 00ca0f2e86bf)", _NO_SWITCH),
    ("mbind-offset", "mbind hands the wrong offset to the merge (8aacc9f550fe)", _NO_SWITCH),
    ("policy-freed", "a freed memory policy is used (05f144a0d5c2)", _RACE),
    ("merge-retry", "the iterator is wrong after a failed merge (1419430)", _MEMORY),
    ("uffd-release-oom", "a failed merge is taken for a VMA at userfaultfd release (41e6ddcaa0f1)", _MEMORY),
    ("uffd-stale", "userfaultfd unregister uses stale tree state (59f2f4b8a757, 65ac132027a8)", _NO_SWITCH),
    ("uffd-never-back", "userfaultfd never merges back (19a809afe2fe, before 4.3)", _NO_SWITCH),
    ("cve-2022-42703", "an anon_vma is reused twice (2555283eb40d)", _RACE),
    ("driver-flags", "a driver changes vm_flags in its mmap (d70cec898324)", "needs the driver"),
    ("thp-alignment", "aligned mappings no longer touch: cactusBSSN (efa7df3e3bb5, d4148aeab412)", _PLACE),
    ("thp-hint", "hints of mmap are ignored (249608ee4713)", _PLACE),
    ("unmapped-area", "MAP_32BIT finds no gap (3499a13168da, 58c5d0d6d522)", _PLACE),
    ("nommu-count", "split_vma miscounts without an MMU (fd9edbdbdcde)", "is about kernels without an MMU"),
    ("dup-anon-vma-error", "error paths of dup_anon_vma and munmap (824135c46b00, 606c812eb1d5)", _MEMORY),
    ("stackrot", "CVE-2023-3269: the stack grows while the tree is read", _RACE),
)


def exhibit(name: str) -> Exhibit:
    """The exhibit of that name. Raises InputError, for a note with what it says."""
    for found in EXHIBITS:
        if found.name == name:
            return found
    for note, title, why in NOTES:
        if note == name:
            raise InputError(f"{name} cannot be played: {title}. It {why}.")
    raise InputError(f"the museum has no {name!r}", hint="`vmastore museum list`")
