"""The event: one memory-related operation of a traced process, a frozen fact.

An event says what a process asked and what the kernel answered; what that did to its VMAs is
derived by replay. Addresses and lengths are unsigned 64-bit ints in bytes, times are
nanoseconds since the epoch (or since the start of the log where it has no epoch).
"""

from __future__ import annotations

from typing import Any, NamedTuple

Arg = Any  # int | str | None | list (JSON values only)


class Event(NamedTuple):
    """One operation. Its arguments stand in the order of ``CALLS[call]``."""

    seq: int  # gap-free from 1 within its trace
    mm: int  # address space (number within the trace), 0: none known
    pid: int  # the process (thread group)
    tid: int  # the thread: the id that the log prints
    ts_ns: int | None  # completion time
    call: str  # a key of CALLS
    args: tuple[Arg, ...]
    result: int | None  # what the call returned; None when it failed
    errno: int  # 0, or the positive errno
    file: int | None = None  # open file description: the one mapped, opened or released
    injected: bool = False  # strace faked the result, the kernel did nothing
    site: str | None = None  # call site (strace -k), innermost frame first, lines joined by "\n"
    source_line: int | None = None  # line of the log, from 1
    source_offset: int | None = None  # byte offset of that line in the (uncompressed) log


# Argument names of each call, in the kernel's order. A call that is not in this table is an
# event all the same: its arguments are named arg0, arg1, ….
CALLS: dict[str, tuple[str, ...]] = {
    "mmap": ("addr", "length", "prot", "flags", "fd", "offset"),
    "mmap2": ("addr", "length", "prot", "flags", "fd", "offset"),  # i386's mmap; offset in bytes
    "munmap": ("addr", "length"),
    "mprotect": ("addr", "length", "prot"),
    "pkey_mprotect": ("addr", "length", "prot", "pkey"),
    "mremap": ("addr", "old_length", "new_length", "flags", "new_addr"),
    "brk": ("addr",),
    "madvise": ("addr", "length", "advice"),
    # iov: [[addr, length], ...]; None where the log shows a bare pointer
    "process_madvise": ("pidfd", "iov", "vlen", "advice", "flags"),
    "mlock": ("addr", "length"),
    "mlock2": ("addr", "length", "flags"),
    "munlock": ("addr", "length"),
    "mlockall": ("flags",),
    "munlockall": (),
    # nodemask: the mask's value as one int, None for a NULL pointer
    "mbind": ("addr", "length", "mode", "nodemask", "maxnode", "flags"),
    "set_mempolicy": ("mode", "nodemask", "maxnode"),
    "get_mempolicy": ("mode", "nodemask", "maxnode", "addr", "flags"),
    "set_mempolicy_home_node": ("addr", "length", "home_node", "flags"),
    "migrate_pages": ("pid", "maxnode", "old_nodes", "new_nodes"),
    "move_pages": ("pid", "count", "pages", "nodes", "status", "flags"),
    # name: only for PR_SET_VMA_ANON_NAME (a string, None for NULL)
    "prctl": ("option", "arg2", "arg3", "arg4", "arg5", "name"),
    "userfaultfd": ("flags",),
    # cmd: the request's name (UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_API, …) or its number;
    # features only for UFFDIO_API, mode only for UFFDIO_REGISTER; file = the userfaultfd
    "ioctl": ("fd", "cmd", "addr", "length", "mode", "features"),
    "remap_file_pages": ("addr", "size", "prot", "pgoff", "flags"),
    "shmget": ("key", "size", "shmflg"),
    # size: the segment's size in bytes (from shmget or an observation), None if unknown
    "shmat": ("shmid", "addr", "shmflg", "size"),
    "shmdt": ("addr",),
    "mseal": ("addr", "length", "flags"),
    "msync": ("addr", "length", "flags"),
    "mincore": ("addr", "length", "vec"),
    "map_shadow_stack": ("addr", "size", "flags"),
    "io_setup": ("nr_events", "ctx"),
    "io_destroy": ("ctx",),
    "personality": ("persona",),
    "prlimit64": ("pid", "resource", "soft", "hard"),
    "setrlimit": ("resource", "soft", "hard"),
    "pkey_alloc": ("flags", "access_rights"),
    "pkey_free": ("pkey",),
    # process life. child_mm: the new address space (== mm for CLONE_VM and vfork)
    "fork": ("flags", "child_mm"),
    "vfork": ("flags", "child_mm"),
    "clone": ("flags", "child_mm"),
    "clone3": ("flags", "child_mm"),
    # event.mm is the address space left behind; new_mm the one that exec starts
    "execve": ("path", "argv", "new_mm"),
    "execveat": ("path", "argv", "new_mm"),
    # a thread is gone; last: 1 when its address space went with it
    "exit": ("status", "signal", "last"),
    "attach": ("note",),  # strace attached to (or detached from) a thread
    "signal": ("signo", "code", "addr"),
    # descriptors
    "open": ("dirfd", "path", "flags", "mode"),
    "openat": ("dirfd", "path", "flags", "mode"),
    "openat2": ("dirfd", "path", "flags", "mode"),
    "creat": ("path", "mode"),
    "memfd_create": ("name", "flags"),
    "dup": ("fd",),
    "dup2": ("fd", "newfd", "flags"),
    "dup3": ("fd", "newfd", "flags"),
    "fcntl": ("fd", "cmd", "arg"),
    "close": ("fd",),
    "close_range": ("first", "last", "flags"),
    # the kernel's ->release of an open file description that matters to VMAs (a userfaultfd):
    # its last reference is gone (close, dup2 over it, exec, exit)
    "release": (),
    # not system calls
    # one access per page of [addr, addr+length), upwards. access: "w" or "r"; outcome: one
    # character a page: "." served, "S" SIGSEGV, "B" SIGBUS; None: all served.
    # source: "user", "kernel" (a copy by a system call), "gup"
    "fault": ("addr", "length", "access", "outcome", "source"),
    "stack_grow": ("addr",),  # the GROWSDOWN VMA above now starts at addr
    # an observed /proc/PID/maps or smaps. kind: "baseline" (the state starts here), "check"; or
    # "image": not observed, but what the executable's ELF headers say that exec mapped (inode -1).
    # count: lines in the whole address space; removed: None when `added` is the whole list, else
    # the starts of VMAs gone or changed since the last observation of this mm;
    # added: list of ObservedVma as lists
    "maps": ("kind", "count", "removed", "added"),
    # process-wide facts that arrive in the middle of a trace; value: JSON object
    "note": ("kind", "value"),
}


