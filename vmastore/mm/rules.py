"""Rule sets: which kernel's answers a replay gives.

Every statement about VMAs that changed between releases is one switch of `RuleSet`, with the
release that brought it and the stable branches that took it back; those that are bugs and nothing
else are in `mm/bugs.py`. A release string is resolved switch by switch; presets are the patch levels
that were observed (`6.7` and `series-v1` are read from source).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Final

from vmastore.errors import RuleError
from vmastore.mm.bugs import Bugs
from vmastore.mm.switch import ALWAYS, NEVER, Release, Switch, switch


@dataclass(frozen=True)
class RuleSet(Bugs):
    """The answers of one kernel, as switches. Attribute names are the switch names with underscores."""

    name: str = "custom"

    # -- merging -------------------------------------------------------------------------------
    anon_merge_source_chain: bool = switch(
        (6, 16, 0),
        "mm/vma: fix incorrectly disallowed anonymous VMA merges",
        "A written VMA may merge into an unwritten neighbour when the written one is not inherited through "
        "fork. Before, the neighbour itself had to have exactly one anon_vma link, so the merge was refused: "
        "mprotect or mlock there and back leaves three lines where this leaves one.",
    )
    mmap_merge_new_range: bool = switch(
        (6, 12, 0),
        "mmap_region() goes through vma_merge_new_range()",
        "A new mapping between two neighbours that cannot merge with each other joins the lower one, and all "
        "three merge when the lower is unwritten and the upper written. Before, mmap looked at the upper "
        "neighbour first: the boundary between the two lines stands elsewhere.",
    )
    close_prev_may_merge: bool = switch(
        (6, 3, 0),
        "may_remove_vma: only a VMA that could be removed must have no close hook",
        "The lower neighbour may have a close hook (SysV shm): mprotect of the head of a fragment back to the "
        "left neighbour's protection moves the boundary. Before, VMAs with a close hook never merged.",
    )
    close_case7_refused: bool = switch(
        (6, 8, 0),
        "mm, mmap: fix vma_merge() case 7 with vma_ops->close",
        "Merging a whole VMA that has a close hook into its lower neighbour is refused (the hook would be lost).",
    )
    close_only_removed: bool = switch(
        (6, 12, 0),
        "can_merge_remove_vma()",
        "Only a VMA that a merge would really remove must have no close hook: the upper neighbour of a SysV shm "
        "fragment grows down over its tail, and a merge with both sides degrades to the lower one.",
    )
    anon_pgoff_private_file: bool = switch(
        (7, 1, 0),
        "propagate VMA anonymous page offset on map, remap, split and merge",
        "Private file mappings carry a second, anonymous page offset that must be contiguous too: one moved by "
        "mremap after a write no longer merges with its file neighbour.",
    )
    sticky_flags: bool = switch(
        (7, 0, 0),
        "mm: implement sticky VMA flags",
        "VM_SOFTDIRTY and VM_MAYBE_GUARD are ignored when comparing flags, and a merged VMA has them when any "
        "part had. Before, only VM_SOFTDIRTY was ignored and the survivor kept its own.",
        backports={(6, 18): 44},
    )
    maybe_guard_flag: bool = switch(
        (7, 0, 0),
        "mm: introduce VM_MAYBE_GUARD",
        "MADV_GUARD_INSTALL marks the VMA (smaps 'gu').",
        backports={(6, 18): 44},
    )
    second_merge_attempt: bool = switch(
        (5, 9, 0),
        "mm: mmap: merge vma after call_mmap() if possible",
        "A mapping whose mmap hook changed vm_flags gets a second chance to merge with its lower neighbour.",
        until=(6, 17, 0),
    )
    mmap_prepare_flags: bool = switch(
        (6, 17, 0),
        "ext4, xfs: .mmap_prepare in place of .mmap",
        "What the file system adds to vm_flags (VM_HUGEPAGE on DAX) is there before the only merge attempt, so such "
        "a mapping merges on either side; before, the mmap hook added it after the first attempt.",
    )
    anon_inodes_noexec: bool = switch(
        (6, 17, 0),
        "anon_inode: raise SB_I_NODEV and SB_I_NOEXEC",
        "Mappings of perf events, io_uring and sockets have no VM_MAYEXEC, and PROT_EXEC is refused (EPERM).",
    )
    perf_may_not_split: bool = switch(
        (6, 17, 0),
        "perf/core: Prevent VMA split of buffer mappings",
        "A mapping of a perf event cannot be split: EINVAL.",
        backports={(6, 1): 148, (6, 6): 102, (6, 12): 42, (6, 15): 10, (6, 16): 1},
    )
    mremap_copy_anon_vma: bool = switch(
        (6, 19, 0),
        "mm/vma: fix anon_vma UAF on mremap() faulted, unfaulted merge",
        "What mremap moves beside an unwritten neighbour merges unless it was inherited through fork, and the "
        "neighbour takes its anon_vma over. From 6.16 on, until this fix (CVE-2026-23077), an inherited one "
        "merged too, and the merged VMA was left without an anon_vma.",
        backports={(6, 18): 8},
    )
    uffd_merge_needs_event_remap: bool = switch(
        (7, 3, 0),
        "mm/vma: avoid broken uffd merge on mremap",
        "A userfaultfd VMA whose context lacks EVENT_REMAP does not merge when mremap moves it; before, it "
        "merged with a registered neighbour and both lost the registration.",
    )
    modify_error_as_merge: bool = switch(
        NEVER,
        "version 1 of the series 'Abstract vma_merge() and split_vma()'",
        "Callers test `if (merged)` before IS_ERR(merged): a split that fails at the map limit is taken for a "
        "merged VMA and its error pointer is dereferenced (outcome oops). Never released.",
    )

    # -- mmap, munmap, brk ------------------------------------------------------------------------
    gather_before_limits: bool = switch(
        (6, 12, 0),
        "vms_gather_munmap_vmas() before the limit checks of mmap_region()",
        "MAP_FIXED splits the VMAs at its edges before the limits are checked and puts them back on failure: a "
        "failing call leaves one VMA as two equal lines, but no hole. Before, a late failure left the hole.",
    )
    map_stack_nohugepage: bool = switch(
        (6, 8, 0),
        "mm: mmap: map MAP_STACK to VM_NOHUGEPAGE",
        "MAP_STACK sets VM_NOHUGEPAGE (smaps 'nh'), so thread stacks do not merge with plain mappings.",
    )
    map_droppable: bool = switch(
        (6, 11, 0),
        "mm: add MAP_DROPPABLE",
        "mmap knows MAP_DROPPABLE (smaps 'dp wf dd nr'); before, EINVAL.",
    )
    thp_align_anon: bool = switch(
        (6, 7, 0),
        "mm: align larger anonymous mappings on THP boundaries",
        "Anonymous mappings of 2 MiB and more are placed on 2 MiB boundaries.",
    )
    thp_align_multiple: bool = switch(
        (6, 12, 0),
        "mm: only align mappings whose length is a multiple of the PMD size",
        "Of those, only mappings whose length is a multiple of 2 MiB are aligned.",
    )
    ksm_new_maps_merge: bool = switch(
        (6, 17, 0),
        "mm: prevent KSM from breaking VMA merging for new VMAs",
        "Under PR_SET_MEMORY_MERGE, VM_MERGEABLE is set before a new mapping tries to merge; before, it was set "
        "afterwards, so new mappings never merged in such a process.",
    )
    prctl_memory_merge: bool = switch(
        (6, 4, 0), "mm: add new api to enable ksm per process", "prctl knows PR_SET_MEMORY_MERGE."
    )
    mdwe: bool = switch((6, 3, 0), "prctl: add PR_SET_MDWE", "prctl knows PR_SET_MDWE.")

    # -- mprotect, madvise, mlock, mbind --------------------------------------------------------------
    mprotect_drops_account: bool = switch(
        (6, 6, 0),
        "mm/mprotect: allow unfaulted VMAs to be unaccounted on mprotect()",
        "Taking write permission from an unwritten anonymous mapping clears VM_ACCOUNT (smaps 'ac'), so it "
        "merges with read-only neighbours; before, the flag stayed and kept them apart.",
    )
    guard_install: bool = switch(
        (6, 13, 0),
        "mm: add MADV_GUARD_INSTALL",
        "madvise knows MADV_GUARD_INSTALL, which gives an anonymous VMA its anon_vma; before, EINVAL.",
    )
    guard_any_mapping: bool = switch(
        (6, 15, 0),
        "mm: allow guard regions in file-backed and read-only mappings",
        "MADV_GUARD_INSTALL and _REMOVE take any mapping but special and huge ones; before, anonymous ones that may "
        "be written, else EINVAL.",
    )
    process_madvise_self: bool = switch(
        (6, 13, 0),
        "mm/madvise: allow process_madvise() on the own mm with any advice",
        "process_madvise on the own process takes any advice.",
    )
    dofork_refuses_special: bool = switch(
        (7, 3, 0),
        "mm/madvise: MADV_DOFORK on VM_SPECIAL mappings",
        "MADV_DOFORK is refused on every VM_SPECIAL mapping ([vdso], [vvar]); before, on VM_IO alone.",
    )
    populate_walks_vmas: bool = switch(
        ALWAYS,
        "mm/madvise: MADV_POPULATE_* as one walk over VMAs",
        "MADV_POPULATE_READ and _WRITE pass over holes and go on behind them (a VMA that may not be accessed "
        "then gives EINVAL); since 6.9 they stop at the first hole with ENOMEM.",
        until=(6, 9, 0),
    )
    weighted_interleave: bool = switch(
        (6, 9, 0),
        "mm/mempolicy: introduce MPOL_WEIGHTED_INTERLEAVE",
        "mbind knows MPOL_WEIGHTED_INTERLEAVE; before, EINVAL.",
    )
    mseal: bool = switch((6, 10, 0), "mseal: add mseal syscall", "mseal exists; before, ENOSYS.")
    seal_check_in_loop: bool = switch(
        (6, 12, 0),
        "mseal: check VMAs one by one inside each operation",
        "mprotect, munmap and madvise meet a sealed VMA in their loops: earlier VMAs are changed. Before, the "
        "whole range was checked first.",
    )

    seal_spares_files: bool = switch(
        ALWAYS,
        "mm/mseal: update madvise() logic",
        "Destructive advice on a sealed VMA is refused unless a file is mapped; since 6.17 a private mapping of "
        "/dev/zero, which is anonymous, counts as one without.",
        until=(6, 17, 0),
    )

    # -- mremap -------------------------------------------------------------------------------------
    mremap_checks_first: bool = switch(
        (6, 17, 0),
        "mm/mremap: check parameters and the VMA before anything is unmapped",
        "mremap checks everything before it unmaps the target; before, an invalid MREMAP_FIXED call destroyed "
        "its target first.",
    )
    mremap_multi_vma: bool = switch(
        (6, 17, 0),
        "mm/mremap: permit mremap() move of multiple VMAs",
        "mremap with MREMAP_FIXED and equal lengths moves every VMA of the range; before, EFAULT.",
    )
    dontunmap_no_self_merge: bool = switch(
        (7, 3, 0),
        "mm/mremap: fix locked_vm leak from MREMAP_DONTUNMAP self-merge",
        "MREMAP_DONTUNMAP of an unwritten VMA to the adjacent place leaves two VMAs; before, the copy merged "
        "with its source.",
        backports={(6, 1): 192, (6, 12): 117},
    )
    dontunmap_splits_locked: bool = switch(
        (7, 3, 0),
        "mm/mremap: fix locked_vm leak by splitting VMA for MREMAP_DONTUNMAP",
        "MREMAP_DONTUNMAP of a part of a locked VMA splits it first, so that only that part loses the lock.",
        backports={(6, 1): 192, (6, 12): 117},
    )
    dontunmap_resets_pgoff: bool = switch(
        (7, 3, 0),
        "mm/mremap: a VMA that became unfaulted gets the page offset of one",
        "After MREMAP_DONTUNMAP of a whole anonymous VMA the source has the page offset of an untouched one.",
        backports={(6, 1): 192, (6, 12): 117},
    )
    dontunmap_clears_account: bool = switch(
        (6, 16, 0),
        "mm/mremap: complete refactor of move_vma()",
        "MREMAP_DONTUNMAP clears VM_ACCOUNT (smaps 'ac') of the source.",
        until=(6, 17, 0),
    )
    mremap_map_count_early: bool = switch(
        (7, 3, 0),
        "mm/mremap: check the map count before any mremap",
        "Every mremap, a shrink or a no-op too, needs room for four more VMAs or fails with ENOMEM.",
    )

    # -- userfaultfd ---------------------------------------------------------------------------------
    uffd_unregister_own_ctx: bool = switch(
        (6, 17, 0),
        "userfaultfd: unregister only what this context registered",
        "UFFDIO_UNREGISTER of VMAs registered with another userfaultfd fails with EINVAL; before, it "
        "unregistered them.",
    )

    uffd_fill_prepares_first: bool = switch(
        (6, 9, 0),
        "userfaultfd: use per-vma locks in userfaultfd operations",
        "UFFDIO_COPY and the like give the VMA at their target its anon_vma before they find out that it is not "
        "registered, or too short (ENOENT).",
    )
    uffd_merge_offset: bool = switch(
        (6, 4, 0),
        "mm/uffd: fix vma operation where start addr cuts part of vma",
        "UFFDIO_REGISTER and _UNREGISTER of the tail of a VMA merge it with the VMA above. Before, the page "
        "offset handed to the merge was that of the VMA's start, so the merge was lost.",
    )
    anon_name_shmem: bool = switch(
        (6, 2, 0),
        "mm: anonymous shared memory naming",
        "PR_SET_VMA_ANON_NAME names shared anonymous memory too ([anon_shmem:NAME]), unlinked tmpfs files and "
        "memfds included; before, EBADF.",
    )

    uffd_refuses_droppable: bool = switch(
        (6, 13, 0),
        "mm/userfaultfd: do not place VM_DROPPABLE under userfaultfd",
        "UFFDIO_REGISTER of a MAP_DROPPABLE mapping fails with EINVAL.",
    )

    # -- what /proc shows ------------------------------------------------------------------------------
    heap_label_touching: bool = switch(
        ALWAYS,
        "show_map_vma() compared start_brk and brk inclusively",
        "[heap] is also written beside a VMA that only touches the heap's range.",
        until=(6, 6, 0),
    )
    smaps_names_lockonfault: bool = switch(
        (6, 2, 0),
        "mm/smaps: name VM_LOCKONFAULT",
        "smaps writes 'lf' for VM_LOCKONFAULT; before, '??'.",
    )

    def with_rule(self, name: str, on: bool) -> RuleSet:
        """This rule set with one switch flipped; `name` as on the command line. Raises RuleError."""
        key = name.replace("-", "_")
        if name not in SWITCHES:
            raise RuleError(f"no rule switch named {name!r}", hint="`vmastore kernels` lists them")
        if getattr(self, key) == on:
            return self
        changes: dict[str, Any] = {key: on, "name": f"{self.name} {name}={'on' if on else 'off'}"}
        return replace(self, **changes)

    def on(self) -> list[str]:
        """The names of the switches that are on."""
        return [name for name in SWITCHES if getattr(self, name.replace("-", "_"))]


_BUGS: Final = [f.name for f in fields(Bugs)]
SWITCHES: Final[dict[str, Switch]] = {  # bugs last
    f.name.replace("_", "-"): Switch(f.name.replace("_", "-"), **f.metadata)
    for f in sorted(fields(RuleSet), key=lambda f: f.name in _BUGS)
    if f.metadata
}

# The patch levels that were observed; 6.7 and series-v1 are read from source.
PRESETS: Final[dict[str, Release]] = {
    "6.1": (6, 1, 192),
    "6.7": (6, 7, 0),
    "6.8": (6, 8, 0),
    "6.12": (6, 12, 117),
    "6.18": (6, 18, 44),
    "7.3": (7, 3, 4),
    "series-v1": (6, 7, 0),
}


def _build(release: Release, name: str) -> RuleSet:
    on: dict[str, Any] = {n.replace("-", "_"): s.holds_in(release) for n, s in SWITCHES.items()}
    return RuleSet(name=name, **on)


@lru_cache(maxsize=64)
def preset(name: str) -> RuleSet:
    """The named rule set. Raises RuleError for an unknown name."""
    if name not in PRESETS:
        raise RuleError(
            f"no rule set named {name!r}", hint=f"presets: {', '.join(PRESETS)}; or a release like 6.12.117"
        )
    rules = _build(PRESETS[name], name)
    return replace(rules, modify_error_as_merge=True) if name == "series-v1" else rules


_RELEASE: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def parse_release(release: str, version: str | None = None) -> Release:
    """(6, 12, 117) of ``6.12.117-…``; a release that hides its patch level takes it from `version`.

    Distributions name an ABI in the release (``6.1.0-56-cloud-amd64``) and the patch level in the
    version (``… 6.1.192-2 (2026-11-16)``). Raises RuleError.
    """
    match = _RELEASE.match(release)
    if match is None:
        raise RuleError(f"{release!r} is not a kernel release", hint="give it like 6.12.117, or name a preset")
    found = (int(match[1]), int(match[2]), int(match[3] or 0))
    inner = re.search(rf"\b{found[0]}\.{found[1]}\.(\d+)\b", version or "")
    return (found[0], found[1], int(inner[1])) if inner else found


def resolve(release: str, version: str | None = None) -> RuleSet:
    """The rule set of a preset's name or of a kernel release string. Raises RuleError."""
    if release in PRESETS:
        return preset(release)
    parsed = parse_release(release, version)
    if parsed[2] == 0 and not version and release.count(".") < 2:
        raise RuleError(
            f"no preset {release!r}",
            hint=f"presets: {', '.join(PRESETS)}; or a full release like {release}.0",
        )
    for name, known in PRESETS.items():
        if known == parsed and name != "series-v1":
            return preset(name)
    return _build(parsed, ".".join(map(str, parsed)))
