"""A store opened for queries alone: a SQLite file without SQLAlchemy, whose import takes longer than most queries."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vmastore.errors import StoreError
from vmastore.store.hints import hint_for
from vmastore.store.sqlite import BUSY_SECONDS, check_file, writable
from vmastore.version import SCHEMA

if TYPE_CHECKING:
    from vmastore.store.store import Store

Readable: TypeAlias = "Store | StoreFile"  # what queries take


class StoreFile:
    """A store in a SQLite file that this process may write, for reading. A context manager."""

    dialect = "sqlite"

    def __init__(self, file: str, connection: sqlite3.Connection) -> None:
        """connection: one that may write, and never does: the last of those that closes takes the -wal file away."""
        self.file = self.place = file
        self._connection = connection

    def __enter__(self) -> StoreFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT of the store's own. Raises StoreError."""
        try:
            return self._connection.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.place}: {error}", hint=hint_for(str(error))) from None


def open_readable(place: str | Path) -> Readable:
    """The store at a path or URL, which must exist, for queries. Raises StoreError as `open_store` does."""
    found = _plain_file(str(place))
    if found is not None:
        return found
    from vmastore.store.store import open_store

    return open_store(place, create=False)


def _plain_file(path: str) -> StoreFile | None:
    """The store in a file about which there is nothing to be said; of all else `open_store` says what it is.

    Raises StoreError as that does for what is no store's file.
    """
    if "://" in path or not Path(path).is_file() or not writable(path):
        return None
    check_file(path)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only=ON")
        if connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA,)]:
            return StoreFile(path, connection)
    except sqlite3.Error:
        pass
    connection.close()
    return None
