"""Is the executable that lies here the one that a log shows running? What the log itself says.

A log is often of another machine, or of a program that was rebuilt since. No line of it names the file's
content, but some depend on it: where its RELRO is and how long (which placed it), where the heap begins, how
long the C library is that its loader maps. And a file written after it was run is not what ran.
"""

from __future__ import annotations

from pathlib import Path

from vmastore.errors import InputError
from vmastore.events.types import Event
from vmastore.importers.elf_image import Image, read_image
from vmastore.mm.flags import PAGE_MASK, PAGE_SIZE

_BRK_RANDOM = 1 << 30  # the most that arch_randomize_brk() adds on 64 bits (32 MiB up to 6.8)
_EPOCH_NS = 10**18  # times below are of a day, not since the epoch
_C_LIBRARY = "libc.so.6"
_MAPS = frozenset({"mmap", "mmap2"})


class Proof:
    """What the events of a new program say of its file, from its exec on.

    guessed: nothing says that the file's folder is the one: the heap and the C library must bear it out.
    """

    def __init__(self, event: Event, path: str, *, guessed: bool = False) -> None:
        self.guessed = guessed
        self._ran_ns = event.ts_ns
        self._path = path
        self._brk: int | None = None  # where the heap began
        self._lengths: set[int] = set()  # of what was mapped from the beginning of files, wherever there was room

    def see(self, event: Event) -> None:
        """Take in a call of the program that succeeded."""
        if event.call == "brk" and self._brk is None:
            self._brk = event.result
        elif event.call in _MAPS and event.args[0] == 0 == event.args[5] and event.args[4] >= 0:
            self._lengths.add(event.args[1])

    def against(self, image: Image, base: int, loader: Image | None) -> str | None:
        """Why the file is not what ran, with its image at `base`; None where all that is known agrees."""
        if self._newer():
            return "written after it ran"
        if base & ~PAGE_MASK:
            return "its RELRO is elsewhere"
        end = (base + image.span[1] + PAGE_SIZE - 1) & PAGE_MASK
        if self._brk is not None and not end <= self._brk <= end + _BRK_RANDOM:
            return "the heap does not begin behind its data"
        library = None if loader is None else _library_beside(loader.path)
        if library is not None and self._lengths and library.span[1] - library.span[0] not in self._lengths:
            return f"no {_C_LIBRARY} of the length of the one here is mapped"
        if self.guessed and (self._brk is None or library is None or not self._lengths):
            return "its folder is not in the log, nor enough else that bears it out"
        return None

    def _newer(self) -> bool:
        if self._ran_ns is None or self._ran_ns < _EPOCH_NS:
            return False
        try:
            return Path(self._path).stat().st_mtime_ns > self._ran_ns
        except OSError:
            return True


def _library_beside(loader: str) -> Image | None:
    """The C library that belongs to a dynamic loader: they are built together and lie in one folder."""
    try:
        library = Path(loader).resolve().parent / _C_LIBRARY
        return read_image(library) if library.is_file() else None
    except (InputError, OSError):
        return None
