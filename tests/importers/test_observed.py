"""VMA lists told as a whole, then as differences."""

from __future__ import annotations

import pytest

from vmastore.events import ObservedVma
from vmastore.importers.observed import VSYSCALL, VmaList, parse_vma


def _line(start: int, end: int, perms: str = "rw-p") -> ObservedVma:
    return ObservedVma(start, end, perms, 0, "00:00", 0, "")


GATE = ObservedVma(VSYSCALL, VSYSCALL + 4096, "--xp", 0, "00:00", 0, "[vsyscall]")


def test_an_entry_of_a_recording_becomes_a_line() -> None:
    """Addresses and offset are hex, the inode is a number."""
    entry = ["1000", "3000", "r-xp", "2000", "fe:00", 26, "/bin/x", "rd ex"]
    assert parse_vma(entry) == ObservedVma(0x1000, 0x3000, "r-xp", 0x2000, "fe:00", 26, "/bin/x", "rd ex")


@pytest.mark.parametrize(
    "entry",
    [
        ["1000", "3000", "r-xp", "2000", "fe:00", "26", "/bin/x", None],
        ["zz", "3000", "r-xp", "2000", "fe:00", 26, "/bin/x", None],
        ["1000", "3000", None, "2000", "fe:00", 26, "/bin/x", None],
        ["1000", "3000", "r-xp"],
    ],
)
def test_a_malformed_entry_is_refused(entry: list[object]) -> None:
    """What is not a VMA raises ValueError or TypeError."""
    with pytest.raises((ValueError, TypeError)):
        parse_vma(entry)


def test_differences_apply_and_must_add_up() -> None:
    """A difference replaces what it names; another count than the recording's is an error."""
    vmas = VmaList([_line(1, 3), _line(5, 6)])
    vmas.change([1], [_line(1, 2), _line(2, 3, "r--p")], 3)
    assert [v.start for v in vmas.lines.values()] == [5, 1, 2]
    with pytest.raises(ValueError, match="add up to 2 VMAs, the recording says 3"):
        vmas.change([2], [], 3)


def test_removing_what_is_not_there_is_an_error() -> None:
    """A difference fits its list."""
    with pytest.raises(ValueError, match="no VMA starts at 0x7"):
        VmaList([_line(1, 3)]).change([7], [], 0)


def test_vsyscall_is_counted_by_recordings_and_not_by_events() -> None:
    """Its line goes into sums and stays out of maps events."""
    vmas = VmaList([_line(1, 3), GATE])
    vmas.change([], [_line(5, 6), GATE], 3)
    assert vmas.count == 2
    assert vmas.check("check", [], [_line(5, 6), GATE]) == ("check", 2, [], [list(_line(5, 6))])
    assert vmas.whole("baseline") == ("baseline", 2, None, [list(_line(1, 3)), list(_line(5, 6))])


def test_a_copy_is_another_list() -> None:
    """What a child does leaves its parent's list alone."""
    parent = VmaList([_line(1, 3)])
    child = parent.copy()
    child.change([1], [], 0)
    assert parent.count == 1 and child.count == 0


def test_agreement_leaves_flags_aside() -> None:
    """Lists agree by their lines of maps."""
    vmas = VmaList([_line(1, 3)])
    assert vmas.agrees([_line(1, 3)._replace(vm_flags="rd")])
    assert not vmas.agrees([_line(1, 4)])
