"""Is a store sound? The hash chain, gaps, what the events imply, foreign keys, SQLite's own integrity."""

from __future__ import annotations

import json
import zlib
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from vmastore.events.codec import GENESIS, chain, decode_args, unpack_maps, whole_maps
from vmastore.events.types import Event
from vmastore.events.upcasters import chained_name
from vmastore.store.rows import PLAIN
from vmastore.store.schema import metadata
from vmastore.store.seals import broken, broken_calls
from vmastore.store.spaces import LIFE, AddressSpaces
from vmastore.store.store import Store

_EVENTS = f"SELECT seq,hash,{PLAIN} FROM event_t WHERE trace=? ORDER BY seq"


def check_store(store: Store) -> tuple[list[str], int]:
    """(problems, each naming the first bad event of its kind; events checked).

    Reads every event once. Damage that SQLite itself cannot read past is a problem too, not an error.
    """
    problems: list[str] = []
    events = 0
    with store._read() as connection:
        if store.engine.dialect.name == "sqlite":
            raw: Any = connection.connection.driver_connection
            raw.text_factory = _any_text
            try:
                problems += _sqlite(connection)
                events = _traces(connection, problems)
            finally:
                raw.text_factory = str
        else:
            problems += _foreign_keys(connection)
            events = _traces(connection, problems)
    return problems, events


def _foreign_keys(connection: Connection) -> list[str]:
    """Rows that point to missing ones: a server checks its constraints when rows change, and only then."""
    found = []
    for table in metadata.sorted_tables:
        for constraint in table.foreign_key_constraints:
            (key,) = constraint.elements
            child, parent = key.parent.name, key.column.table.name
            count = connection.exec_driver_sql(
                f"SELECT count(*) FROM {table.name} c WHERE c.{child} IS NOT NULL"
                f" AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE p.{key.column.name} = c.{child})"
            ).scalar_one()
            if count:
                found.append(f"foreign key: {table.name} row{'s' * (count > 1)}: {count} to a missing {parent}")
    return found


def _any_text(stored: bytes) -> str:
    """Text of a damaged row too: what is no UTF-8 cannot have the hash of what was stored."""
    return stored.decode("utf-8", "surrogateescape")