class ObservedVma(NamedTuple):
    """One line of /proc/PID/maps, with what smaps adds when it was read."""

    start: int
    end: int
    perms: str  # "rwxp"
    offset: int  # bytes
    dev: str  # "fe:00"
    inode: int
    name: str  # path, "[heap]", "[anon:NAME]", …
    vm_flags: str | None = None  # "rd wr mr mw me ac" (smaps VmFlags), None when not read
    written: bool | None = None  # smaps `Anonymous:` > 0, None when not read


# kinds of files that have a name but no place, as /proc/PID/maps and strace -y show them
PSEUDO_FILES = {
    "/secretmem": "secretmem",
    "/[aio]": "aio",
    "anon_inode:[userfaultfd]": "uffd",
    "anon_inode:[io_uring]": "io_uring",
    "anon_inode:[perf_event]": "perf",
}


class FileInfo(NamedTuple):
    """What a trace knows of one open file description. None: unknown."""

    file: int  # number within the trace, from 1
    path: str | None
    kind: str  # regular, memfd, shm (SysV), zero (/dev/zero), uffd, …, unknown: docs/trace-format.md has all
    readable: bool | None = None
    writable: bool | None = None
    dev: str | None = None  # "fe:00"
    inode: int | None = None
    size: int | None = None  # bytes
    origin: str = "open"  # open, inherited, unknown, shmat, …
    flags: int | None = None  # open(2) flags


class TraceHeader(NamedTuple):
    """The facts of a recording that replay needs and the events do not carry.

    config: max_map_count, overcommit_memory, mmap_min_addr (ints), thp
    ("always", "madvise", "never"), anon_name, userfaultfd, ksm, numa, soft_dirty (bools), … ;
    a key that is absent is unknown.
    faults: "none" (the log shows no faults), "recorded" (every fault that could matter is an
    event), "partial" (some are, records were lost).
    """

    name: str
    source: str  # where it came from (path, or the command recorded)
    format: str  # strace, jsonl, vmafuzz, maprec, vectors, record
    release: str | None = None  # uname -r
    version: str | None = None  # uname -v
    config: dict[str, Any] = {}
    faults: str = "none"
    note: str | None = None  # what the importer had to assume, in a sentence
