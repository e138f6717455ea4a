"""Event-sourced engine for Linux VMAs: record, replay, verify and bisect an address space.

The names of ``__all__`` are the public API; each is imported when it is first used, so that
``import vmastore`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vmastore.version import VERSION as __version__

if TYPE_CHECKING:
    from vmastore.api import Database, Result, Trace, connect
    from vmastore.errors import VmastoreError
    from vmastore.events import Event, FileInfo, ObservedVma, TraceHeader
    from vmastore.importers.detect import open_traces
    from vmastore.mm.rules import RuleSet, preset, resolve
    from vmastore.replay.trace import StoredTrace
    from vmastore.replay.world import Outcome, World
    from vmastore.store import Store, TraceInfo, open_store, query

_HOMES = {
    "Database": "vmastore.api",
    "Result": "vmastore.api",
    "Trace": "vmastore.api",
    "connect": "vmastore.api",
    "VmastoreError": "vmastore.errors",
    "Event": "vmastore.events",
    "FileInfo": "vmastore.events",
    "ObservedVma": "vmastore.events",
    "TraceHeader": "vmastore.events",
    "open_traces": "vmastore.importers.detect",
    "RuleSet": "vmastore.mm.rules",
    "preset": "vmastore.mm.rules",
    "resolve": "vmastore.mm.rules",
    "StoredTrace": "vmastore.replay.trace",
    "Outcome": "vmastore.replay.world",
    "World": "vmastore.replay.world",
    "Store": "vmastore.store",
    "TraceInfo": "vmastore.store",
    "open_store": "vmastore.store",
    "query": "vmastore.store",
}

__all__ = [
    "Database",
    "Event",
    "FileInfo",
    "ObservedVma",
    "Outcome",
    "Result",
    "RuleSet",
    "Store",
    "StoredTrace",
    "Trace",
    "TraceHeader",
    "TraceInfo",
    "VmastoreError",
    "World",
    "__version__",
    "connect",
    "open_store",
    "open_traces",
    "preset",
    "query",
    "resolve",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives, once. Raises AttributeError."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vmastore' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
