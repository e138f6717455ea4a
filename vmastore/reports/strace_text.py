"""Arguments and results as strace prints them: what `importers.strace` reads back as the same values."""

from __future__ import annotations

import errno as _errno
import os
from collections.abc import Callable, Sequence
from typing import Any

from vmastore.events.types import Arg, Event
from vmastore.importers.strace import constants
from vmastore.importers.strace.scan import Unparsed, split_call
from vmastore.importers.strace.tokens import any_value

Args = Sequence[Arg]
_HEX_RESULT = frozenset({"mmap", "mmap2", "mremap", "brk", "shmat", "map_shadow_stack"})
_PLAIN_ESCAPES = {0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r", 0x0B: "\\v", 0x0C: "\\f", 0x22: '\\"', 0x5C: "\\\\"}


def quoted(text: str) -> str:
    """A string with strace's escapes."""
    return f'"{escaped(text)}"'


def escaped(text: str, also: str = "") -> str:
    """The text with what strace does not print as it is in octal."""
    out = []
    for byte in text.encode("utf-8", "surrogatepass"):
        if byte in _PLAIN_ESCAPES:
            out.append(_PLAIN_ESCAPES[byte])
        elif 0x20 <= byte < 0x7F and chr(byte) not in also:
            out.append(chr(byte))
        else:
            out.append(f"\\{byte:03o}")
    return "".join(out)


def address(value: int | None) -> str:
    """An address; None: one that the log does not show."""
    return "?" if value is None else hex(value) if value else "NULL"


def number(value: Arg) -> str:
    """A length, a descriptor, a number of any kind."""
    return str(value) if isinstance(value, int) and abs(value) < 1 << 20 else _any(value)


def flags(table: constants.Table) -> Callable[[Arg], str]:
    """A printer of ``A|B|0x80``."""
    single = [(name, value) for name, value in table.items() if value > 0]

    def show(value: Arg) -> str:
        if not isinstance(value, int):
            return _any(value)
        exact = next((name for name, known in table.items() if known == value), None)
        if exact is not None:
            return exact
        names, rest = [], value
        for name, known in single:
            if known & (known - 1) == 0 and rest & known:
                names.append(name)
                rest &= ~known
        return "|".join([*names, hex(rest)] if rest else names) if names else hex(value)

    return show


def _kind_and_flags(table: constants.Table, mask: int) -> Callable[[Arg], str]:
    """The same where the lowest bits are a number (MAP_SHARED_VALIDATE is not SHARED|PRIVATE)."""
    kinds = {value: name for name, value in table.items() if 0 < value <= mask}
    others = flags({name: value for name, value in table.items() if value > mask})

    def show(value: Arg) -> str:
        if not isinstance(value, int):
            return _any(value)
        kind, rest = value & mask, value & ~mask
        first = kinds.get(kind, hex(kind) if kind else "")
        return "|".join(part for part in (first, others(rest) if rest else "") if part) or "0"

    return show


def _any(value: Arg) -> str:
    """An argument of a call that is not in the table, so that it reads back the same."""
    if value is None:
        return "?"
    if isinstance(value, int):
        return hex(value) if value >= 1 << 16 else str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_any(item) for item in value) + "]"
    text = str(value)
    try:
        bare = any_value(text.encode()) == text and split_call(text.encode() + b") = 0")[0] == [text.encode()]
    except (Unparsed, UnicodeEncodeError):
        bare = False
    return text if bare and text.isascii() and text.isprintable() else quoted(text)


def _mask(value: Arg) -> str:
    """A node mask in words of 64 bits."""
    if value is None:
        return "NULL"
    words: list[str] = []
    while value or not words:
        words.append(f"{value & (1 << 64) - 1:#x}")
        value >>= 64
    return "[" + ", ".join(words) + "]"


