"""What calls with typed arguments do to descriptors, and the file that each event names."""

from __future__ import annotations

from collections.abc import Callable

from vmastore.events.types import Arg, FileInfo, ObservedVma
from vmastore.importers.descriptors import Descriptions, FdTable
from vmastore.importers.processes import Thread
from vmastore.importers.rawcalls import Args

MAP_ANONYMOUS = 0x20
O_WRONLY, O_RDWR, O_CREAT, O_CLOEXEC = 1, 2, 0o100, 0o2000000
MFD_CLOEXEC, MFD_HUGETLB = 1, 4
SHM_HUGETLB = 0o4000
F_DUPFD, F_SETFD, F_DUPFD_CLOEXEC = 0, 2, 1030
CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4
EBADF = 9

Effect = tuple[int | None, list[int]]  # the file that the event names, the userfaultfds released


class FileTracker:
    """The descriptors of all processes of one trace. files: the list to keep the descriptions in."""

    def __init__(self, files: list[FileInfo]) -> None:
        self.descriptions = Descriptions()
        self.descriptions.files = files
        self.uffd_mm: dict[int, int] = {}  # userfaultfd → the mm it watches
        self._sizes: dict[int, int] = {}  # shmid → bytes
        self._huge: set[int] = set()  # shmids of SHM_HUGETLB
        self._segments: dict[int, int] = {}  # shmid → file
        self._seen: set[int] = set()  # files whose path and inode maps has shown

    def effect(self, thread: Thread, name: str, args: Args, result: int | None, errno: int) -> Effect:
        """Do what the call did. Call it for every system call, in order."""
        handler = _EFFECTS.get(name)
        return handler(self, thread, args, result, errno) if handler else (None, [])

    def segment_size(self, shmid: int) -> int | None:
        """The size of a System V segment, as shmget or the first attachment told it."""
        return self._sizes.get(shmid)

    def observe(self, file: int, line: ObservedVma) -> None:
        """Take path, device and inode of a file from a line of maps that shows it."""
        info = self.descriptions.files[file - 1]
        shared_zero = info.kind == "zero" and line.perms[3] == "s"  # such a mapping has a file of its own
        if file not in self._seen and line.inode and not shared_zero:
            self._seen.add(file)
            self.descriptions.files[file - 1] = info._replace(path=line.name, dev=line.dev, inode=line.inode)

    def unshare(self, thread: Thread) -> None:
        """Give a thread a descriptor table of its own."""
        if thread.files.users > 1:
            thread.files.users -= 1
            thread.files = self.descriptions.copy(thread.files)
            thread.files.users = 1

    def attach_segment(self, shmid: int, line: ObservedVma | None, addr: int) -> int:
        """The file of a System V segment that was attached at `addr`."""
        if line is not None:
            self._sizes.setdefault(shmid, line.end - addr)
        if shmid not in self._segments:
            path = line.name if line is not None else "/SYSV00000000"
            self._segments[shmid] = self.descriptions.segment(
                shmid, self._sizes.get(shmid), path, shmid in self._huge
            )
        return self._segments[shmid]

    def shmget(self, shmid: int, size: int, flags: int) -> None:
        """A segment was made or found; the first size asked for is taken for its own."""
        self._sizes.setdefault(shmid, size)
        if flags & SHM_HUGETLB:
            self._huge.add(shmid)

    def install(self, table: FdTable, fd: int, file: int, cloexec: bool, known: bool = True) -> Effect:
        """A new descriptor."""
        return file, self.descriptions.install(table, fd, file, cloexec, known)


Handler = Callable[[FileTracker, Thread, Args, "int | None", int], Effect]


def _named(thread: Thread, fd: Arg) -> int | None:
    slot = thread.files.slots.get(fd)
    return slot.file if slot else None


def _mmap(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    flags, fd = args[3], args[4]
    if flags & MAP_ANONYMOUS or fd < 0:
        return None, []
    if errno:
        return _named(thread, fd), []
    return files.descriptions.lookup(thread.files, fd, None), []


def _open(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    if result is None:
        return None, []
    _, path, flags, _ = args
    file = files.descriptions.opened(path, None, flags)
    return files.install(thread.files, result, file, bool((flags or 0) & O_CLOEXEC))


def _creat(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    return _open(files, thread, (-100, args[0], O_WRONLY | O_CREAT, args[1]), result, errno)


def _memfd_create(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    if result is None:
        return None, []
    name, flags = args
    kind = "hugetlb" if flags & MFD_HUGETLB else "memfd"
    file = files.descriptions.opened(f"/memfd:{name}", None, O_RDWR, kind=kind)
    return files.install(thread.files, result, file, bool(flags & MFD_CLOEXEC))


def _userfaultfd(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    if result is None:
        return None, []
    file = files.descriptions.opened("anon_inode:[userfaultfd]", None, O_RDWR, kind="uffd")
    files.uffd_mm[file] = thread.mm
    return files.install(thread.files, result, file, bool(args[0] & O_CLOEXEC))


def _ioctl(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    if args[1] == "USERFAULTFD_IOC_NEW":
        return _userfaultfd(files, thread, (O_CLOEXEC,), result, errno)
    file = _named(thread, args[0])
    if file is None and not errno:  # made out of the trace's sight
        file = files.descriptions.opened("anon_inode:[userfaultfd]", None, O_RDWR, kind="uffd")
        files.uffd_mm[file] = thread.mm
        return files.install(thread.files, args[0], file, cloexec=False, known=False)
    return file, []


def _duplicate(
    files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int, cloexec: bool = False
) -> Effect:
    if result is None:
        return _named(thread, args[0]), []
    file = files.descriptions.lookup(thread.files, args[0], None)
    if result == args[0]:
        return file, []
    return files.install(thread.files, result, file, cloexec, thread.files.slots[args[0]].known)


def _dup3(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    return _duplicate(files, thread, args, result, errno, bool(args[2] & O_CLOEXEC))


def _fcntl(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    fd, cmd, arg = args
    if cmd in (F_DUPFD, F_DUPFD_CLOEXEC):
        return _duplicate(files, thread, args, result, errno, cmd == F_DUPFD_CLOEXEC)
    if cmd == F_SETFD and not errno:
        files.descriptions.set_cloexec(thread.files, fd, bool(arg & 1))
    return _named(thread, fd), []


def _close(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    """close(2) frees the descriptor even where it fails, but for EBADF."""
    file = _named(thread, args[0])
    return file, [] if errno == EBADF else files.descriptions.close(thread.files, args[0])


def _close_range(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    first, last, flags = args
    if errno:
        return None, []
    if flags & CLOSE_RANGE_UNSHARE:
        files.unshare(thread)
    if not flags & CLOSE_RANGE_CLOEXEC:
        return None, files.descriptions.close_range(thread.files, first, last)
    for fd in [fd for fd in thread.files.slots if first <= fd <= last]:
        files.descriptions.set_cloexec(thread.files, fd, True)
    return None, []


def _shmget(files: FileTracker, thread: Thread, args: Args, result: int | None, errno: int) -> Effect:
    if result is not None:
        files.shmget(result, args[1], args[2])
    return None, []


_EFFECTS: dict[str, Handler] = {
    "mmap": _mmap,
    **dict.fromkeys(("open", "openat", "openat2"), _open),
    "creat": _creat,
    "memfd_create": _memfd_create,
    "userfaultfd": _userfaultfd,
    "ioctl": _ioctl,
    **dict.fromkeys(("dup", "dup2"), _duplicate),
    "dup3": _dup3,
    "fcntl": _fcntl,
    "close": _close,
    "close_range": _close_range,
    "shmget": _shmget,
}
