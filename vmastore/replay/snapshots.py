"""Snapshots: states of a replay kept in the store, so that any point in time is near to one.

They are derived data. Each is bound by its hash to the events before it, to what the trace says
besides, to the rule set, the options and the engine; one that does not fit is never used.
"""

from __future__ import annotations

import json
import logging
import zlib
from hashlib import blake2b
from typing import TYPE_CHECKING

from vmastore.events import FileInfo, TraceHeader
from vmastore.mm.rules import RuleSet
from vmastore.replay.state import decode, encode
from vmastore.replay.world import World
from vmastore.store.snapshots import SnapshotRow, event_hash, find_replay, nearest, replace
from vmastore.version import engine

if TYPE_CHECKING:
    from vmastore.replay.trace import StoredTrace

LEAST = 2000  # events between two snapshots, at least
VMAS_AN_EVENT = 16  # loading a snapshot costs as much for so many VMAs as replaying one event
_LEVEL = 1  # of zlib: more gains little and costs much
log = logging.getLogger("vmastore")


def options_key(faults: str, max_map_count: int | None) -> str:
    """The options of a replay as the store keeps them."""
    return json.dumps({"faults": faults, "max_map_count": max_map_count}, sort_keys=True)


def basis_of(header: TraceHeader, files: dict[int, FileInfo]) -> str:
    """A digest of what a replay is made from besides the events."""
    text = json.dumps([header.format, header.config, header.faults, sorted(files.values())], sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


class Spacing:
    """When the next snapshot is due: when replaying from the last one costs as much as loading one."""

    def __init__(self, least: int = LEAST, vmas_an_event: int = VMAS_AN_EVENT) -> None:
        self.least = least
        self.vmas_an_event = vmas_an_event
        self.last = 0
        self.look_at = least  # nothing to do before this event

    def due(self, seq: int, world: World) -> bool:
        """Whether to take one after event `seq`; call it where seq >= look_at."""
        gap = max(self.least, sum(mm.map_count for mm in world.mms.values()) // self.vmas_an_event)
        if seq - self.last < gap:
            self.look_at = self.last + gap
            return False
        self.last = seq
        self.look_at = seq + gap
        return True


class Snapshots:
    """The snapshots of one replay of a trace, or their absence."""

    def __init__(self, trace: StoredTrace, rules: RuleSet, options: str) -> None:
        self.store = trace.store
        self.trace = trace.info.trace
        self.basis = trace.basis
        self.kernel = rules.name
        self.options = options
        found = find_replay(self.store, self.trace, rules.name, options)
        fresh = found is not None and found.engine == engine() and found.basis == self.basis
        self.replay = found.replay if found is not None and fresh else None
        self.broken: list[int] = []  # events of unsound snapshots that `load` met

    def take(self, seq: int, head: bytes, world: World) -> SnapshotRow:
        """The snapshot of `world` after event `seq`, whose chain hash is `head`."""
        raw = encode(world)
        return SnapshotRow(seq, self._digest(seq, head, raw), zlib.compress(raw, _LEVEL))

    def _digest(self, seq: int, head: bytes, raw: bytes) -> bytes:
        """What binds a state to the events up to `seq`, the last of which has `head` for its chain hash."""
        digest = blake2b(digest_size=16)
        for part in (self.kernel, self.options, engine(), self.basis, str(seq)):
            digest.update(part.encode() + b"\0")
        digest.update(head)
        digest.update(raw)
        return digest.digest()

    def load(self, seq: int, world: World) -> int:
        """Put the last sound snapshot at or before event `seq` into a fresh world. Returns its event (0: none).

        One that is not sound is passed over with a message; `mend` makes it again.
        """
        while self.replay is not None and seq > 0:
            found = nearest(self.store, self.trace, self.replay, seq)
            if found is None:
                return 0
            row, head = found
            raw = self._checked(row, head)
            if raw is not None:
                decode(raw, world)
                return row.seq
            log.warning(
                "the snapshot after event %d of trace %d does not have its hash: it is made again",
                row.seq,
                self.trace,
            )
            self.broken.append(row.seq)
            seq = row.seq - 1
        return 0

    def _checked(self, row: SnapshotRow, head: bytes) -> bytes | None:
        try:
            raw = zlib.decompress(row.payload)
        except zlib.error:
            return None
        return raw if self._digest(row.seq, head, raw) == row.digest else None

    def mend(self, seq: int, world: World) -> None:
        """Make the snapshot after event `seq` again, if the store can be written."""
        if self.replay is None:
            return
        made = self.take(seq, event_hash(self.store, self.trace, seq), world)
        if not replace(self.store, self.replay, made):
            log.warning("the store cannot be written: the snapshot after event %d stays unsound", seq)