PROT, MREMAP, MADV = flags(constants.PROT), flags(constants.MREMAP), flags(constants.MADV)
MAP, OPEN = _kind_and_flags(constants.MAP, 0xF), flags({k: v for k, v in constants.OPEN.items() if k != "O_RDONLY"})
_FORMS: dict[str, tuple[Callable[[Any], str], ...]] = {
    **dict.fromkeys(("mmap", "mmap2"), (address, number, PROT, MAP, number, hex)),
    "munmap": (address, number),
    "mprotect": (address, number, PROT),
    "pkey_mprotect": (address, number, PROT, number),
    "brk": (address,),
    "madvise": (address, number, MADV),
    "mlock": (address, number),
    "munlock": (address, number),
    "msync": (address, number, flags(constants.MS)),
    "mincore": (address, number, _any),
    "close": (number,),
    "dup": (number,),
    "userfaultfd": (OPEN,),
}


def arguments(event: Event) -> str:
    """The arguments of a call, as in its parentheses."""
    special = _SPECIAL.get(event.call)
    if special is not None:
        return special(event.args)
    form = _FORMS.get(event.call)
    if form is None or len(form) != len(event.args):
        return ", ".join(_any(value) for value in event.args)
    return ", ".join(show(value) for show, value in zip(form, event.args, strict=True))


def _mremap(args: Args) -> str:
    shown = f"{address(args[0])}, {number(args[1])}, {number(args[2])}, {MREMAP(args[3])}"
    known_zero = args[4] == 0 and args[3] & constants.MREMAP["MREMAP_DONTUNMAP"]  # else 4 arguments say 0
    return f"{shown}, {address(args[4])}" if args[4] or known_zero else shown


def _process_madvise(args: Args) -> str:
    fd, iov, vlen, advice, bits = args
    shown = "?"
    if iov is not None:
        shown = "[" + ", ".join(f"{{iov_base={address(a)}, iov_len={number(n)}}}" for a, n in iov) + "]"
    return f"{number(fd)}, {shown}, {number(vlen)}, {MADV(advice)}, {number(bits)}"


def _mbind(args: Args) -> str:
    addr, length, mode, mask, maxnode, bits = args
    return f"{address(addr)}, {number(length)}, {number(mode)}, {_mask(mask)}, {number(maxnode)}, {number(bits)}"


def _set_mempolicy(args: Args) -> str:
    return f"{number(args[0])}, {_mask(args[1])}, {number(args[2])}"


def _get_mempolicy(args: Args) -> str:
    mode, mask, maxnode, addr, bits = args
    return f"{address(mode)}, {_mask(mask)}, {number(maxnode)}, {address(addr)}, {number(bits)}"


def _migrate_pages(args: Args) -> str:
    pid, maxnode, old, new = args
    return f"{number(pid)}, {number(maxnode)}, {_mask(old)}, {_mask(new)}"


def _move_pages(args: Args) -> str:
    pid, count, pages, nodes, status, bits = args
    return ", ".join([number(pid), number(count), _list(pages), _list(nodes), _any(status), number(bits)])


def _list(value: Arg) -> str:
    if not isinstance(value, list):
        return address(value)
    return "[" + ", ".join(str(v) if isinstance(v, int) and v < 0 else address(v) for v in value) + "]"


def _prctl(args: Args) -> str:
    option, second, third, fourth, fifth, name = args
    if option != constants.PR_SET_VMA or second != constants.PR_SET_VMA_ANON_NAME:
        return ", ".join(_any(value) for value in args[:5])
    shown = address(fifth) if fifth is not None or name is None else quoted(name)
    return f"PR_SET_VMA, PR_SET_VMA_ANON_NAME, {address(third)}, {number(fourth)}, {shown}"


def _ioctl(args: Args) -> str:
    fd, cmd, addr, length, mode, features = args
    shown = f"{number(fd)}, {cmd}"
    if cmd == "UFFDIO_API":
        return shown + (", 0x1" if features is None else f", {{api=0xaa, features={number(features)}}}")
    if addr is None:
        return shown + ", 0x1"
    if cmd in ("UFFDIO_COPY", "UFFDIO_MOVE"):
        struct = f"dst={address(addr)}, src=NULL, len={number(length)}"
    else:
        struct = f"range={{start={address(addr)}, len={number(length)}}}"
    parts = [struct, *([] if mode is None else [f"mode={number(mode)}"])]
    if features is not None:
        parts.append(f"features={number(features)}")
    return f"{shown}, {{{', '.join(parts)}}}"


def _shmat(args: Args) -> str:
    return f"{number(args[0])}, {address(args[1])}, {number(args[2])}"


