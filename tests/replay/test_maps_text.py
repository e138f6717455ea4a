"""Lines of /proc/PID/maps, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmastore.events import ObservedVma
from vmastore.importers.maps_file import parse_maps
from vmastore.replay.maps_text import maps_line, maps_lines

DATA = Path(__file__).parents[1] / "data" / "maps" / "cat.maps"


def test_a_saved_file_is_printed_back_byte_for_byte() -> None:
    """Padding, blanks and the vsyscall line are the kernel's."""
    text = DATA.read_text()
    assert maps_lines(parse_maps(text.splitlines(), vsyscall=True)) == text


def test_the_running_kernel_agrees() -> None:
    """The same for a map of this process."""
    path = Path("/proc/self/maps")
    if not path.exists():
        pytest.skip("no /proc")
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    assert maps_lines(parse_maps(text.splitlines(), vsyscall=True)) == text


@pytest.mark.parametrize(
    ("vma", "line"),
    [
        (
            ObservedVma(0x400000, 0x401000, "r-xp", 0x1000, "fe:00", 26, "/bin/x"),
            "00400000-00401000 r-xp 00001000 fe:00 26" + " " * 33 + "/bin/x",
        ),
        (ObservedVma(0x400000, 0x401000, "---p", 0, "00:00", 0, ""), "00400000-00401000 ---p 00000000 00:00 0 "),
        (
            ObservedVma(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, "--xp", 0, "00:00", 0, "[vsyscall]"),
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]",
        ),
        (
            ObservedVma(0x10000000, 0x10001000, "rw-p", -1, "", -1, ""),
            "10000000-10001000 rw-p ???????? ??:?? ? ",
        ),
    ],
)
def test_a_line(vma: ObservedVma, line: str) -> None:
    """Addresses have eight digits at least, the name its column, and what is unknown a question mark."""
    assert maps_line(vma) == line


def test_a_wide_line_pushes_its_name_along() -> None:
    """Where the columns before it are too wide, the name comes two blanks after the inode."""
    vma = ObservedVma(1 << 60, (1 << 60) + 4096, "rw-s", 1 << 60, "103:0a", 123456789012345, "/dev/x")
    assert maps_line(vma).endswith("123456789012345  /dev/x")
    assert parse_maps([maps_line(vma)]) == [vma]
