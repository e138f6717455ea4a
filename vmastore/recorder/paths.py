"""Device, inode and size of the files that a recording mapped, which strace's log does not show."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from vmastore.events.types import Arg, FileInfo

_TICK_NS = 10_000_000  # the time of a change is that of the timer's last tick


class Paths:
    """Looks files up by the path that the log shows.

    Only what must have been the same during the recording counts: a file whose inode has not changed since
    the recording began, on a device that maps is seen to show as stat does (an overlay is not).
    """

    def __init__(self, begin_ns: int) -> None:
        """begin_ns: when the recording began, wall clock."""
        self._begin_ns = begin_ns
        self._same: dict[str, bool] = {}  # device as in maps: whether stat says the same
        self._seen: set[str] = set()  # paths looked up for that

    def learn(self, lines: Iterable[list[Arg]]) -> None:
        """Compare an observation's lines with what stat says."""
        for _, _, _, _, dev, inode, name, *_ in lines:
            if not inode or name in self._seen or not name.startswith("/"):
                continue
            self._seen.add(name)
            info = self._stat(name)
            if info is not None and info.st_ino == inode:
                self._same[dev] = self._same.get(dev, True) and _device(info) == dev

    def describe(self, file: FileInfo) -> FileInfo:
        """The file with its device, inode and size, where they are sure."""
        if file.inode is not None or file.kind != "regular" or file.path is None or not file.path.startswith("/"):
            return file
        info = self._stat(file.path)
        if info is None or not self._same.get(_device(info)):
            return file
        return file._replace(dev=_device(info), inode=info.st_ino, size=info.st_size)

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            info = os.stat(path)
        except (OSError, ValueError):
            return None
        return info if stat.S_ISREG(info.st_mode) and info.st_ctime_ns < self._begin_ns - _TICK_NS else None


def _device(info: os.stat_result) -> str:
    """As maps prints it."""
    return f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}"
