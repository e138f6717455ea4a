"""Saved queries: the store's own, by name, before the shipped ones."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vmastore.errors import StoreError
from vmastore.store.library import LIBRARY, Query
from vmastore.store.readable import Readable
from vmastore.store.sql import check

if TYPE_CHECKING:
    from vmastore.store.store import Store

_NAME = re.compile(r"[A-Za-z_][\w.-]*")


def is_name(text: str) -> bool:
    """Whether a text may be the name of a saved query; a SELECT has a space or more in it."""
    return _NAME.fullmatch(text) is not None


def save(store: Store, name: str, sql: str) -> None:
    """Keep a query under a name, in place of the store's older one. Raises StoreError, for wrong SQL too."""
    if not is_name(name):
        raise StoreError(f"{name!r} cannot be a query's name", hint="letters, digits, - _ and .")
    check(store, sql)
    with store._write() as connection:
        connection.exec_driver_sql("DELETE FROM query_t WHERE name=?", (name,))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        connection.exec_driver_sql("INSERT INTO query_t VALUES (?,?,?)", (name, sql, now))


def forget(store: Store, name: str) -> None:
    """Drop a query of the store's own. Raises StoreError if there is none."""
    with store._write() as connection:
        if not connection.exec_driver_sql("DELETE FROM query_t WHERE name=?", (name,)).rowcount:
            raise StoreError(f"the store has no query {name!r}", hint="`vmastore sql --list` lists them")


def queries(store: Readable) -> dict[str, Query]:
    """All saved queries by name: the store's own, then the shipped ones."""
    rows = store.rows("SELECT name, sql FROM query_t ORDER BY name")
    own = {name: Query("(saved in this store)", sql) for name, sql in rows}
    return own | {name: _spelled(store, query) for name, query in LIBRARY.items() if name not in own}


def _spelled(store: Readable, query: Query) -> Query:
    """A shipped query as the store's database understands it."""
    if store.dialect == "postgresql" and query.postgresql is not None:
        return query._replace(sql=query.postgresql)
    return query


def find(store: Readable, name: str) -> Query:
    """A saved query. Raises StoreError."""
    found = queries(store).get(name)
    if found is None:
        raise StoreError(f"no saved query {name!r}", hint="`vmastore sql --list` lists them")
    return found


def complete(store: Readable, query: Query, params: dict[str, object]) -> dict[str, object]:
    """The parameters of a query with its defaults; `trace` where the store has just one. Raises StoreError."""
    given = {**query.defaults, **params}
    if "trace" in query.parameters and "trace" not in given:
        names = [name for (name,) in store.rows("SELECT name FROM trace_t ORDER BY trace")]
        if len(names) != 1:
            raise StoreError("which trace? give -p trace=NAME", hint=f"the store has {len(names)}: `vmastore traces`")
        given["trace"] = names[0]
    missing = [name for name in query.parameters if name not in given]
    if missing:
        asked = ", ".join(f"-p {name}=… ({query.parameters[name]})" for name in missing)
        raise StoreError(f"the query needs {asked}")
    return given
