"""Rule sets: which release answers how, and how a release is named."""

from __future__ import annotations

import errno

import pytest
from layout import at
from process import RW, Process

from vmastore.errors import RuleError
from vmastore.mm.flags import PMD_SIZE
from vmastore.mm.mm import Config
from vmastore.mm.rules import PRESETS, SWITCHES, parse_release, preset, resolve
from vmastore.syscalls import uapi
from vmastore.syscalls.mmap import sys_mmap

OBSERVED = ("6.1", "6.8", "6.12", "6.18", "7.3")
# what the five kernels were seen to do, in that order: + has it, - has it not
SEEN = {
    "anon-merge-source-chain": "---++",
    "mmap-merge-new-range": "--+++",
    "close-prev-may-merge": "-++++",
    "close-case7-refused": "-++++",
    "close-only-removed": "--+++",
    "anon-pgoff-private-file": "----+",
    "uffd-merge-needs-event-remap": "----+",
    "modify-error-as-merge": "-----",
    "gather-before-limits": "--+++",
    "map-stack-nohugepage": "-++++",
    "map-droppable": "--+++",
    "thp-align-anon": "-++++",
    "thp-align-multiple": "--+++",
    "ksm-new-maps-merge": "---++",
    "prctl-memory-merge": "-++++",
    "mprotect-drops-account": "-++++",
    "guard-install": "---++",
    "mseal": "--+++",
    "seal-check-in-loop": "--+++",
    "mremap-checks-first": "---++",
    "mremap-multi-vma": "---++",
    "dontunmap-no-self-merge": "+-+-+",
    "dontunmap-splits-locked": "+-+-+",
    "mremap-map-count-early": "----+",
}


@pytest.mark.parametrize("switch", SEEN)
def test_presets_are_what_was_seen(switch: str) -> None:
    """Each switch stands as the kernel of that preset was observed to behave."""
    stands = "".join("+" if switch in preset(kernel).on() else "-" for kernel in OBSERVED)
    assert stands == SEEN[switch]


def test_seed_release_and_its_first_version_differ_in_one_rule() -> None:
    """series-v1 is 6.7 with the error pointer taken for a merged VMA."""
    assert set(preset("series-v1").on()) - set(preset("6.7").on()) == {"modify-error-as-merge"}
    assert set(preset("6.7").on()) < set(preset("series-v1").on())


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_explain_themselves(name: str) -> None:
    """Every switch says what it changes, in which release, by which change."""
    switch = SWITCHES[name]
    assert switch.doc.endswith(".")
    assert switch.change
    assert switch.until is None or switch.until > switch.since


@pytest.mark.parametrize(
    ("release", "version", "want"),
    [
        ("6.12.117", None, (6, 12, 117)),
        ("6.12.117+deb12-cloud-amd64", "#1 SMP Debian 6.12.117-1~deb12u1 (2026-11-14)", (6, 12, 117)),
        ("6.1.0-56-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)", (6, 1, 192)),
        ("6.1.0-56-cloud-amd64", None, (6, 1, 0)),
        ("6.8", "#1 SMP", (6, 8, 0)),
        ("7.3.4", "#1 of another 6.1.192 tree", (7, 3, 4)),
    ],
)
def test_release_strings(release: str, version: str | None, want: tuple[int, int, int]) -> None:
    """A patch level that the release hides is taken from the version string."""
    assert parse_release(release, version) == want


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_own_release_is_the_preset(name: str) -> None:
    """The release of a preset gives that very rule set, however it is written."""
    release = ".".join(map(str, PRESETS[name]))
    assert resolve(name) is preset(name)
    assert resolve(release) is preset("6.7" if name == "series-v1" else name)


