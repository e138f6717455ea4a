"""The calls whose arguments are more than numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from vmastore.events.types import Arg
from vmastore.importers.strace import constants, values
from vmastore.importers.strace.scan import Unparsed, string
from vmastore.importers.strace.tokens import any_value, bare_name, items_of, pointer, text_of
from vmastore.importers.strace.values import FD, INT, SIGNED, Memo, bare

Args = tuple[Arg, ...]
Tokens = Sequence[bytes]


def _process_madvise(tokens: Tokens) -> Args:
    pidfd, iov, vlen, advice, flags = tokens
    items = items_of(iov)
    pairs = None if items is None else [list(_fields(item, b"iov_base", b"iov_len")) for item in items if item]
    return FD[pidfd], pairs, INT[vlen], values.MADV[advice], INT[flags]


def _fields(text: bytes, *names: bytes) -> list[int]:
    """The numbers behind ``name=`` in a struct, in the order of `names`."""
    found = []
    for name in names:
        match = re.search(rb"\b" + name + rb"=([^,}]+)", text)
        if not match:
            raise Unparsed(f"no {name.decode()}")
        found.append(INT[match[1]])
    return found


_MASK_WORDS = 4096 // 8  # the kernel takes one page of them
_HEX = re.compile(rb"(?:0x)?[0-9a-f]+\Z")


def _mask(token: bytes) -> int | None:
    """A node mask's value; None for NULL or for a mask that the log does not show."""
    words = items_of(token)
    if words is None:
        return None
    if len(words) > _MASK_WORDS:
        raise Unparsed("a mask of more nodes than there can be")
    value = 0
    for position, word in enumerate(words):
        if _HEX.match(word):
            value |= int(word, 16) << 64 * position
    return value


def _mbind(tokens: Tokens) -> Args:
    addr, length, mode, mask, maxnode, flags = tokens
    return INT[addr], INT[length], values.MPOL[mode], _mask(mask), INT[maxnode], values.MPOL_MF[flags]


def _set_mempolicy(tokens: Tokens) -> Args:
    mode, mask, maxnode = tokens[:3]
    return values.MPOL[mode], _mask(mask), INT[maxnode]


def _get_mempolicy(tokens: Tokens) -> Args:
    mode, mask, maxnode, addr, flags = tokens
    shown = items_of(mode)
    policy = values.MPOL[shown[0]] if shown else pointer(mode)
    return policy, _mask(mask), INT[maxnode], INT[addr], values.MPOL_F[flags]


def _migrate_pages(tokens: Tokens) -> Args:
    pid, maxnode, old, new = tokens
    return SIGNED[pid], INT[maxnode], _mask(old), _mask(new)


def _move_pages(tokens: Tokens) -> Args:
    pid, count, pages, nodes, status, flags = tokens
    return SIGNED[pid], INT[count], _numbers(pages), _numbers(nodes), any_value(status), values.MPOL_MF[flags]


def _numbers(token: bytes) -> Arg:
    items = items_of(token)
    if items is None:
        return pointer(token)
    return [SIGNED[item] if item.startswith(b"-") else pointer(item) for item in items if item != b"..."]


def _prctl(tokens: Tokens) -> Args:
    option = _named(values.PR, tokens[0])
    rest = [_prctl_argument(token) for token in tokens[1:5]]
    rest += [0] * (4 - len(rest))
    if option != constants.PR_SET_VMA or rest[0] != constants.PR_SET_VMA_ANON_NAME:
        return option, *rest, None
    return option, rest[0], rest[1], rest[2], *_vma_name(tokens[4])


def _named(memo: Memo, token: bytes) -> Arg:
    """The number of a name; the name itself where no table has it."""
    try:
        return memo[token]
    except Unparsed:
        return bare(token).decode("utf-8", "backslashreplace")


def _prctl_argument(token: bytes) -> Arg:
    try:
        return values.PR_ARGUMENT[token]
    except Unparsed:
        return any_value(bare_name(token))


def _vma_name(token: bytes) -> tuple[int | None, str | None]:
    """arg5 and name. A name that the log does not show is told from others by its pointer."""
    name = string(bare_name(token))
    if name is not None:
        return None, name
    pointer = INT[token]
    return pointer, (f"@{pointer:#x}" if pointer else None)


_UFFD_STRUCT = {
    "UFFDIO_API": (),
    "UFFDIO_REGISTER": (b"start", b"len"),
    "UFFDIO_UNREGISTER": (b"start", b"len"),
    "UFFDIO_WAKE": (b"start", b"len"),
    "UFFDIO_COPY": (b"dst", b"len"),
    "UFFDIO_ZEROPAGE": (b"start", b"len"),
    "UFFDIO_MOVE": (b"dst", b"len"),
    "UFFDIO_WRITEPROTECT": (b"start", b"len"),
    "UFFDIO_CONTINUE": (b"start", b"len"),
    "UFFDIO_POISON": (b"start", b"len"),
}


def _ioctl(tokens: Tokens) -> Args:
    fd, request = FD[tokens[0]], bare(tokens[1])
    cmd = request.decode("utf-8", "backslashreplace")
    if request[:1].isdigit():
        cmd = constants.UFFDIO.get(values.number(request), cmd)
    elif request.startswith(b"_IOC("):
        cmd = _newer_request(request) or cmd
    names = _UFFD_STRUCT.get(cmd)
    if names is None or b"{" not in tokens[2]:
        return fd, cmd, None, None, None, None
    struct = tokens[2]
    addr, length = _fields(struct, *names) if names else (None, None)
    mode = _flags_in(struct, b"mode", values.UFFD_MODE)
    features = _flags_in(struct, b"features", values.UFFD_FEATURE)
    return fd, cmd, addr, length, mode, features


