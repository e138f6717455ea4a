"""What calls do to descriptors."""

from __future__ import annotations

import pytest

from vmastore.events import FileInfo, ObservedVma
from vmastore.importers.descriptors import FdTable
from vmastore.importers.processes import Processes, Thread
from vmastore.importers.rawfiles import FileTracker


class _Process:
    """One process whose calls go to a tracker."""

    def __init__(self) -> None:
        self.files: list[FileInfo] = []
        self.tracker = FileTracker(self.files)
        self.processes = Processes()
        self.thread: Thread = self.processes.add(1, 1, 1, FdTable())

    def __call__(self, name: str, *args: object, r: int | None = 0, errno: int = 0) -> int | None:
        """The file that the event of a call names."""
        self.effect = self.tracker.effect(self.thread, name, args, None if errno else r, errno)
        return self.effect[0]

    def open(self, fd: int, path: str = "/x", flags: int = 0) -> int | None:
        return self("openat", -100, path, flags, None, r=fd)

    def mapped(self, fd: int, errno: int = 0) -> int | None:
        return self("mmap", 0, 4096, 1, 2, fd, 0, errno=errno)


@pytest.fixture
def process() -> _Process:
    return _Process()


def test_two_opens_are_two_descriptions_and_a_dup_is_none(process: _Process) -> None:
    """Identity is the open file description's, not the path's."""
    first, second = process.open(3), process.open(4)
    assert first != second
    assert process("dup", 3, r=5) == process("dup2", 3, 6, 0, r=6) == first
    assert process("fcntl", 3, 0, 10, r=10) == first
    assert [process.mapped(fd) for fd in (3, 4, 5, 6, 10)] == [first, second, first, first, first]


def test_a_closed_descriptor_is_another_file_when_it_comes_back(process: _Process) -> None:
    """Numbers are reused, descriptions are not; close frees the number unless it was not open."""
    first = process.open(3)
    assert process("close", 3, errno=9) == first and process.mapped(3) == first
    assert process("close", 3, errno=4) == first
    assert process.mapped(3, errno=9) is None
    assert process.open(3) != first


def test_a_descriptor_of_unknown_origin_is_a_file_of_its_own(process: _Process) -> None:
    """What was inherited is told apart by number, and labelled."""
    file = process.mapped(0)
    assert process.mapped(0) == file and file is not None
    assert process.files[file - 1].origin == "unknown"
    assert process.mapped(1, errno=9) is None


def test_an_anonymous_mapping_names_no_file(process: _Process) -> None:
    """MAP_ANONYMOUS ignores the descriptor."""
    process.open(3)
    assert process("mmap", 0, 4096, 3, 0x22, 3, 0) is None
    assert process.mapped(-1) is None


def test_close_on_exec_is_followed(process: _Process) -> None:
    """open's and dup3's flag, F_SETFD and close_range set it; dup clears it."""
    process.open(3, flags=0o2000000)
    process("dup", 3, r=4)
    process("dup3", 3, 5, 0o2000000, r=5)
    process("fcntl", 4, 2, 1)
    process("dup", 3, r=6)
    process.open(7)
    process("close_range", 7, 9, 4)
    process.tracker.descriptions.exec(process.thread.files)
    assert sorted(process.thread.files.slots) == [6]


def test_close_range_closes_and_unshares(process: _Process) -> None:
    """With CLOSE_RANGE_UNSHARE a thread's table becomes its own first."""
    for fd in (3, 4, 5):
        process.open(fd)
    other = process.processes.add(2, 1, 1, process.thread.files)
    process("close_range", 4, 0xFFFFFFFF, 2)
    assert sorted(process.thread.files.slots) == [3]
    assert sorted(other.files.slots) == [3, 4, 5]


def test_a_memfd_and_a_creat_are_files(process: _Process) -> None:
    """Kinds and modes are those that the call gives."""
    memfd, huge, made = (
        process("memfd_create", "m", 1, r=3),
        process("memfd_create", "h", 5, r=4),
        process("creat", "/new", 0o600, r=5),
    )
    kinds = [(info.kind, info.readable, info.writable) for info in process.files]
    assert [memfd, huge, made] == [1, 2, 3]
    assert kinds == [("memfd", True, True), ("hugetlb", True, True), ("regular", False, True)]


def test_the_last_close_of_a_userfaultfd_releases_it(process: _Process) -> None:
    """dup'd descriptors keep it; dup2 over the last one is a close."""
    uffd = process("userfaultfd", 0, r=3)
    process("dup", 3, r=4)
    process("close", 3)
    assert process.effect == (uffd, [])
    process.open(5)
    process("dup2", 5, 4, 0, r=4)
    assert process.effect[1] == [uffd]


def test_a_userfaultfd_made_out_of_sight_is_one_from_its_first_ioctl(process: _Process) -> None:
    """Its descriptor came from /dev/userfaultfd or another process."""
    args = ("UFFDIO_REGISTER", 4096, 4096, 1, None)
    assert process("ioctl", 3, *args, errno=9) is None
    file = process("ioctl", 3, *args)
    assert file is not None and process.files[file - 1].kind == "uffd"
    assert process("ioctl", 3, *args) == file
    new = process("ioctl", 9, "USERFAULTFD_IOC_NEW", None, None, None, None, r=10)
    assert new not in (None, file) and process("ioctl", 10, *args) == new


def test_maps_tells_a_files_true_path(process: _Process) -> None:
    """The first line that shows it wins; a shared mapping of /dev/zero shows another file."""
    file, zero = process.open(3, "/lib/link"), process.open(4, "/dev/zero")
    assert file is not None and zero is not None
    line = ObservedVma(0, 4096, "r--p", 0, "fe:00", 9, "/lib/real")
    process.tracker.observe(file, line)
    process.tracker.observe(file, line._replace(name="/lib/real (deleted)"))
    process.tracker.observe(zero, line._replace(perms="rw-s", name="/dev/zero (deleted)"))
    assert [(info.path, info.inode) for info in process.files] == [("/lib/real", 9), ("/dev/zero", None)]
