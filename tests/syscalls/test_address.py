"""Where a mapping goes when nobody says: as the real kernels chose."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmastore.importers.detect import open_traces
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import preset, resolve
from vmastore.replay.world import World
from vmastore.syscalls.address import get_unmapped_area
from vmastore.syscalls.mmap import sys_mmap
from vmastore.syscalls.uapi import MAP_32BIT, MAP_FIXED, MAP_FIXED_NOREPLACE

DATA = Path(__file__).parent.parent / "data"
PAGE = 4096


def wrong_choices(path: Path) -> tuple[int, list[str]]:
    """(mappings whose address the kernel chose, those for which we would have chosen another)."""
    reader = open_traces(path)[0]
    rules = resolve(reader.header.release or "", reader.header.version)
    world = World(reader.header, lambda: reader.files, rules)
    seen, wrong = 0, []
    for event in reader.events():
        if event.call == "mmap" and not event.errno and event.args[1]:
            addr, length, _, flags, _, _ = event.args
            if not flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
                mm = world.mm(event.mm)
                hint = max(addr & -PAGE, mm.config.mmap_min_addr) if addr & -PAGE else 0
                ours = get_unmapped_area(mm, hint, (length + PAGE - 1) & -PAGE, flags, world.file(event.file))
                seen += 1
                if ours != event.result:
                    wrong.append(f"{path.name}:{event.source_line}: {ours:#x}, kernel {event.result:#x}")
        world.apply(event)
    return seen, wrong


def test_a_sample() -> None:
    """The recording that comes with the tests has no other choice."""
    seen, wrong = wrong_choices(DATA / "vmafuzz" / "all-6.1.jsonl.gz")
    assert seen > 0 and wrong == []


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
def test_recordings_of_real_kernels(corpus: Path, kernel: str) -> None:
    """Every address that the kernel chose in these recordings is the one we choose."""
    for profile in ("anon-touch", "file", "growsdown", "all"):
        for path in sorted((corpus / "fuzz" / kernel).glob(f"{profile}-[1-7].jsonl.gz")):
            assert wrong_choices(path)[1] == []


def fresh(kernel: str = "6.18") -> Mm:
    mm = Mm(Env(preset(kernel), Config()))
    mm.start_brk = mm.brk = 0x555555000000
    return mm


def test_map_32bit_stays_below_two_gigabytes() -> None:
    """MAP_32BIT chooses in the first 2 GiB, upwards from 1 GiB."""
    assert sys_mmap(fresh(), 0, 8192, 3, 0x22 | MAP_32BIT, None, 0) == 0x40000000


@pytest.mark.parametrize(
    ("kernel", "length", "aligned"),
    [
        ("6.1", 4 << 20, False),
        ("6.8", 5 << 20, True),
        ("6.8", (5 << 20) + PAGE, True),
        ("6.18", 4 << 20, True),
        ("6.18", (4 << 20) + PAGE, False),
    ],
)
def test_large_anonymous_mappings_are_aligned(kernel: str, length: int, aligned: bool) -> None:
    """From 6.7 on 2 MiB boundaries, since 6.12 only if the length is a multiple of 2 MiB."""
    mm = fresh(kernel)
    sys_mmap(mm, 0, PAGE, 3, 0x22, None, 0)  # so that the top is not aligned by chance
    assert (sys_mmap(mm, 0, length, 3, 0x22, None, 0) % (2 << 20) == 0) == aligned


def test_a_hint_is_taken_if_it_is_free() -> None:
    """A free hint is used, a taken one is not, and the gap below a GROWSDOWN mapping counts as taken."""
    mm = fresh()
    assert sys_mmap(mm, 0x10000000, PAGE, 3, 0x22, None, 0) == 0x10000000
    assert sys_mmap(mm, 0x10000000, PAGE, 3, 0x22, None, 0) != 0x10000000
    assert sys_mmap(mm, 0x20000000, PAGE, 3, 0x122, None, 0) == 0x20000000
    assert sys_mmap(mm, 0x20000000 - PAGE, PAGE, 3, 0x22, None, 0) != 0x20000000 - PAGE


@pytest.mark.parametrize("told", [0x7F0000000005, 0x3, (1 << 64) - PAGE])
def test_an_address_that_no_mapping_can_have_is_not_believed(told: int) -> None:
    """A damaged log may show one: the mapping is then where it would be, and the answers differ."""
    mm = Mm(Env(preset("6.18"), Config()))
    mm.observed, mm.expect_result, mm.expect_errno = True, told, 0
    assert sys_mmap(mm, 0, PAGE, 3, 0x22, None, 0) not in (told, None)
    assert all(vma.vm_start % PAGE == 0 and vma.vm_end <= 0x7FFFFFFFF000 for vma in mm.vmas())