def _sqlite(connection: Connection) -> list[str]:
    found = []
    try:
        found += [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            found.append(f"foreign key: {row[0]} row {row[1]} points to a missing {row[2]}")
    except SQLAlchemyError as error:
        found.append(f"the database is damaged: {getattr(error, 'orig', error)}")
    return found


def _traces(connection: Connection, problems: list[str]) -> int:
    """Check every trace. Returns the events that were read."""
    try:
        calls = connection.exec_driver_sql("SELECT call, name, version FROM call_t")
        names = {number: (name, chained_name(name, version)) for number, name, version in calls}
        sites = {row[0]: row[1] for row in connection.exec_driver_sql("SELECT site, text FROM site_t")}
        tasks = {row[0]: (row[1], row[2]) for row in connection.exec_driver_sql("SELECT task, pid, tid FROM task_t")}
        heads = connection.exec_driver_sql("SELECT trace, name, head_seq, head_hash, base_ns FROM trace_t").fetchall()
    except SQLAlchemyError as error:
        problems.append(
            f"the names of calls, call sites, threads or traces cannot be read: {getattr(error, 'orig', error)}"
        )
        return 0
    total = 0
    for trace, name, head_seq, head_hash, base in heads:
        checked = Chain(trace, base, names, sites, tasks)
        problem = checked.run(connection)
        total += checked.events
        if problem is None and checked.events != head_seq:
            problem = f"event {checked.events + 1} and what follows is missing: it should end with event {head_seq}"
        elif problem is None and (head_hash or GENESIS) != checked.last:
            problem = f"event {head_seq}: its hash is not the one that the trace ends with"
        found = [problem] if problem is not None else checked.implied(connection)
        try:
            found += broken(connection, trace)
        except SQLAlchemyError as error:
            found.append(f"its header or its files cannot be read: {getattr(error, 'orig', error)}")
        problems += [f"{name}: {text}" for text in found]
    problems += broken_calls(connection)
    return total


class Chain:
    """One trace, read from its first event: `events` that follow on each other, the `last` hash."""

    def __init__(
        self,
        trace: int,
        base: int | None,
        names: dict[int, tuple[str, str]],
        sites: dict[int, str],
        tasks: dict[int, tuple[int, int]],
    ) -> None:
        self.trace = trace
        self.base = base
        self.names = names
        self.sites = sites
        self.tasks = tasks
        self.events = 0
        self.last = GENESIS
        self.spaces = AddressSpaces()
        self._observed = 0

    def run(self, connection: Connection) -> str | None:
        """The first problem, None: the chain is whole."""
        try:
            for row in connection.exec_driver_sql(_EVENTS, (self.base, self.trace)):
                problem = self._event(connection, row[0], row[1], tuple(row[2:]))
                if problem is not None:
                    return problem
        except (SQLAlchemyError, OverflowError) as error:
            return f"event {self.events + 1} cannot be read: {getattr(error, 'orig', error)}"
        return None

    def _event(self, connection: Connection, seq: Any, stored: Any, kept: tuple[Any, ...]) -> str | None:
        if kept[1] not in self.tasks:
            return f"event {seq}: unknown thread {kept[1]}"
        row = (kept[0], *self.tasks[kept[1]], *kept[2:])
        if seq != self.events + 1:
            return f"event {self.events + 1} is missing"
        if row[4] not in self.names:
            return f"event {seq}: unknown call {row[4]}"
        call, hashed = self.names[row[4]]
        if row[10] is not None and row[10] not in self.sites:
            return f"event {seq}: unknown call site {row[10]}"
        if call == "maps":
            row = (*row[:5], whole_maps(row[5]), *row[6:])
        if chain(self.last, seq, hashed, row, self.sites.get(row[10])) != stored:
            return f"event {seq}: its hash does not follow from what is stored"
        if call == "maps":
            lines = json.loads(kept[4])[2:] != []
            self._observed += lines
            if lines and not self._payload_sound(connection, seq, row[5]):
                return f"event {seq}: the observed maps are not what was stored"
        if row[0] not in self.spaces.born or call in LIFE:
            self.spaces.note(Event(seq, row[0], row[1], row[2], None, call, decode_args(row[5]), row[6], row[7]))
        self.spaces.count([(seq, row[0])])
        self.events, self.last = seq, stored
        return None

    def _payload_sound(self, connection: Connection, seq: int, args: str) -> bool:
        payload = connection.exec_driver_sql(
            "SELECT payload FROM observed_t WHERE trace=? AND seq=?", (self.trace, seq)
        ).scalar_one_or_none()
        if payload is None:
            return False
        try:
            unpack_maps(json.loads(args), payload)
        except (ValueError, TypeError, zlib.error):
            return False
        return True

    def implied(self, connection: Connection) -> list[str]:
        """What does not follow from a whole chain: address spaces, observations without their event."""
        found = []
        observed = connection.exec_driver_sql("SELECT count(*) FROM observed_t WHERE trace=?", (self.trace,))
        if (count := observed.scalar_one()) != self._observed:
            found.append(f"{count} observed maps are stored, the events name {self._observed}")
        rows = connection.exec_driver_sql(
            "SELECT mm,pid,parent_mm,origin,born_seq,died_seq,events FROM address_space_t WHERE trace=?",
            (self.trace,),
        )
        stored = {row[0]: tuple(row) for row in rows}
        implied = {row[0]: row for row in self.spaces.rows()}
        for mm in sorted(stored.keys() | implied.keys()):
            if stored.get(mm) != implied.get(mm):
                found.append(f"address space {mm} is {stored.get(mm)}, its events make it {implied.get(mm)}")
                break
        return found
