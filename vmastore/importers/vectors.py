"""Vectors: random calls on a window of anonymous memory, with the window's VMAs after each.

A file holds several seeds, each a trace of its own. The vectors give no results: an event's result
None with errno 0 means "not recorded" (the faults' are recorded).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from vmastore.errors import InputError
from vmastore.events.types import Arg, Event, FileInfo, ObservedVma, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.jsonlines import stem
from vmastore.importers.sources import Source

WINDOW = (0x10000 << 12, 0x10028 << 12)  # the addresses that the vectors use and show

_FIXED_ANONYMOUS = 0x32  # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
_RELEASE = re.compile(r"\b(\d+\.\d+(?:\.\d+)?)\b")
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+):([r-][w-][x-])\Z")

Call = tuple[str, tuple[Arg, ...], int | None]  # call, arguments, result


class VectorsReader:
    """One seed of a file. `readers` makes them."""

    def __init__(self, source: Source, seed: int, release: str | None, name: str | None = None) -> None:
        self._source = source
        self._seed = seed
        self.files: list[FileInfo] = []
        self.header = TraceHeader(
            name or f"{stem(source.path)}-seed{seed}",
            source.name,
            "vectors",
            release,
            faults="recorded",
            note="results of system calls are not recorded; the lists show a window of anonymous memory only",
        )

    def events(self) -> Iterator[Event]:
        """All events of this seed. Raises InputError naming the line."""
        seq = 1
        for number, offset, text in _section(self._source, self._seed):
            try:
                if seq == 1:
                    yield _event(1, "maps", ("baseline", 0, None, []), number, offset)
                else:
                    yield _line(seq, text, number, offset)
            except (ValueError, IndexError, KeyError):
                raise InputError(f"{self._source.name}:{number}: not a line of vectors: {text!r}") from None
            seq += 1

    def skips(self) -> list[Skip]:
        """Nothing is ever left out."""
        return []


def readers(path: str | Path | Source, name: str | None = None) -> list[VectorsReader]:
    """One reader for each seed of the file; with a name, they are called NAME-seedN."""
    seeds: list[int] = []
    source = path if isinstance(path, Source) else Source(path)
    release = _RELEASE.search(stem(source.path))
    for number, _, text in _lines(source):
        if number == 1 and text.startswith("#"):
            release = _RELEASE.search(text) or release
        if text.startswith("seed "):
            seeds.append(_seed_number(source, number, text))
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{source.name}: a seed occurs twice")
    if not seeds:
        raise InputError(f"{source.name}: holds no seed", hint="Vectors have a line `seed N` before the operations.")
    shown = release[1] if release else None
    return [VectorsReader(source, seed, shown, f"{name}-seed{seed}" if name else None) for seed in seeds]


def _seed_number(source: Source, number: int, text: str) -> int:
    seed = text.removeprefix("seed ").strip()
    if not seed.isdecimal():
        raise InputError(f"{source.name}:{number}: not a seed: {text!r}")
    return int(seed)


def _lines(source: Source) -> Iterator[tuple[int, int, str]]:
    """Line number from 1, byte offset, text."""
    number, offset = 0, 0
    for batch in source.batches():
        for line in batch:
            number += 1
            yield number, offset, line.decode("ascii", "backslashreplace").rstrip("\r")
            offset += len(line) + 1


def _section(source: Source, seed: int) -> Iterator[tuple[int, int, str]]:
    """The lines of one seed, its `seed` line first."""
    inside = False
    for number, offset, text in _lines(source):
        if text.startswith("seed "):
            if inside:
                return
            inside = text.split()[1:] == [str(seed)]
        if inside and text:
            yield number, offset, text


def _event(seq: int, call: str, args: tuple[Arg, ...], line: int, offset: int, result: int | None = None) -> Event:
    return Event(seq, 1, 0, 0, None, call, args, result, 0, source_line=line, source_offset=offset)


def _line(seq: int, text: str, line: int, offset: int) -> Event:
    word, _, rest = text.partition(" ")
    if word == "maps":
        lines = [list(_vma(part)) for part in rest.split()]
        return _event(seq, "maps", ("window", len(lines), None, lines), line, offset)
    if word != "op":
        raise ValueError(word)
    op, *words = rest.split()
    call, args, result = _OPS[op](words)
    return _event(seq, call, args, line, offset, result)


def _vma(text: str) -> ObservedVma:
    """One VMA of the window; what the vectors do not show is -1 or empty."""
    match = _LINE.match(text)
    if match is None:
        raise ValueError(text)
    return ObservedVma(int(match[1], 16) << 12, int(match[2], 16) << 12, match[3] + "p", -1, "", -1, "")


def _range(start: str, end: str) -> tuple[int, int]:
    first = int(start, 16)
    return first << 12, (int(end, 16) - first) << 12


def _map(words: list[str]) -> Call:
    start, end, prot = words
    return "mmap", (*_range(start, end), int(prot), _FIXED_ANONYMOUS, -1, 0), None


def _prot(words: list[str]) -> Call:
    start, end, prot = words
    return "mprotect", (*_range(start, end), int(prot)), None


def _unmap(words: list[str]) -> Call:
    start, end = words
    return "munmap", _range(start, end), None


def _wfault(words: list[str]) -> Call:
    """A page written through read(2). The result counts the pages that were not served."""
    page, outcome = words
    served = {"ok": True, "efault": False}[outcome]
    return "fault", (int(page, 16) << 12, 4096, "w", "." if served else "S", "kernel"), int(not served)


_OPS: dict[str, Callable[[list[str]], Call]] = {"map": _map, "prot": _prot, "unmap": _unmap, "wfault": _wfault}
