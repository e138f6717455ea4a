"""The event store: the only layer that knows SQL."""

from vmastore.store.sql import query
from vmastore.store.store import Store, TraceInfo, open_store

__all__ = ["Store", "TraceInfo", "open_store", "query"]
