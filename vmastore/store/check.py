"""Is a store sound? The hash chain, gaps, foreign keys, SQLite's own integrity."""

from __future__ import annotations

import zlib
from typing import Any

from sqlalchemy import Connection

from vmastore.events.codec import GENESIS, chain, unpack_maps
from vmastore.events.upcasters import chained_name
from vmastore.store.store import _EVENT_COLUMNS, Store

_HEADS = "SELECT trace, name, head_seq, head_hash FROM trace_t"


def check_store(store: Store) -> tuple[list[str], int]:
    """(problems, each naming the first bad event of its kind; events checked)."""
    problems: list[str] = []
    events = 0
    with store._read() as connection:
        if store.engine.dialect.name == "sqlite":
            problems += _sqlite(connection)
        calls = connection.exec_driver_sql("SELECT call, name, version FROM call_t")
        names = {number: (name, chained_name(name, version)) for number, name, version in calls}
        sites = dict(tuple(r) for r in connection.exec_driver_sql("SELECT site, text FROM site_t"))
        for trace, name, head_seq, head_hash in connection.exec_driver_sql(_HEADS).fetchall():
            count, problem, last = _chain(connection, trace, names, sites)
            events += count
            if problem is None and (count != head_seq or (head_hash or GENESIS) != last):
                problem = f"event {count + 1} and what follows is missing: it should end with event {head_seq}"
            if problem is not None:
                problems.append(f"{name}: {problem}")
    return problems, events


def _sqlite(connection: Connection) -> list[str]:
    found = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        found.append(f"foreign key: {row[0]} row {row[1]} points to a missing {row[2]}")
    return found


def _chain(
    connection: Connection, trace: int, names: dict[int, tuple[str, str]], sites: dict[int, str]
) -> tuple[int, str | None, bytes]:
    """(events, the first problem or None, the last hash) of one trace."""
    previous, expected = GENESIS, 1
    rows = connection.exec_driver_sql(
        f"SELECT seq,hash,{_EVENT_COLUMNS} FROM event_t WHERE trace=? ORDER BY seq", (trace,)
    )
    for row in rows:
        seq, stored, rest = row[0], row[1], tuple(row[2:])
        if seq != expected:
            return expected - 1, f"event {expected} is missing", previous
        if rest[4] not in names:
            return seq, f"event {seq}: unknown call {rest[4]}", previous
        call, hashed = names[rest[4]]
        if chain(previous, seq, hashed, rest, sites.get(rest[10])) != stored:
            return seq, f"event {seq}: its hash does not follow from what is stored", previous
        if call == "maps" and not _payload_sound(connection, trace, seq, rest[5]):
            return seq, f"event {seq}: the observed maps are not what was stored", previous
        previous = stored
        expected += 1
    return expected - 1, None, previous


def _payload_sound(connection: Connection, trace: int, seq: int, args: Any) -> bool:
    import json

    payload = connection.exec_driver_sql(
        "SELECT payload FROM observed_t WHERE trace=? AND seq=?", (trace, seq)
    ).scalar_one_or_none()
    if payload is None:
        return False
    try:
        unpack_maps(json.loads(args), payload)
    except (ValueError, zlib.error):
        return False
    return True
