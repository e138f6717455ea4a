"""Which thread runs in which process and address space, as fork, exec and exit change it.

Numbers of address spaces (mm) count from 1 in the order in which they are seen to exist.
"""

from __future__ import annotations

from vmastore.importers.descriptors import FdTable

CLONE_VM, CLONE_FILES, CLONE_THREAD = 0x100, 0x400, 0x10000


class Thread:
    """One thread of the trace. mm is 0 until the thread is seen to have an address space."""

    __slots__ = ("files", "mm", "pid", "tid")

    def __init__(self, tid: int, pid: int, mm: int, files: FdTable) -> None:
        self.tid = tid
        self.pid = pid
        self.mm = mm
        self.files = files


class Processes:
    """The threads that are alive, and how many of them use each address space."""

    def __init__(self) -> None:
        self.threads: dict[int, Thread] = {}
        self.mms = 0  # numbers given so far
        self.changes = 0  # how often a thread began or ended
        self._users: dict[int, int] = {}

    def new_mm(self) -> int:
        """The number of one more address space."""
        self.mms += 1
        return self.mms

    def add(self, tid: int, pid: int, mm: int, files: FdTable) -> Thread:
        """A thread that begins to exist for the trace; one that had its tid is replaced."""
        if tid in self.threads:
            self.remove(tid)
        thread = Thread(tid, pid, mm, files)
        files.users += 1
        self.changes += 1
        self.threads[tid] = thread
        self._use(mm, 1)
        return thread

    def move(self, thread: Thread, mm: int) -> bool:
        """Put a thread into another address space. Returns whether the old one has no user left."""
        last = self._use(thread.mm, -1)
        thread.mm = mm
        self._use(mm, 1)
        return last

    def remove(self, tid: int) -> tuple[Thread, bool] | None:
        """End a thread. Returns it and whether its mm went with it; None if it is unknown."""
        thread = self.threads.pop(tid, None)
        if thread is None:
            return None
        self.changes += 1
        thread.files.users -= 1
        return thread, self._use(thread.mm, -1)

    def in_use(self, mm: int) -> bool:
        """Whether a thread that is alive runs in that address space."""
        return mm in self._users

    def siblings(self, thread: Thread) -> list[Thread]:
        """The other threads of its process."""
        return [other for other in self.threads.values() if other.pid == thread.pid and other is not thread]

    def _use(self, mm: int, change: int) -> bool:
        if not mm:
            return False
        users = self._users.get(mm, 0) + change
        if users > 0:
            self._users[mm] = users
            return False
        self._users.pop(mm, None)
        return True
