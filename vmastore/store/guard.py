"""Connections whose database errors come out as StoreError, in a sentence that names the file."""

from __future__ import annotations

import sqlite3
from types import TracebackType

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from vmastore.errors import StoreError
from vmastore.store.engine import appender, named, reader
from vmastore.store.hints import hint_for


def explain(engine: Engine, error: Exception) -> StoreError:
    """A database error as one sentence that names the file."""
    place = named(engine)
    what = " ".join(str(getattr(error, "orig", error)).split())
    hint = hint_for(what)
    if 'FATAL: database "' in what and "does not exist" in what:
        hint = f"make it with `createdb {engine.url.database}`; the first import makes the store in it"
    return StoreError(f"{place}: {what}", hint=hint)


def unfit(error: Exception) -> str:
    """What of a row the database has no room for."""
    what = str(getattr(error, "orig", error))
    too_big = isinstance(error, OverflowError) or "out of range" in what
    return "a number does not fit 64 bits" if too_big else " ".join(what.split())


class Guarded:
    """A connection whose database errors come out as StoreError."""

    def __init__(self, engine: Engine, *, write: bool, append: bool = False) -> None:
        self.engine = engine
        self._context = (appender(engine) if append else engine).begin() if write else reader(engine).connect()

    def __enter__(self) -> Connection:
        try:
            return self._context.__enter__()
        except DatabaseError as error:
            raise explain(self.engine, error) from None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._context.__exit__(kind, value, trace)
        except DatabaseError as error:
            raise explain(self.engine, error) from None
        if isinstance(value, DatabaseError | sqlite3.Error):
            raise explain(self.engine, value) from None
