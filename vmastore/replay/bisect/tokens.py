"""The calls of a run without what ASLR or numbering decides, so that two runs can be aligned."""

from __future__ import annotations

from collections.abc import Callable
from os.path import basename
from typing import Any, NamedTuple

from vmastore.events import Event
from vmastore.replay.bisect.places import Place, Places, Region

_MAP_FIXED = 0x10 | 0x100000  # or MAP_FIXED_NOREPLACE
_MREMAP_FIXED = 2
_SET_VMA = 0x53564D41  # PR_SET_VMA
_TOP = 1 << 64

# each argument: a an address, v a value that means the same in every run, - neither (fds, pointers, pids)
_ARGS = {
    "munmap": "av", "mprotect": "avv", "pkey_mprotect": "avvv", "madvise": "avv", "mlock": "av", "mlock2": "avv",
    "munlock": "av", "mlockall": "v", "mbind": "avvvvv", "set_mempolicy": "vvv", "get_mempolicy": "---av",
    "set_mempolicy_home_node": "avvv", "remap_file_pages": "avvvv", "shmget": "-vv", "shmat": "-avv", "shmdt": "a",
    "mseal": "avv", "msync": "avv", "mincore": "av-", "map_shadow_stack": "avv", "personality": "v",
    "prlimit64": "-vvv", "setrlimit": "vvv", "pkey_alloc": "vv", "pkey_free": "v", "fork": "v-", "vfork": "v-",
    "clone": "v-", "clone3": "v-", "exit": "v-v", "signal": "vv-", "open": "-vvv", "openat": "-vvv",
    "openat2": "-vvv", "creat": "vv", "memfd_create": "vv", "userfaultfd": "v", "stack_grow": "a", "fault": "avvvv",
    "maps": "v", "note": "v", "dup2": "--v", "dup3": "--v", "fcntl": "-v-", "close_range": "--v",
}  # fmt: skip
_SPECIAL = {"mmap", "mmap2", "mremap", "brk", "prctl", "ioctl", "process_madvise"}
_PLACED = {"mmap", "mmap2", "mremap", "brk", "shmat", "map_shadow_stack"}  # the result is an address


class Token(NamedTuple):
    """A call without anything that ASLR or numbering decides, and the places that it names, in order."""

    key: tuple[Any, ...]
    places: tuple[Place, ...]


FileName = Callable[[int | None], str | None]


class Normaliser:
    """Tokens of one trace's events, which must come in order.

    file_name: the path or kind of an open file description of the trace.
    """

    def __init__(self, file_name: FileName) -> None:
        self._file_name = file_name
        self._spaces: dict[int, Places] = {}

    def space(self, mm: int) -> Places:
        """The regions of an address space."""
        found = self._spaces.get(mm)
        if found is None:
            found = self._spaces[mm] = Places()
        return found

    def token(self, event: Event) -> Token:
        """The call as it is before it has happened."""
        space = self.space(event.mm)
        builder = _Builder(space)
        call, args = event.call, event.args
        if not _usable(event):
            builder.key.append("?")
        elif call in _SPECIAL:
            getattr(builder, f"call_{call.rstrip('2')}")(args)
        elif call in ("execve", "execveat"):
            pass  # the program is the run's own
        else:
            builder.plain(args, _ARGS.get(call, ""))
        name = None if event.file is None else space.label(self._file_name(event.file))
        return Token((call, name, event.injected, *builder.key), tuple(builder.places))

    def answer(self, event: Event) -> tuple[object, Place | None]:
        """What the kernel answered, after `learn`: errno or value, or the place that it chose."""
        if event.errno or event.result is None:
            return event.errno, None
        if event.call in _PLACED:
            return 0, self.space(event.mm).place(event.result)
        return event.result if event.call in _VALUES else 0, None

    def learn(self, event: Event) -> None:
        """Take in what the kernel answered."""
        space = self.space(event.mm)
        if event.call == "maps" and event.args[0] == "baseline" and event.args[2] is None:
            space.observe(event.args[3])
        elif event.errno or event.result is None or not _usable(event):
            return
        elif event.call in ("mmap", "mmap2", "shmat", "map_shadow_stack"):
            self._mapped(space, event)
        elif event.call == "mremap":
            _moved(space, event)
        elif event.call == "brk":
            _brk(space, event.result)
        elif event.call in ("fork", "vfork", "clone", "clone3"):
            child = event.args[1]
            if isinstance(child, int) and child != event.mm:
                self._spaces[child] = space.copy()
        elif event.call in ("execve", "execveat"):
            fresh = event.args[2] if len(event.args) > 2 else None
            if isinstance(fresh, int):
                self._spaces[fresh] = Places()
                self._spaces[fresh].program = basename(str(event.args[0]))

    def _mapped(self, space: Places, event: Event) -> None:
        result, args = event.result or 0, event.args
        if event.call == "shmat":
            length, label = args[3] if isinstance(args[3], int) else 4096, "shm"
        else:
            length = args[1]
            label = space.label(self._file_name(event.file)) if event.file is not None else "anon"
        fixed = event.call.startswith("mmap") and args[3] & _MAP_FIXED
        if not fixed or space.region(result) is None:
            space.lay(result, result + _pages(length), Region(label, result))


