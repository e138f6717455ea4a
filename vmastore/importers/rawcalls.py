"""The arguments of each call, from the six registers to the values of `vmastore.events.CALLS`.

Registers hold what the caller left in them: only the call's own arguments count, and a 32-bit
argument only by its low half. What lies behind a pointer is not in the registers: paths, names and
userfaultfd requests come beside them, the rest is None.
"""

from __future__ import annotations

from collections.abc import Callable

from vmastore.events.types import Arg
from vmastore.importers.strace.constants import UFFDIO

Args = tuple[Arg, ...]
Registers = list[int]

PR_SET_VMA, PR_SET_VMA_ANON_NAME = 0x53564D41, 0
O_CREAT, O_TMPFILE = 0o100, 0o20200000

# u: 64-bit, w: unsigned 32-bit, i: C int
_SHAPES = {
    "mmap": "uuuuiu",
    "munmap": "uu",
    "mprotect": "uuu",
    "pkey_mprotect": "uuui",
    "mremap": "uuuuu",
    "brk": "u",
    "madvise": "uuw",
    "mlock": "uu",
    "mlock2": "uuw",
    "munlock": "uu",
    "mlockall": "w",
    "munlockall": "",
    "set_mempolicy_home_node": "uuuu",
    "userfaultfd": "w",
    "remap_file_pages": "uuuuu",
    "shmget": "wuw",
    "shmdt": "u",
    "mseal": "uuu",
    "msync": "uuw",
    "io_setup": "wu",
    "io_destroy": "u",
    "personality": "w",
    "pkey_alloc": "uu",
    "pkey_free": "i",
    "dup": "i",
    "dup3": "iiw",
    "close": "i",
    "close_range": "www",
    "fcntl": "iwu",
    "arch_prctl": "wu",
    "ftruncate": "iu",
    "rename": "uu",
}


def typed(name: str, a: Registers, text: str | None) -> Args:
    """The event's arguments. text: the path, name or request that the recording shows."""
    shape = _SHAPES.get(name)
    if shape is not None:
        return tuple(_CASTS[kind](value) for kind, value in zip(shape, a, strict=False))
    special = _SPECIAL.get(name)
    return special(a, text) if special else tuple(a)


def c_int(value: int) -> int:
    """A register as a C int."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _unsigned(value: int) -> int:
    return value & 0xFFFFFFFF


_CASTS: dict[str, Callable[[int], int]] = {"u": int, "w": _unsigned, "i": c_int}


def _process_madvise(a: Registers, _: str | None) -> Args:
    return c_int(a[0]), None, a[2], _unsigned(a[3]), _unsigned(a[4])


def _mbind(a: Registers, _: str | None) -> Args:
    return a[0], a[1], _unsigned(a[2]), None, a[4], _unsigned(a[5])


def _set_mempolicy(a: Registers, _: str | None) -> Args:
    return _unsigned(a[0]), None, a[2]


def _prctl(a: Registers, text: str | None) -> Args:
    name = None
    if (_unsigned(a[0]), a[1]) == (PR_SET_VMA, PR_SET_VMA_ANON_NAME) and a[4]:
        name = text or ""  # an empty name is left out of the recording
    return _unsigned(a[0]), *a[1:5], name


# where a request's words hold address, length and mode
_UFFD_WORDS: dict[str, tuple[int, int, int | None]] = {
    "UFFDIO_REGISTER": (0, 1, 2),
    "UFFDIO_UNREGISTER": (0, 1, None),
    "UFFDIO_WAKE": (0, 1, None),
    "UFFDIO_COPY": (0, 2, 3),
    "UFFDIO_ZEROPAGE": (0, 1, 2),
    "UFFDIO_MOVE": (0, 2, 3),
    "UFFDIO_WRITEPROTECT": (0, 1, 2),
    "UFFDIO_CONTINUE": (0, 1, 2),
    "UFFDIO_POISON": (0, 1, 2),
}


def _ioctl(a: Registers, text: str | None) -> Args:
    number = _unsigned(a[1])
    cmd = UFFDIO.get(number, f"{number:#x}")
    words = [int(word, 16) for word in (text or "").split()]
    if len(words) == 4 and cmd == "UFFDIO_API":
        return c_int(a[0]), cmd, None, None, None, words[1]
    if len(words) == 4 and cmd in _UFFD_WORDS:
        addr, length, mode = _UFFD_WORDS[cmd]
        return c_int(a[0]), cmd, words[addr], words[length], None if mode is None else words[mode], None
    return c_int(a[0]), cmd, None, None, None, None


def _shmat(a: Registers, _: str | None) -> Args:
    return c_int(a[0]), a[1], _unsigned(a[2]), None


def _prlimit64(a: Registers, _: str | None) -> Args:
    return c_int(a[0]), _unsigned(a[1]), None, None


def _setrlimit(a: Registers, _: str | None) -> Args:
    return _unsigned(a[0]), None, None


def _mode(flags: int, mode: int) -> int | None:
    """The third argument of open(2), which is only there for a file that may be made."""
    return _unsigned(mode) if flags & O_CREAT or flags & O_TMPFILE == O_TMPFILE else None


def _open(a: Registers, text: str | None) -> Args:
    return -100, text, _unsigned(a[1]), _mode(a[1], a[2])


def _openat(a: Registers, text: str | None) -> Args:
    return c_int(a[0]), text, _unsigned(a[2]), _mode(a[2], a[3])


def _openat2(a: Registers, text: str | None) -> Args:
    return c_int(a[0]), text, None, None


def _creat(a: Registers, text: str | None) -> Args:
    return text, _unsigned(a[1])


def _memfd_create(a: Registers, text: str | None) -> Args:
    return text or "", _unsigned(a[1])


def _dup2(a: Registers, _: str | None) -> Args:
    return c_int(a[0]), c_int(a[1]), 0


def _unlink(a: Registers, text: str | None) -> Args:
    return (text,)


def _unlinkat(a: Registers, text: str | None) -> Args:
    return c_int(a[0]), text, _unsigned(a[2])


def _execve(a: Registers, text: str | None) -> Args:
    return text, None, None


_SPECIAL: dict[str, Callable[[Registers, str | None], Args]] = {
    "process_madvise": _process_madvise,
    "mbind": _mbind,
    "set_mempolicy": _set_mempolicy,
    "prctl": _prctl,
    "ioctl": _ioctl,
    "shmat": _shmat,
    "prlimit64": _prlimit64,
    "setrlimit": _setrlimit,
    "open": _open,
    "openat": _openat,
    "openat2": _openat2,
    "creat": _creat,
    "memfd_create": _memfd_create,
    "dup2": _dup2,
    "unlink": _unlink,
    "unlinkat": _unlinkat,
    "execve": _execve,
    "execveat": _execve,
}


def clone_flags(name: str, a: Registers, text: str | None) -> int | None:
    """The flags of fork, vfork, clone and clone3 with the exit signal; None if they were not read."""
    if name == "clone":
        return a[0]
    if name == "clone3":
        word = (text or "").removeprefix("flags=")
        return int(word, 16) if word else None
    return {"fork": 0, "vfork": 0x4100}[name] | 17  # CLONE_VFORK | CLONE_VM; SIGCHLD
