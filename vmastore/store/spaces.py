"""Which address spaces a trace has: derived from its fork, exec, exit and maps events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection

from vmastore.events.types import Event
from vmastore.store.engine import run

_FORKS = {"fork", "clone", "clone3", "vfork"}
_EXECS = {"execve", "execveat"}
LIFE = _FORKS | _EXECS | {"exit"}  # the calls that begin or end an address space
_COLUMNS = "pid,parent_mm,origin,born_seq,died_seq,events"
_FIND = f"SELECT {_COLUMNS} FROM address_space_t WHERE trace=? AND mm=?"
_WRITE = (
    f"INSERT INTO address_space_t (trace,mm,{_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)"
    " ON CONFLICT (trace, mm) DO UPDATE SET pid=excluded.pid, parent_mm=excluded.parent_mm,"
    " origin=excluded.origin, born_seq=excluded.born_seq, died_seq=excluded.died_seq, events=excluded.events"
)
_PID, _ORIGIN, _DIED = 0, 2, 4  # positions in _COLUMNS


class AddressSpaces:
    """Folds events into the address spaces of a trace, from what is stored of them or from nothing.

    The result is the same however the events are cut into batches, so that `db check` can fold them again.
    """

    def __init__(self, connection: Connection | None = None, trace: int = 0) -> None:
        self.born: dict[int, list[Any]] = {}  # those seen: address space → _COLUMNS
        self._connection = connection
        self._trace = trace
        self._events: Counter[int] = Counter()

    def note(self, event: Event) -> None:
        """Take one event in. One whose mm is in `born` already and whose call is not in LIFE says nothing."""
        seq, mm, pid, call, args = event.seq, event.mm, event.pid, event.call, event.args
        own = self._get(mm)
        if mm and own is None:
            own = self._birth(mm, pid, None, "attach", seq)
        if call in _FORKS and not event.errno and len(args) > 1 and args[1] and args[1] != mm:
            self._birth(args[1], event.result or 0, mm, "fork", seq)
        elif call in _EXECS and not event.errno and len(args) > 2 and args[2]:
            self._birth(args[2], pid, mm or None, "exec", seq)
            if own is not None and args[2] != mm and own[_PID] == pid and own[_DIED] is None:  # not another's (vfork)
                own[_DIED] = seq
        elif call == "exit" and len(args) > 2 and args[2] and own is not None:
            own[_DIED] = seq

    def _get(self, mm: int) -> list[Any] | None:
        found = self.born.get(mm)
        if found is None and mm and self._connection is not None:
            row = run(self._connection, _FIND, (self._trace, mm)).fetchone()
            if row is not None:
                found = self.born[mm] = list(row)
        return found

    def _birth(self, mm: int, pid: int, parent: int | None, origin: str, seq: int) -> list[Any]:
        """A new address space; one that was only met before (its own events came first) gets its true birth."""
        found = self._get(mm)
        if found is None:
            found = self.born[mm] = [pid, parent, origin, seq, None, 0]
        elif found[_ORIGIN] == "attach":
            found[:_DIED] = [pid, parent, origin, seq]
        return found

    def count(self, events: Sequence[Sequence[Any]]) -> None:
        """Count the events of each address space (the second field of an event)."""
        self._events.update(map(itemgetter(1), events))

    def rows(self) -> list[tuple[Any, ...]]:
        """(mm, pid, parent_mm, origin, born_seq, died_seq, events) of those seen."""
        return [(mm, *facts[:-1], facts[-1] + self._events[mm]) for mm, facts in self.born.items()]

    def write(self) -> None:
        """Store them."""
        rows = [(self._trace, *row) for row in self.rows()]
        if rows and self._connection is not None:
            run(self._connection, _WRITE, rows)


def remake(connection: Connection, trace: int, events: Iterable[Event]) -> None:
    """Replace what is stored of a trace's address spaces by what all its events make them."""
    connection.exec_driver_sql("DELETE FROM address_space_t WHERE trace=?", (trace,))
    spaces = AddressSpaces(connection, trace)
    for event in events:
        if event.mm not in spaces.born or event.call in LIFE:
            spaces.note(event)
        spaces.count([event])
    spaces.write()
