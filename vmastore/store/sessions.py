"""Bisection sessions in the store: one at a time, with its marks, so that interrupted work goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from vmastore.store.store import Store


class Session(NamedTuple):
    """A bisection that was begun.

    kernel: name of the rule set; options: faults, max_map_count; last: the last state of the
    address space `mm` that may be asked about; old, new: the terms for the two states.
    """

    bisect: int
    trace: int
    kernel: str
    options: dict[str, Any]
    mm: int
    last: int
    old: str
    new: str


StoredMark = tuple[str, int, int, str]  # verdict (old, new, skip), first, last, source (user, run)


class Sessions:
    """The session of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def current(self) -> Session | None:
        """The session that is going on."""
        with self.store._read() as connection:
            row = connection.exec_driver_sql(
                "SELECT bisect,trace,kernel,options,mm,last,term_old,term_new FROM bisect_t"
            ).fetchone()
        return None if row is None else Session(row[0], row[1], row[2], json.loads(row[3]), *row[4:])

    def start(
        self, trace: int, kernel: str, options: dict[str, Any], mm: int, last: int, terms: tuple[str, str]
    ) -> Session:
        """Begin a session; one that is going on is forgotten."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self.store._write() as connection:
            _forget(connection)
            connection.exec_driver_sql(
                "INSERT INTO bisect_t (trace,kernel,options,mm,last,term_old,term_new,started_at)"
                " VALUES (?,?,?,?,?,?,?,?)",
                (trace, kernel, json.dumps(options, sort_keys=True), mm, last, *terms, now),
            )
        session = self.current()
        assert session is not None
        return session

    def set_terms(self, session: Session, terms: tuple[str, str]) -> Session:
        """Name the two states otherwise."""
        with self.store._write() as connection:
            connection.exec_driver_sql(
                "UPDATE bisect_t SET term_old=?, term_new=? WHERE bisect=?", (*terms, session.bisect)
            )
        return session._replace(old=terms[0], new=terms[1])

    def marks(self, session: Session) -> list[StoredMark]:
        """What was said so far, in order."""
        with self.store._read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT verdict,low,high,source FROM bisect_mark_t WHERE bisect=? ORDER BY n", (session.bisect,)
            ).fetchall()
        return [(r[0], r[1], r[2], r[3]) for r in rows]

    def mark(self, session: Session, marks: list[StoredMark]) -> None:
        """Add marks."""
        with self.store._write() as connection:
            have = connection.exec_driver_sql(
                "SELECT coalesce(max(n), 0) FROM bisect_mark_t WHERE bisect=?", (session.bisect,)
            ).scalar_one()
            rows = [(session.bisect, have + n, *mark) for n, mark in enumerate(marks, 1)]
            if rows:
                connection.exec_driver_sql("INSERT INTO bisect_mark_t VALUES (?,?,?,?,?,?)", rows)

    def reset(self) -> None:
        """Forget the session."""
        with self.store._write() as connection:
            _forget(connection)


def _forget(connection: Any) -> None:
    connection.exec_driver_sql("DELETE FROM bisect_mark_t")
    connection.exec_driver_sql("DELETE FROM bisect_t")
