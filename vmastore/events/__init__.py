"""Typed events, their codec, versions and upcasters."""

from vmastore.events.types import CALLS, Event, FileInfo, ObservedVma, TraceHeader

__all__ = ["CALLS", "Event", "FileInfo", "ObservedVma", "TraceHeader"]
