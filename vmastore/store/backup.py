"""A copy of a SQLite store, whole or not there at all."""

from __future__ import annotations

import filecmp
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

from vmastore.errors import StoreError

PAGES = 1000  # copied between two calls of progress


def back_up(place: Path, suffix: str, progress: Callable[[str, int, int], None] | None = None) -> Path:
    """Copy a store beside itself, to NAME.SUFFIX, by SQLite's own backup. Returns the copy.

    It gets its name when it is complete and on the disk. An older copy is never overwritten: a
    different one of that name makes this NAME.SUFFIX.2, and so on. Raises StoreError.
    """
    part = place.with_name(f"{place.name}.{suffix}.part")

    def copied(_: int, left: int, total: int) -> None:
        if progress is not None:
            progress("backup", total - left, total)

    try:
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(place)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy, pages=PAGES, progress=copied)
        shutil.copymode(place, part)
        return _named(part, place, suffix)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{part}: {error}", hint="the backup copy could not be made; nothing was changed") from None


def _named(part: Path, place: Path, suffix: str) -> Path:
    for n in count(1):
        final = place.with_name(f"{place.name}.{suffix}" + (f".{n}" if n > 1 else ""))
        if not final.exists() or filecmp.cmp(part, final, shallow=False):
            break
    with open(part, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(part, final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return final
