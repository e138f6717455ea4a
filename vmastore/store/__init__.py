"""The event store: the only layer that knows SQL.

Each of these names is imported when it is first used: a query alone needs no SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmastore.store.readable import open_readable
    from vmastore.store.sql import query
    from vmastore.store.store import Store, TraceInfo, open_store

_HOMES = {
    "Store": "store",
    "TraceInfo": "store",
    "open_readable": "readable",
    "open_store": "store",
    "query": "sql",
}

__all__ = ["Store", "TraceInfo", "open_readable", "open_store", "query"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
