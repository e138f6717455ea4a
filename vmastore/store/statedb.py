"""The view `vmas` as of one event: an in-memory database that follows a replay, for SQL as a predicate."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from vmastore.errors import StoreError
from vmastore.store.sql import authorize
from vmastore.store.sqlite import register
from vmastore.store.views import VIEWS

_VMAS = next(view for view in VIEWS if view.name == "vmas")
COLUMNS = tuple(name for name, _, _ in _VMAS.columns)
_KEY = ("mm", "vm_start")


class StateDb:
    """A table `vmas` with the columns of the public view, one row a VMA that is alive.

    Raises StoreError for a query that cannot be run.
    """

    def __init__(self, query: str) -> None:
        self.query = query
        self.read: set[str] = set()  # the columns that the query reads
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        register(self._db)
        self._db.execute(f"CREATE TABLE vmas ({', '.join(COLUMNS)}, PRIMARY KEY ({', '.join(_KEY)})) WITHOUT ROWID")
        self.holds()  # a wrong query is found before the replay

    def put(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add or replace VMAs: rows in the order of COLUMNS."""
        marks = ", ".join("?" * len(COLUMNS))
        self._db.executemany(f"INSERT OR REPLACE INTO vmas VALUES ({marks})", rows)

    def drop(self, keys: Iterable[tuple[int, int]]) -> None:
        """Remove VMAs by (mm, vm_start)."""
        self._db.executemany("DELETE FROM vmas WHERE mm=? AND vm_start=?", keys)

    def drop_space(self, mm: int) -> None:
        """Remove an address space that has ended."""
        self._db.execute("DELETE FROM vmas WHERE mm=?", (mm,))

    def clear(self) -> None:
        self._db.execute("DELETE FROM vmas")

    def holds(self) -> bool:
        """Whether the first column of the query's first row is neither NULL, 0 nor ''."""
        self._db.set_authorizer(authorize if self.read else self._note)
        try:
            cursor = self._db.execute(self.query)
            if cursor.description is None:
                raise StoreError("--sql: the statement gives no rows", hint=_HINT)
            row = cursor.fetchone()
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise StoreError(f"--sql: {error}", hint=_HINT) from None
        finally:
            self._db.set_authorizer(None)
        return row is not None and bool(row[0])

    def _note(self, action: int, one: str | None, two: str | None, *more: Any) -> int:
        """authorize(), and which columns are asked for: once, when the query is tried."""
        if action == sqlite3.SQLITE_READ and two:
            self.read.add(two)
        return authorize(action, one, two, *more)


_HINT = "one SELECT over vmas, as in SELECT count(*) > 100 FROM vmas WHERE perms LIKE 'rw%'"
