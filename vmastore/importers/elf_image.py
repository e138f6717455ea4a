"""What an executable's ELF headers say of the mappings that exec makes of it.

Facts: load_elf_binary() maps each PT_LOAD segment, whole pages, privately; what lies beyond the file's
part of a writable segment is anonymous memory, and the rest of the page where it begins is cleared, which
writes to the file's part. The dynamic loader makes PT_GNU_RELRO read-only with one mprotect, of the pages
that lie in it to their end: where that call went, the image is.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from vmastore.errors import InputError
from vmastore.events.types import ObservedVma
from vmastore.mm.flags import PAGE_MASK, PAGE_SIZE

_MAX_SCRIPTS = 5  # how often an interpreter may be a script itself, as in the kernel
_UNKNOWN_DEV, _UNKNOWN_INODE = "?", -1


class Segment(NamedTuple):
    """One PT_LOAD: addresses relative to where the image is loaded."""

    vaddr: int
    offset: int
    filesz: int
    memsz: int
    perms: str  # "r-xp"


class Image(NamedTuple):
    """The loadable part of one ELF file."""

    path: str
    fixed: bool  # ET_EXEC: the addresses are absolute
    segments: tuple[Segment, ...]
    relro: tuple[int, int] | None  # (start, length) that the loader makes read-only
    interpreter: str | None  # the dynamic loader's path

    def lines(self, base: int, path: str | None = None) -> list[ObservedVma]:
        """The VMAs of the image loaded at `base`, as maps would show them. path: as the traced process sees it."""
        found: list[ObservedVma] = []
        for segment in self.segments:
            start = (base + segment.vaddr) & PAGE_MASK
            file_end = _up(base + segment.vaddr + segment.filesz)
            end = _up(base + segment.vaddr + segment.memsz)
            if segment.filesz:
                found.append(self._file_part(segment, start, file_end, path or self.path))
                start = file_end
            if end > start:
                perms = "rwxp" if segment.perms[2] == "x" else "rw-p"
                found.append(ObservedVma(start, end, perms, 0, "00:00", 0, ""))
        return found

    def _file_part(self, segment: Segment, start: int, end: int, path: str) -> ObservedVma:
        """The pages that hold the file's bytes; clearing the rest of the last one writes to it."""
        cleared = segment.memsz > segment.filesz and bool((segment.vaddr + segment.filesz) & ~PAGE_MASK)
        written = True if cleared and segment.perms[1] == "w" else None
        offset = segment.offset & PAGE_MASK
        return ObservedVma(start, end, segment.perms, offset, _UNKNOWN_DEV, _UNKNOWN_INODE, path, None, written)

    @property
    def span(self) -> tuple[int, int]:
        """From the first to the last byte of all segments; a loader maps a library of that length first."""
        last = self.segments[-1]
        return self.segments[0].vaddr & PAGE_MASK, last.vaddr + last.memsz

    def base(self, addr: int, length: int) -> int | None:
        """Where the image is if [addr, addr+length) is its RELRO; None if it cannot be."""
        if self.relro is None or self.relro[1] != length:
            return None
        base = addr - self.relro[0]
        return None if base < 0 or (self.fixed and base) else base


def read_image(path: str | Path) -> Image:
    """The image of an ELF executable or of a script's interpreter. Raises InputError."""
    elf = _library()
    program = _interpreter_of(Path(path))
    try:
        with program.open("rb") as stream:
            return _image(elf.elffile.ELFFile(stream), str(program))
    except OSError as error:
        raise InputError(f"--exec {program}: {error.strerror or error}") from None
    except (elf.common_exceptions.ELFError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"--exec {program}: is no ELF executable ({error})") from None


class _Elf(NamedTuple):
    elffile: Any
    common_exceptions: Any


def _library() -> _Elf:
    try:
        return _Elf(
            importlib.import_module("elftools.elf.elffile"), importlib.import_module("elftools.common.exceptions")
        )
    except ImportError:
        raise InputError(
            "--exec needs the package pyelftools", hint="Install it with: pip install pyelftools"
        ) from None


def _interpreter_of(path: Path) -> Path:
    """The program that runs when `path` is executed: itself, unless it is a script."""
    for _ in range(_MAX_SCRIPTS):
        try:
            with path.open("rb") as stream:
                head = stream.read(256)
        except OSError as error:
            raise InputError(f"--exec {path}: {error.strerror or error}") from None
        words = head[2:].partition(b"\n")[0].split()
        if not head.startswith(b"#!") or not words:
            return path
        path = Path(words[0].decode("utf-8", "surrogateescape"))
        if not path.is_file():
            raise InputError(f"--exec {path}: is no file")
    raise InputError(f"--exec {path}: scripts that run scripts, too deep")


def _image(elf: Any, path: str) -> Image:
    kind = elf.header["e_type"]
    if kind not in ("ET_EXEC", "ET_DYN"):
        raise InputError(f"--exec {path}: is no executable but {kind}")
    segments: list[Segment] = []
    relro = interpreter = None
    for entry in elf.iter_segments():
        header = entry.header
        if header["p_type"] == "PT_LOAD":
            segments.append(_segment(header))
        elif header["p_type"] == "PT_GNU_RELRO":
            start = header["p_vaddr"] & PAGE_MASK
            length = ((header["p_vaddr"] + header["p_memsz"]) & PAGE_MASK) - start
            relro = (start, length) if length > 0 else None
        elif header["p_type"] == "PT_INTERP":
            interpreter = entry.get_interp_name()
    if not segments:
        raise InputError(f"--exec {path}: has nothing to load")
    return Image(path, kind == "ET_EXEC", tuple(segments), relro, interpreter)


def _segment(header: Any) -> Segment:
    flags = header["p_flags"]
    perms = "".join(letter if flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))) + "p"
    return Segment(header["p_vaddr"], header["p_offset"], header["p_filesz"], header["p_memsz"], perms)


def _up(address: int) -> int:
    return (address + PAGE_SIZE - 1) & PAGE_MASK