def _newer_request(request: bytes) -> str | None:
    """The name of a userfaultfd's request that the strace which wrote the log was too old for."""
    match = re.fullmatch(rb"_IOC\([^,]*, 0xaa, (0x[0-9a-f]+), 0x[0-9a-f]+\)", request)
    return _UFFD_NUMBERS.get(int(match[1], 16)) if match else None


_UFFD_NUMBERS = {number & 0xFF: name for number, name in constants.UFFDIO.items() if name.startswith("UFFDIO_")}


def _flags_in(struct: bytes, name: bytes, memo: Memo) -> int | None:
    """The first ``name=`` in a struct: what was asked for (an answer follows ``=>``)."""
    match = re.search(rb"\b" + name + rb"=([^,}=]+?)(?: =>|[,}]|\Z)", struct)
    return memo[match[1]] if match else None


def _shmat(tokens: Tokens) -> Args:
    shmid, addr, flags = tokens[:3]
    return SIGNED[shmid], INT[addr], values.SHMAT[flags], None


def _mincore(tokens: Tokens) -> Args:
    addr, length, vec = tokens
    return INT[addr], INT[length], any_value(vec)


def _io_setup(tokens: Tokens) -> Args:
    return INT[tokens[0]], any_value(tokens[1])


def _prlimit64(tokens: Tokens) -> Args:
    return SIGNED[tokens[0]], values.RLIMIT[tokens[1]], *_limits(tokens[2])


def _setrlimit(tokens: Tokens) -> Args:
    return values.RLIMIT[tokens[0]], *_limits(tokens[1])


def _limits(token: bytes) -> tuple[int | None, int | None]:
    """Soft and hard limit of a struct rlimit; None for a pointer."""
    limits = [values.RLIM[text] for text in re.findall(rb"rlim_(?:cur|max)=([^,}]+)", token)]
    return (limits[0], limits[1]) if len(limits) == 2 else (None, None)


def _execve(tokens: Tokens) -> Args:
    return text_of(tokens[0]), _argv(tokens[1]), None


def _execveat(tokens: Tokens) -> Args:
    return text_of(tokens[1]), _argv(tokens[2]), None


def _argv(token: bytes) -> Arg:
    items = items_of(token)
    if items is None:
        return pointer(token)
    return [string(item) or item.decode("utf-8", "backslashreplace") for item in items]


# -- descriptors


def _open(tokens: Tokens) -> Args:
    return FD[b"AT_FDCWD"], text_of(tokens[0]), values.OPEN[tokens[1]], _mode(tokens[2:])


def _openat(tokens: Tokens) -> Args:
    return FD[tokens[0]], text_of(tokens[1]), values.OPEN[tokens[2]], _mode(tokens[3:])


def _openat2(tokens: Tokens) -> Args:
    flags = re.search(rb"\bflags=([^,}]+)", tokens[2])
    mode = re.search(rb"\bmode=([^,}]+)", tokens[2])
    shown = values.OPEN[flags[1]] if flags else None
    return FD[tokens[0]], text_of(tokens[1]), shown, INT[mode[1]] if mode else None


def _creat(tokens: Tokens) -> Args:
    return text_of(tokens[0]), _mode(tokens[1:])


def _mode(tokens: Tokens) -> int | None:
    return pointer(tokens[0]) if tokens else None


def _memfd_create(tokens: Tokens) -> Args:
    return text_of(tokens[0]), values.MFD[tokens[1]]


def _dup2(tokens: Tokens) -> Args:
    return FD[tokens[0]], FD[tokens[1]], 0


def _dup3(tokens: Tokens) -> Args:
    return FD[tokens[0]], FD[tokens[1]], values.OPEN[tokens[2]]


def _fcntl(tokens: Tokens) -> Args:
    fd, cmd = FD[tokens[0]], _named(values.FCNTL, tokens[1])
    if cmd == constants.FCNTL["F_SETFD"]:
        return fd, cmd, values.FD_FLAGS[tokens[2]]
    if len(tokens) < 3:
        return fd, cmd, None
    return fd, cmd, any_value(bare_name(tokens[2]))


SPECIAL: dict[str, Callable[[Tokens], Args]] = {
    "process_madvise": _process_madvise,
    "mbind": _mbind,
    "set_mempolicy": _set_mempolicy,
    "get_mempolicy": _get_mempolicy,
    "migrate_pages": _migrate_pages,
    "move_pages": _move_pages,
    "prctl": _prctl,
    "ioctl": _ioctl,
    "shmat": _shmat,
    "mincore": _mincore,
    "io_setup": _io_setup,
    "prlimit64": _prlimit64,
    "setrlimit": _setrlimit,
    "execve": _execve,
    "execveat": _execveat,
    "open": _open,
    "openat": _openat,
    "openat2": _openat2,
    "creat": _creat,
    "memfd_create": _memfd_create,
    "dup2": _dup2,
    "dup3": _dup3,
    "fcntl": _fcntl,
    "fcntl64": _fcntl,
}