def _limits(args: Args) -> str:
    soft, hard = args[-2:]
    return "NULL" if soft is None else f"{{rlim_cur={number(soft)}, rlim_max={number(hard)}}}"


def _prlimit64(args: Args) -> str:
    return f"{number(args[0])}, {number(args[1])}, {_limits(args)}, NULL"


def _setrlimit(args: Args) -> str:
    return f"{number(args[0])}, {_limits(args)}"


def _fork(args: Args) -> str:
    return ""


def _clone(args: Args) -> str:
    return "NULL" if args[0] is None else f"child_stack=NULL, flags={args[0]:#x}"


def _clone3(args: Args) -> str:
    return "0x1, 88" if args[0] is None else f"{{flags={args[0]:#x}, exit_signal=0}}, 88"


def _execve(args: Args) -> str:
    return f"{quoted(args[0])}, {_argv(args[1])}, NULL"


def _execveat(args: Args) -> str:
    return f"AT_FDCWD, {quoted(args[0])}, {_argv(args[1])}, NULL, 0"


def _argv(value: Arg) -> str:
    return "[" + ", ".join(map(quoted, value)) + "]" if isinstance(value, list) else address(value)


def _open(args: Args) -> str:
    if args[0] is None and args[2] is None:  # flags that we do not know: as they were
        return str(args[1])
    return f"{quoted(args[1])}, {OPEN(args[2])}" + _mode(args[3])


def _openat(args: Args) -> str:
    if args[0] is None and args[2] is None:
        return str(args[1])
    return f"{_dirfd(args[0])}, {quoted(args[1])}, {OPEN(args[2])}" + _mode(args[3])


def _openat2(args: Args) -> str:
    if args[0] is None and args[2] is None:
        return str(args[1])
    parts = [] if args[2] is None else [f"flags={OPEN(args[2])}"]
    parts += [] if args[3] is None else [f"mode={number(args[3])}"]
    return f"{_dirfd(args[0])}, {quoted(args[1])}, {{{', '.join(parts)}}}, 24"


def _dirfd(value: int) -> str:
    return "AT_FDCWD" if value == -100 else str(value)


def _mode(value: int | None) -> str:
    return "" if value is None else f", {value:#05o}".replace("0o", "0")


def _creat(args: Args) -> str:
    return quoted(args[0]) + (_mode(args[1]) or ", ?")


def _memfd_create(args: Args) -> str:
    return f"{quoted(args[0])}, {number(args[1])}"


def _dup2(args: Args) -> str:
    return f"{number(args[0])}, {number(args[1])}"


def _fcntl(args: Args) -> str:
    return f"{number(args[0])}, {_any(args[1])}" + ("" if args[2] is None else f", {_any(args[2])}")


_SPECIAL: dict[str, Callable[[Args], str]] = {
    "mremap": _mremap,
    "process_madvise": _process_madvise,
    "mbind": _mbind,
    "set_mempolicy": _set_mempolicy,
    "get_mempolicy": _get_mempolicy,
    "migrate_pages": _migrate_pages,
    "move_pages": _move_pages,
    "prctl": _prctl,
    "ioctl": _ioctl,
    "shmat": _shmat,
    "prlimit64": _prlimit64,
    "setrlimit": _setrlimit,
    "fork": _fork,
    "vfork": _fork,
    "clone": _clone,
    "clone3": _clone3,
    "execve": _execve,
    "execveat": _execveat,
    "open": _open,
    "openat": _openat,
    "openat2": _openat2,
    "creat": _creat,
    "memfd_create": _memfd_create,
    "dup2": _dup2,
    "fcntl": _fcntl,
    "fcntl64": _fcntl,
}


def result(event: Event) -> str:
    """What stands behind the ``=``."""
    if event.errno:
        name = _errno.errorcode.get(event.errno) or _KERNEL.get(event.errno)
        text = f"-1 {name} ({os.strerror(event.errno)})" if name else f"-1 (errno {event.errno})"
    elif event.result is not None and (event.call in _HEX_RESULT and event.result > 0):
        text = hex(event.result)
    else:
        text = str(event.result)
    return text + " (INJECTED)" if event.injected else text


_KERNEL = {524: "ENOTSUPP", 512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 515: "ENOIOCTLCMD"}