def test_a_release_in_between_is_resolved_switch_by_switch() -> None:
    """6.14 has what came up to it; a stable branch has a backport from its patch level on."""
    rules = resolve("6.14.3")
    assert rules.guard_install and rules.mmap_merge_new_range
    assert not rules.anon_merge_source_chain and not rules.ksm_new_maps_merge
    assert resolve("6.12.117").dontunmap_no_self_merge
    assert not resolve("6.12.50").dontunmap_no_self_merge
    assert not resolve("6.14.117").dontunmap_no_self_merge
    assert resolve("6.16.0").dontunmap_clears_account and not resolve("6.17.0").dontunmap_clears_account


@pytest.mark.parametrize(
    ("release", "broken"),
    [("6.15.9", False), ("6.16.0", True), ("6.18.7", True), ("6.18.8", False), ("6.18.44", False), ("7.0.0", False)],
)
def test_the_use_after_free_of_mremap_is_where_it_was(release: str, broken: bool) -> None:
    """CVE-2026-23077 came with the rule of 6.16; the observed 6.18.44 has its fix."""
    rules = resolve(release)
    assert (rules.anon_merge_source_chain and not rules.mremap_copy_anon_vma) == broken


@pytest.mark.parametrize("release", ["banana", "", "6", "6.14", "linux-6.1.2"])
def test_unusable_releases_name_the_next_step(release: str) -> None:
    """What is no release is refused with a hint."""
    with pytest.raises(RuleError) as caught:
        resolve(release)
    assert caught.value.hint


def test_unknown_names_are_refused() -> None:
    """An unknown preset or switch is refused, by name."""
    with pytest.raises(RuleError, match=r"6\.99"):
        preset("6.99")
    with pytest.raises(RuleError, match="no-such-rule"):
        preset("6.18").with_rule("no-such-rule", True)


@pytest.mark.parametrize("name", SWITCHES)
def test_one_switch_is_flipped_alone(name: str) -> None:
    """with_rule() changes that switch and nothing else, and says so in the rule set's name."""
    rules = preset("6.18")
    stands = name in rules.on()
    assert rules.with_rule(name, stands) is rules
    flipped = rules.with_rule(name, not stands)
    assert set(flipped.on()) ^ set(rules.on()) == {name}
    assert flipped.name == f"6.18 {name}={'off' if stands else 'on'}"


@pytest.mark.parametrize(
    ("kernel", "aligned"), [("6.1", ""), ("6.7", "24"), ("6.8", "24"), ("6.12", "4"), ("6.18", "4"), ("7.3", "4")]
)
def test_large_anonymous_mappings(kernel: str, aligned: str) -> None:
    """Since 6.7 mappings of 2 MiB and more stand on 2 MiB boundaries, since 6.12 multiples of 2 MiB only."""
    found = ""
    for name, length in (("1", PMD_SIZE // 2), ("2", PMD_SIZE + 4096), ("4", 2 * PMD_SIZE)):
        p = Process(kernel)
        sys_mmap(p.mm, 0, 4096, RW, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS, None, 0)
        placed = sys_mmap(p.mm, 0, length, RW, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS, None, 0)
        found += name if placed % PMD_SIZE == 0 else ""
    assert found == aligned


@pytest.mark.parametrize("kernel", PRESETS)
@pytest.mark.parametrize("unlimited", [False, True], ids=["limit", "commit"])
def test_a_late_failure_of_a_fixed_mapping(kernel: str, unlimited: bool) -> None:
    """ENOMEM of MAP_FIXED: a limit leaves the target, the commit limit a hole before 6.12; since, a split."""
    p = Process(kernel, Config(rlimits={"AS": -1, "DATA": -1} if unlimited else {}))
    p.mmap(0, 4)
    p.mm.observed, p.mm.expect_errno = True, errno.ENOMEM
    assert p.mmap(1, 2) == -errno.ENOMEM
    p.mm.observed = False
    if preset(kernel).gather_before_limits:
        assert p.lines(0, 4) == "[0-1 rw-p][1-3 rw-p][3-4 rw-p]"
    else:
        assert p.lines(0, 4) == ("[0-1 rw-p][3-4 rw-p]" if unlimited else "[0-4 rw-p]")
    assert p.mm.vma_lookup(at(0)) is not None
