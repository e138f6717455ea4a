"""JSON lines as numbered objects, whatever the file is packed in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vmastore.errors import InputError
from vmastore.importers.sources import Source

_SUFFIXES = (".gz", ".xz", ".zst", ".bz2", ".jsonl", ".maprec", ".vmatrace", ".txt", ".log")


class Record(NamedTuple):
    """One line: its number from 1, the byte offset of its start in the uncompressed text, its object."""

    line: int
    offset: int
    data: dict[str, Any]


class JsonLines:
    """The objects of a file of JSON lines, in order; memory does not grow with its length.

    A last line that was cut off (a recording that was interrupted) ends the file quietly and is left
    in `cut` by its number. Any other line that is not a JSON object raises InputError.
    """

    def __init__(self, path: str | Path | Source) -> None:
        self.source = path if isinstance(path, Source) else Source(path)
        self.cut: int | None = None

    def fail(self, line: int, what: str) -> InputError:
        """The error to raise for one line."""
        return InputError(f"{self.source.name}:{line}: {what}")

    def first(self) -> dict[str, Any]:
        """The first object; raises InputError for an empty file."""
        for record in self.records():
            return record.data
        raise InputError(f"{self.source.name}: holds no complete line")

    def records(self) -> Iterator[Record]:
        """Read the file from its start."""
        number, offset = 0, 0
        failed: tuple[int, str] | None = None
        for batch in self.source.batches():
            for text in batch:
                if failed:
                    raise self.fail(*failed)
                number += 1
                try:
                    data = json.loads(text) if text.strip() else None
                except (ValueError, RecursionError) as error:
                    failed = number, f"not JSON: {error}"
                    continue
                if data is not None:
                    if not isinstance(data, dict):
                        raise self.fail(number, "not a JSON object")
                    yield Record(number, offset, data)
                offset += len(text) + 1
        if failed:
            self.cut = failed[0]


def stem(path: str | Path) -> str:
    """A trace's default name: the file's without the suffixes of its format and packing."""
    name = Path(path).name
    while name.endswith(_SUFFIXES):
        name = name.rpartition(".")[0]
    return name or Path(path).name
