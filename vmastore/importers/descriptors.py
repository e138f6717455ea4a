"""File descriptors to open file descriptions, the identity that decides whether two mappings can merge.

A description is what open(2) makes: dup, fork and a descriptor sent to another process share it, a
second open of the same path does not. A descriptor whose origin the trace does not show gets a
description of its own, labelled unknown.
"""

from __future__ import annotations

from typing import NamedTuple

from vmastore.events.types import PSEUDO_FILES, FileInfo

O_ACCMODE, O_WRONLY, O_RDWR, O_PATH = 3, 1, 2, 0o10000000


class Slot(NamedTuple):
    """One descriptor of a table."""

    file: int
    cloexec: bool
    known: bool  # False: the trace does not show where it came from


class FdTable:
    """A process's descriptors (files_struct). `users`: the threads that share it."""

    __slots__ = ("slots", "users")

    def __init__(self, slots: dict[int, Slot] | None = None) -> None:
        self.slots: dict[int, Slot] = slots if slots is not None else {}
        self.users = 0


def kind_of(path: str | None) -> str:
    """FileInfo.kind by path."""
    if path is None:
        return "unknown"
    if path == "/dev/zero":
        return "zero"
    if path.startswith("/memfd:"):
        return "memfd"
    if path.startswith("/SYSV"):
        return "shm"
    if path in PSEUDO_FILES:
        return PSEUDO_FILES[path]
    if path.startswith("socket:"):
        return "socket"
    if path.startswith("/dev/hugepages/"):
        return "hugetlb"
    if path.startswith("/dev/") and not path.startswith("/dev/shm/"):
        return "device"
    if ":[" in path or path.startswith("anon_inode:"):
        return "unknown"
    return "regular"


def access(flags: int | None) -> tuple[bool | None, bool | None]:
    """Readable and writable, of open(2) flags."""
    if flags is None:
        return None, None
    if flags & O_PATH:
        return False, False
    mode = flags & O_ACCMODE
    return mode in (0, O_RDWR), mode in (O_WRONLY, O_RDWR)


class Descriptions:
    """All open file descriptions of a trace, and the references that tables hold on them.

    Methods that can drop a last reference return the descriptions so released whose release matters
    to address spaces: userfaultfds.
    """

    def __init__(self) -> None:
        self.files: list[FileInfo] = []
        self._shown: list[str | None] = []  # the path that -y shows, by file number - 1
        self._refs: dict[int, int] = {}  # of userfaultfds only: file → descriptors

    def opened(
        self, path: str | None, shown: str | None, flags: int | None = None, *, kind: str | None = None
    ) -> int:
        """A new description. shown: its path as -y prints it, which is preferred."""
        best = shown if shown is not None else path
        readable, writable = access(flags)
        number = len(self.files) + 1
        kind = kind or kind_of(best)
        self.files.append(FileInfo(number, best, kind, readable, writable, flags=flags))
        self._shown.append(shown)
        if kind == "uffd":
            self._refs[number] = 0
        return number

    def unknown(self, shown: str | None, origin: str = "unknown") -> int:
        """A description whose origin the trace does not show."""
        number = self.opened(None, shown)
        self.files[number - 1] = self.files[number - 1]._replace(origin=origin)
        return number

    def segment(self, shmid: int, size: int | None, path: str | None, huge: bool = False) -> int:
        """A System V shared memory segment, which is one file however often it is attached."""
        number = len(self.files) + 1
        kind = "hugeshm" if huge else "shm"
        self.files.append(FileInfo(number, path, kind, True, True, size=size, origin="shmat", inode=shmid))
        self._shown.append(None)
        return number

    def forget(self, number: int, instead: FileInfo) -> None:
        """Keep no facts of a description that nobody has open, only its number."""
        self.files[number - 1] = instead
        self._shown[number - 1] = None

    def install(self, table: FdTable, fd: int, file: int, cloexec: bool, known: bool = True) -> list[int]:
        """Make `fd` of `table` refer to `file`."""
        released = self.close(table, fd)
        table.slots[fd] = Slot(file, cloexec, known)
        self._reference(file, 1)
        return released

    def close(self, table: FdTable, fd: int) -> list[int]:
        """Close one descriptor; one that is not open is none."""
        slot = table.slots.pop(fd, None)
        return self._dropped([slot]) if slot else []

    def close_range(self, table: FdTable, first: int, last: int) -> list[int]:
        """Close the descriptors of [first, last]."""
        gone = [fd for fd in table.slots if first <= fd <= last]
        return self._dropped([table.slots.pop(fd) for fd in gone])

    def copy(self, table: FdTable) -> FdTable:
        """The table that fork makes."""
        for slot in table.slots.values():
            self._reference(slot.file, 1)
        return FdTable(dict(table.slots))

    def drop(self, table: FdTable) -> list[int]:
        """Close everything, unless somebody still uses the table."""
        if table.users > 0:
            return []
        slots = list(table.slots.values())
        table.slots.clear()
        return self._dropped(slots)

    def exec(self, table: FdTable) -> list[int]:
        """Close what is close-on-exec. Descriptors of unknown origin are forgotten: the new program's are others."""
        gone = [fd for fd, slot in table.slots.items() if slot.cloexec or not slot.known]
        return self._dropped([table.slots.pop(fd) for fd in gone])

    def set_cloexec(self, table: FdTable, fd: int, cloexec: bool) -> None:
        """fcntl(F_SETFD), close_range(CLOSE_RANGE_CLOEXEC)."""
        slot = table.slots.get(fd)
        if slot:
            table.slots[fd] = slot._replace(cloexec=cloexec)

    def lookup(self, table: FdTable, fd: int, shown: str | None) -> int:
        """The description behind `fd`. shown: the path that -y prints now.

        A path that differs from the one shown before means that the trace missed an open: what
        `fd` refers to now is another, unknown description.
        """
        slot = table.slots.get(fd)
        if slot is not None and self._agrees(slot.file, shown):
            return slot.file
        file = self.unknown(shown)
        self.install(table, fd, file, cloexec=False, known=False)
        return file

    def _agrees(self, file: int, shown: str | None) -> bool:
        if shown is None:
            return True
        before = self._shown[file - 1]
        if before is None:
            self._shown[file - 1] = shown
            info = self.files[file - 1]
            if info.kind in ("unknown", "regular"):
                self.files[file - 1] = info._replace(path=shown, kind=kind_of(shown))
            return True
        return before == shown

    def _reference(self, file: int, change: int) -> None:
        if file in self._refs:
            self._refs[file] += change

    def _dropped(self, slots: list[Slot]) -> list[int]:
        released = []
        for slot in slots:
            if slot.file in self._refs:
                self._refs[slot.file] -= 1
                if not self._refs[slot.file]:
                    del self._refs[slot.file]
                    released.append(slot.file)
        return released