_NEEDS = {"mmap": (1, 2, 3), "mmap2": (1, 2, 3), "mremap": (0, 1, 2, 3), "brk": (0,), "map_shadow_stack": (1,)}
_LENGTHS = {"ioctl": 3, "process_madvise": 5, "mmap": 6, "mmap2": 6, "shmat": 4, "prctl": 1}


def _usable(event: Event) -> bool:
    """Whether the log showed the arguments that a call is read by."""
    if len(event.args) < _LENGTHS.get(event.call, 0):
        return False
    return all(n < len(event.args) and isinstance(event.args[n], int) for n in _NEEDS.get(event.call, ()))


def _moved(space: Places, event: Event) -> None:
    old, _, length, flags, *_ = event.args
    result = event.result or 0
    source = space.region(old)
    if result == old and source is not None:
        space.lay(old, old + _pages(length), source)
    elif not flags & _MREMAP_FIXED or space.region(result) is None:
        label = source.label if source is not None else "unknown"
        space.lay(result, result + _pages(length), Region(label.removesuffix(" moved") + " moved", result))


def _brk(space: Places, result: int) -> None:
    if space.heap is None:
        space.heap = Region("[heap]", result)
    if result > space.heap.base:
        space.lay(space.heap.base, result, space.heap)


def _pages(length: int) -> int:
    return (length + 4095) & -4096


_VALUES = {"madvise", "process_madvise", "pkey_alloc", "fault"}  # whose results are no descriptors or ids


class _Builder:
    """Collects the parts of a token."""

    def __init__(self, space: Places) -> None:
        self.space = space
        self.key: list[object] = []
        self.places: list[Place] = []

    def address(self, addr: object) -> None:
        if not isinstance(addr, int) or addr == 0 or not 0 < addr < _TOP:
            self.key.append(addr if isinstance(addr, int) else None)
            return
        place = self.space.place(addr)
        self.places.append(place)
        self.key += (place.region.label, place.offset)

    def plain(self, args: tuple[Any, ...], kinds: str) -> None:
        for value, kind in zip(args, kinds, strict=False):
            if kind == "a":
                self.address(value)
            elif kind == "v":
                self.key.append(tuple(value) if isinstance(value, list) else str(value))

    def call_mmap(self, args: tuple[Any, ...]) -> None:
        addr, length, prot, flags, _, offset = args[:6]
        if flags & _MAP_FIXED or (addr and self.space.region(addr) is not None):
            self.address(addr)
        else:
            self.key.append("hint" if addr else 0)
        self.key += (length, prot, flags, offset)

    def call_mremap(self, args: tuple[Any, ...]) -> None:
        old, old_length, new_length, flags, *rest = args
        self.address(old)
        self.key += (old_length, new_length, flags)
        if flags & _MREMAP_FIXED and rest:
            self.address(rest[0])

    def call_brk(self, args: tuple[Any, ...]) -> None:
        heap, addr = self.space.heap, args[0]
        self.key.append(addr - heap.base if heap is not None and addr else 0)

    def call_prctl(self, args: tuple[Any, ...]) -> None:
        option, *rest = args
        self.key += (option, rest[0] if rest else None)
        if option == _SET_VMA and len(rest) > 2:
            self.address(rest[1])
            self.key += rest[2:]

    def call_ioctl(self, args: tuple[Any, ...]) -> None:
        self.key.append(args[1])
        if isinstance(args[1], str) and args[1].startswith("UFFDIO_"):
            self.address(args[2])
            self.key += args[3:]

    def call_process_madvise(self, args: tuple[Any, ...]) -> None:
        _, iov, _, advice, flags = args[:5]
        self.key += (advice, flags)
        for addr, length in iov if isinstance(iov, list) else ():
            self.address(addr)
            self.key.append(length)
