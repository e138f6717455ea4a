"""From a batch of events to rows: numbers for names, the hash chain, observed maps set apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from vmastore.errors import ConcurrencyError
from vmastore.events.brief import Given, whole
from vmastore.events.codec import NUMBERS, blank, clean, encode_args, link, pack_maps, to_signed
from vmastore.events.types import CALLS, Event
from vmastore.events.upcasters import chained_name, version_of
from vmastore.store.seals import seal
from vmastore.store.spaces import LIFE, AddressSpaces

COLUMNS = "mm,task,ts,call,args,result,errno,file,injected,site,line,source_offset"
# the same as an event has them; a parameter: the trace's base_ns
PLAIN = "mm,task,ts+?,call,args,result,errno,file,injected,site,line+seq,source_offset"
SHORT, LONG = 10, 14  # values of a row without and with errno, file, injected and site
# rows of one shape, one after another: how many values each has, the values of all
Run = tuple[int, list[Any]]
_I63 = (1 << 63) - 1
_SHORT = "%s%s%s\x1f%s\x1f%s\x1f%s\x1f0\x1fNone\x1f0\x1f\x1f%s\x1f%s"  # % is faster than an f-string here


class Names:
    """The numbers of the strings that events share: calls, call sites, threads."""

    def __init__(self) -> None:
        # by name: the number, the name as hashed, whether the event says something of address spaces or is observed
        self.calls: dict[str, tuple[int, str, bool]] = {}
        self.sites: dict[str, int] = {}
        self.tasks: dict[tuple[int, int], int] = {}

    def call(self, connection: Connection, name: str) -> tuple[int, str, bool]:
        """What is known of a call in today's version of its arguments; it gets its number at first sight."""
        key = (name, version_of(name))
        row = connection.exec_driver_sql("SELECT call FROM call_t WHERE name=? AND version=?", key).fetchone()
        if row is None:
            named = (*key, json.dumps(CALLS.get(name, ())))
            connection.exec_driver_sql(
                "INSERT INTO call_t (name, version, arg_names, hash) VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
                (*named, seal(named)),
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

    def task(self, connection: Connection, pid: int, tid: int) -> int:
        """The number of a thread of a process, given at first sight."""
        row = connection.exec_driver_sql("SELECT task FROM task_t WHERE pid=? AND tid=?", (pid, tid)).fetchone()
        if row is None:
            connection.exec_driver_sql(
                "INSERT INTO task_t (pid, tid) VALUES (?,?) ON CONFLICT DO NOTHING", (pid, tid)
            )
            return self.task(connection, pid, tid)
        self.tasks[pid, tid] = row[0]
        return int(row[0])


class Tasks(dict[int, tuple[int, int]]):
    """(pid, tid) by the number of a thread, each asked for once. Raises KeyError for a number that is not stored."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def __missing__(self, task: int) -> tuple[int, int]:
        row = self._connection.exec_driver_sql("SELECT pid, tid FROM task_t WHERE task=?", (task,)).fetchone()
        if row is None:
            raise KeyError(task)
        found = self[task] = (row[0], row[1])
        return found


def event_rows(
    connection: Connection,
    names: Names,
    trace: int,
    version: int,
    previous: bytes,
    base: int,
    events: Sequence[Given],
    spaces: AddressSpaces,
) -> tuple[list[Run], list[tuple[int, int, bytes]], bytes]:
    """(rows, payloads of observed maps, the last hash) of events that follow on event `version` with its hash.

    base: the trace's base_ns, from which times are stored as the difference.
    Rows are of the shapes of `insert_events`. What the events say of address spaces goes to `spaces`.
    Raises ConcurrencyError at a gap. One loop without helpers: it runs once for every event.
    """
    runs: list[Run] = []
    width = 0
    flat: list[Any] = []
    observed: list[tuple[int, int, bytes]] = []
    calls, sites, tasks, born = names.calls, names.sites, names.tasks, spaces.born
    result: int | None
    line: int | None
    offset: int | None
    whose: dict[int, tuple[int, int, str, int]] = {}  # by tid: mm, pid, the text of all three, the task's number
    for event in events:
        version += 1
        if event[0] != version:
            raise ConcurrencyError(f"trace {trace}: event {event[0]} does not follow on {version - 1}")
        if not isinstance(event, Event):
            seq, mm, pid, tid, ts_ns, call, first, rest, result, line, offset = event
            number, hashed, special = calls.get(call) or names.call(connection, call)
            args = shown = f"[{first}{rest.text}"
            short = True
        else:
            seq, mm, pid, tid, ts_ns, call, given, result, errno, file, injected, site, line, offset = event
            number, hashed, special = calls.get(call) or names.call(connection, call)
            short = site is None and file is None and not errno and not injected
            form = NUMBERS.get((*map(type, given),))
            if form is not None and not special:
                args = shown = form % given
            elif call != "maps":
                args = shown = encode_args(given)
            else:
                args, shown, payload = pack_maps(given)
                if payload is not None:
                    observed.append((trace, seq, payload))
            if result is not None and result > _I63:
                result = to_signed(result)
        known = whose.get(tid)
        if known is None or known[0] != mm or known[1] != pid:
            task = tasks.get((pid, tid)) or names.task(connection, pid, tid)
            known = whose[tid] = (mm, pid, f"\x1f{mm}\x1f{pid}\x1f{tid}\x1f", task)
            special = special or mm not in born
        when = None if ts_ns is None else ts_ns - base
        ahead = None if line is None else line - seq
        if short:  # the text that `link` hashes, in short
            text = _SHORT % (seq, known[2], ts_ns, hashed, args, result, line, offset)
            state = blank()  # `digest`, without a call
            state.update(previous + text.encode("utf-8", "surrogatepass"))
            previous = state.digest()
            if width != SHORT:
                width, flat = SHORT, []
                runs.append((SHORT, flat))
            flat += (seq, mm, known[3], when, number, shown, result, ahead, offset, previous)
        else:
            place, faked = None, 1 if injected else 0
            if site is not None:
                site = clean(site)
                place = sites.get(site) or names.site(connection, site)
            previous = link(
                previous, seq, mm, pid, tid, ts_ns, hashed, args, result, errno, file, faked, site, line, offset
            )  # fmt: skip
            if width != LONG:
                width, flat = LONG, []
                runs.append((LONG, flat))
            flat += (
                seq,
                mm,
                known[3],
                when,
                number,
                shown,
                result,
                errno,
                file,
                faked,
                place,
                ahead,
                offset,
                previous,
            )
        if special:
            spaces.note(*whole((event,)))
    return runs, observed, previous
