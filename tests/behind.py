"""Statements behind a store's back: past its triggers and foreign keys, as somebody who owns the database could."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from vmastore.store.engine import to_url


class Behind:
    """A connection on which each statement, written for SQLite, is a transaction of its own."""

    def __init__(self, place: str) -> None:
        self.raw: Any
        self._server = "://" in place
        if self._server:
            import psycopg

            url = to_url(place).set(drivername="postgresql").render_as_string(hide_password=False)
            self.raw = psycopg.connect(url, autocommit=True)
            # no triggers, those of foreign keys included
            self.raw.execute("SET session_replication_role = replica")
            self.refusals: tuple[type[Exception], ...] = (psycopg.IntegrityError, psycopg.DataError)
        else:
            self.raw = sqlite3.connect(place, isolation_level=None)
            for verb in ("update", "delete"):
                self.raw.execute(f"DROP TRIGGER IF EXISTS event_t_no_{verb}")
            self.refusals = (sqlite3.IntegrityError,)

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    def run(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The cursor of a statement; `refusals` are what the database itself does not take."""
        if self._server:
            sql = re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'::bytea", sql.replace("%", "%%"))
            sql = sql.replace("IS ?", "IS NOT DISTINCT FROM %s").replace("?", "%s")
        return self.raw.execute(sql, values)


def behind(place: str, *statements: str) -> int:
    """Run statements. Returns the rows that the last one changed."""
    with Behind(place) as found:
        for sql in statements:
            done = found.run(sql)
        return int(done.rowcount)


def ask(place: str, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query on the private tables."""
    with Behind(place) as found:
        rows: list[tuple[Any, ...]] = found.run(sql).fetchall()
        return rows
