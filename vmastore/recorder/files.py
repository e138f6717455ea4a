"""The open file descriptions of a recording that is stored while it runs: those of closed files are let go of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from vmastore.events.types import FileInfo
from vmastore.importers.strace import StraceImporter

_GONE = FileInfo(0, None, "unknown")
_NAMED_OTHERWISE = frozenset({"shm", "hugeshm", "uffd"})  # found again by other things than a descriptor


class LiveFiles(Sequence[FileInfo]):
    """As many as the importer has numbered, but only those not let go of are given.

    A slice from a place to the end has, besides what is new, what is about to be let go of: it may have
    become better known since it was stored. `settle` before a batch is stored, `forget` afterwards.
    """

    def __init__(self, importer: StraceImporter) -> None:
        self._descriptions = importer.tracker.descriptions
        self._threads = importer.tracker.processes.threads
        self._held: set[int] = set()  # numbers
        self._numbered = 0
        self._closed: list[int] = []

    def __len__(self) -> int:
        return len(self._descriptions.files)

    def __iter__(self) -> Iterator[FileInfo]:
        return (info for info in self._descriptions.files if info is not _GONE)

    @overload
    def __getitem__(self, at: int) -> FileInfo: ...
    @overload
    def __getitem__(self, at: slice) -> list[FileInfo]: ...
    def __getitem__(self, at: int | slice) -> FileInfo | list[FileInfo]:
        files = self._descriptions.files
        if isinstance(at, int):
            return files[at]
        begin = at.start or 0
        old = [files[number - 1] for number in self._closed if number <= begin]
        return [*old, *(info for info in files[at] if info is not _GONE)]

    def settle(self) -> None:
        """Find out which files nobody has open any more."""
        files = self._descriptions.files
        self._held.update(range(self._numbered + 1, len(files) + 1))
        self._numbered = len(files)
        tables = {id(thread.files): thread.files for thread in self._threads.values()}
        alive = {slot.file for table in tables.values() for slot in table.slots.values()}
        self._closed = [n for n in self._held - alive if files[n - 1].kind not in _NAMED_OTHERWISE]

    def forget(self) -> None:
        """Let go of what `settle` has found."""
        for number in self._closed:
            self._descriptions.forget(number, _GONE)
        self._held.difference_update(self._closed)
        self._closed = []
