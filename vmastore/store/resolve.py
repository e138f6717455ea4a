"""From what a query calls a trace to its number, its replay, its events: SQL functions with errors in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from vmastore.errors import StoreError
from vmastore.store.readable import Readable
from vmastore.version import engine


class Resolver:
    """trace_of, replay_of, seq_of and peak_of on a connection; asks the store through a connection of its own."""

    def __init__(self, open_own: Callable[[], sqlite3.Connection]) -> None:
        self._open = open_own
        self._own: sqlite3.Connection | None = None
        self._known: dict[tuple[Any, ...], int] = {}
        self.error: StoreError | None = None  # of the last call that failed

    def register(self, connection: sqlite3.Connection) -> None:
        """Add the functions to a connection."""
        for name, count, function in (
            ("trace_of", 1, self.trace),
            ("replay_of", 1, self.replay),
            ("replay_of", 2, self.replay),
            ("seq_of", 2, self.seq),
            ("peak_of", 1, self.peak),
        ):
            connection.create_function(name, count, self._guarded(name, function), deterministic=True)

    def _guarded(self, name: str, function: Callable[..., int]) -> Callable[..., int]:
        def call(*values: Any) -> int:
            key = (name, *values)
            try:
                if key not in self._known:
                    self._known[key] = function(*values)
            except StoreError as error:
                self.error = error
                raise
            return self._known[key]

        return call

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        if self._own is None:
            self._own = self._open()
        return self._own.execute(sql, values).fetchall()

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    def trace(self, name: Any) -> int:
        """The number of a trace. Raises StoreError."""
        rows = self._rows("SELECT trace FROM trace_t WHERE name = ?", str(name))
        if not rows and str(name).isdigit():
            rows = self._rows("SELECT trace FROM trace_t WHERE trace = ?", int(name))
        if not rows:
            raise StoreError(f"no trace {str(name)!r}", hint="`vmastore traces` lists them")
        return int(rows[0][0])

    def seq(self, name: Any, seq: Any) -> int:
        """The number of an event, which may count from the end. Raises StoreError."""
        trace = self.trace(name)
        last = int(self._rows("SELECT head_seq FROM trace_t WHERE trace = ?", trace)[0][0])
        found = seq + last + 1 if isinstance(seq, int) and seq < 0 else seq
        if not isinstance(found, int) or not 0 <= found <= last:
            raise StoreError(f"trace {name!r} has events 1 to {last}, no event {seq!r}")
        return found

    def peak(self, name: Any) -> int:
        """The event after which there were most VMAs in one address space, by `replay`. Raises StoreError."""
        replay = self.replay(name)
        return int(self._rows("SELECT coalesce(peak_seq, 0) FROM replay_t WHERE replay = ?", replay)[0][0])

    def replay(self, name: Any, kernel: Any = None) -> int:
        """The newest stored replay of a trace that is not stale. Raises StoreError."""
        trace = self.trace(name)
        rows = self._rows(
            "SELECT r.replay, r.kernel, r.engine, r.events, t.head_seq FROM replay_t r JOIN trace_t t USING (trace)"
            " WHERE trace = ? AND (? IS NULL OR r.kernel = ?) ORDER BY r.replay DESC",
            trace, kernel, kernel,
        )  # fmt: skip
        for replay, _, made_by, events, head in rows:
            if made_by == engine() and events == head:
                return int(replay)
        under = "" if kernel is None else f" under {kernel}"
        hint = (
            f"`vmastore replay {name}" + ("" if kernel is None else f" --kernel {kernel}") + " --summary` stores one"
        )
        if not rows:
            raise StoreError(f"no replay of {name!r}{under} is stored", hint=hint)
        raise StoreError(f"the replay of {name!r}{under} is stale: {stale_reason(*rows[0][2:])}", hint=hint)


def stale_reason(made_by: str, events: int, head: int) -> str | None:
    """Why derived data is not to be used, or None. events: folded; head: in the trace."""
    if made_by != engine():
        return f"vmastore {made_by} made it, this is {engine()}"
    return None if events == head else f"it covers {events} of {head} events"


def stale(store: Readable) -> list[tuple[str, str, str]]:
    """(trace, rule set, why) of every stored replay that is not to be used."""
    rows = store.rows(
        "SELECT t.name, r.kernel, r.engine, r.events, t.head_seq FROM replay_t r"
        " JOIN trace_t t ON t.trace = r.trace ORDER BY r.replay"
    )
    found = ((row[0], row[1], stale_reason(*row[2:])) for row in rows)
    return [(trace, kernel, why) for trace, kernel, why in found if why is not None]
