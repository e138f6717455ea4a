"""From a batch of events to rows: numbers for names, the hash chain, observed maps set apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from vmastore.errors import ConcurrencyError
from vmastore.events.codec import NUMBERS, blank, clean, encode_args, link, pack_maps, to_signed
from vmastore.events.types import CALLS, Event
from vmastore.events.upcasters import chained_name, version_of
from vmastore.store.spaces import LIFE, AddressSpaces

COLUMNS = "mm,pid,tid,ts_ns,call,args,result,errno,file,injected,site,source_line,source_offset"
_I63 = (1 << 63) - 1
_PLAIN = "%s%s%s\x1f%s\x1f%s\x1f%s\x1f0\x1fNone\x1f0\x1f\x1f%s\x1f%s"  # % is faster than an f-string here


class Names:
    """The numbers of the strings that events share: calls and call sites."""

    def __init__(self) -> None:
        # by name: the number, the name as hashed, whether the event says something of address spaces or is observed
        self.calls: dict[str, tuple[int, str, bool]] = {}
        self.sites: dict[str, int] = {}

    def call(self, connection: Connection, name: str) -> tuple[int, str, bool]:
        """What is known of a call in today's version of its arguments; it gets its number at first sight."""
        key = (name, version_of(name))
        row = connection.exec_driver_sql("SELECT call FROM call_t WHERE name=? AND version=?", key).fetchone()
        if row is None:
            connection.exec_driver_sql(
                "INSERT INTO call_t (name, version, arg_names) VALUES (?,?,?) ON CONFLICT DO NOTHING",
                (*key, json.dumps(CALLS.get(name, ()))),
            )
            return self.call(connection, name)
        found = self.calls[name] = (row[0], chained_name(*key), name in LIFE or name == "maps")
        return found

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

    Rows are of the shapes of `insert_events`, their last value is the hash. What the events say of address
    spaces goes to `spaces`.
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
        number, hashed, special = calls.get(call) or names.call(connection, call)
        form = NUMBERS.get((*map(type, given),))
        if form is not None and not special:
            args = form % given
        elif call != "maps":
            args = encode_args(given)
        else:
            args, payload = pack_maps(given)
            observed.append((trace, seq, payload))
        if result is not None and result > _I63:
            result = to_signed(result)
        if site is None and file is None and not errno and not injected:  # the text that `link` hashes, in short
            known = whose.get(tid)
            if known is None or known[0] != mm or known[1] != pid:
                known = whose[tid] = (mm, pid, f"\x1f{mm}\x1f{pid}\x1f{tid}\x1f")
                special = special or mm not in born
            text = _PLAIN % (seq, known[2], ts_ns, hashed, args, result, line, offset)
            state = blank()  # `digest`, without a call
            state.update(previous + text.encode("utf-8", "surrogatepass"))
            previous = state.digest()
            rows.append((seq, mm, pid, tid, ts_ns, number, args, result, line, offset, previous))
        else:
            place, faked = None, 1 if injected else 0
            if site is not None:
                site = clean(site)
                place = sites.get(site) or names.site(connection, site)
            previous = link(
                previous, seq, mm, pid, tid, ts_ns, hashed, args, result, errno, file, faked, site, line, offset
            )  # fmt: skip
            special = special or mm not in born
            rows.append(
                (seq, mm, pid, tid, ts_ns, number, args, result, errno, file, faked, place, line, offset, previous)
            )
        if special:
            spaces.note(event)
    return rows, observed
