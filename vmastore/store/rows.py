"""From a batch of events to rows: numbers for names, the hash chain, observed maps set apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from vmastore.errors import ConcurrencyError
from vmastore.events.codec import clean, digest, encode_args, link, pack_maps, to_signed
from vmastore.events.types import CALLS, Event
from vmastore.events.upcasters import STEPS, chained_name, version_of
from vmastore.store.spaces import LIFE, AddressSpaces

COLUMNS = "mm,pid,tid,ts_ns,call,args,result,errno,file,injected,site,source_line,source_offset"
_I63 = (1 << 63) - 1


class Names:
    """The numbers of the strings that events share: calls and call sites."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.sites: dict[str, int] = {}

    def call(self, connection: Connection, name: str) -> int:
        """The number of a call in today's version of its arguments, given at first sight."""
        key = (name, version_of(name))
        row = connection.exec_driver_sql("SELECT call FROM call_t WHERE name=? AND version=?", key).fetchone()
        if row is None:
            connection.exec_driver_sql(
                "INSERT INTO call_t (name, version, arg_names) VALUES (?,?,?) ON CONFLICT DO NOTHING",
                (*key, json.dumps(CALLS.get(name, ()))),
            )
            return self.call(connection, name)
        self.calls[name] = row[0]
        return int(row[0])

    def site(self, connection: Connection, text: str) -> int:
        """The number of a call site, given at first sight."""
        row = connection.exec_driver_sql("SELECT site FROM site_t WHERE text=?", (text,)).fetchone()
        if row is None:
            connection.exec_driver_sql("INSERT INTO site_t (text) VALUES (?) ON CONFLICT DO NOTHING", (text,))
            return self.site(connection, text)
        self.sites[text] = row[0]
        return int(row[0])


def event_rows(
    connection: Connection,
    names: Names,
    trace: int,
    version: int,
    previous: bytes,
    events: Sequence[Event],
    spaces: AddressSpaces,
) -> tuple[list[tuple[Any, ...]], list[tuple[int, int, bytes]]]:
    """(rows, payloads of observed maps) of events that follow on event `version` with its hash.

    A row is (trace, seq, COLUMNS, hash). What the events say of address spaces goes to `spaces`.
    Raises ConcurrencyError at a gap. One loop without helpers: it runs once for every event.
    """
    rows: list[tuple[Any, ...]] = []
    observed: list[tuple[int, int, bytes]] = []
    calls, sites, born = names.calls, names.sites, spaces.born
    whose: dict[int, tuple[int, int, str]] = {}  # by tid: mm, pid and the text of all three
    for event in events:
        seq, mm, pid, tid, ts_ns, call, given, result, errno, file, injected, site, line, offset = event
        version += 1
        if seq != version:
            raise ConcurrencyError(f"trace {trace}: event {seq} does not follow on {version - 1}")
        if call == "maps":
            args, payload = pack_maps(given)
            observed.append((trace, seq, payload))
        else:
            args = encode_args(given)
        if result is not None and result > _I63:
            result = to_signed(result)
        number = calls.get(call) or names.call(connection, call)
        hashed = call if call not in STEPS else chained_name(call, version_of(call))
        place, faked = None, 1 if injected else 0
        if site is None and file is None and not errno and not faked:  # the text that `link` hashes, in short
            known = whose.get(tid)
            if known is None or known[0] != mm or known[1] != pid:
                known = whose[tid] = (mm, pid, f"\x1f{mm}\x1f{pid}\x1f{tid}\x1f")
            tail = f"{result}\x1f0\x1fNone\x1f0\x1f\x1f{line}\x1f{offset}"
            previous = digest(previous, f"{seq}{known[2]}{ts_ns}\x1f{hashed}\x1f{args}\x1f{tail}")
        else:
            if site is not None:
                site = clean(site)
                place = sites.get(site) or names.site(connection, site)
            previous = link(
                previous, seq, mm, pid, tid, ts_ns, hashed, args, result, errno, file, faked, site, line, offset
            )  # fmt: skip
        rows.append(
            (trace, seq, mm, pid, tid, ts_ns, number, args, result, errno, file, faked, place, line, offset, previous)
        )
        if mm not in born or call in LIFE:
            spaces.note(event)
    return rows, observed
