"""Which address spaces a trace has: derived from its fork, exec, exit and maps events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

from sqlalchemy import Connection

from vmastore.events.types import Event

_FORKS = {"fork", "clone", "clone3", "vfork"}
_EXECS = {"execve", "execveat"}
LIFE = _FORKS | _EXECS | {"exit"}  # the calls that begin or end an address space


class AddressSpaces:
    """Collects what a batch of events says of address spaces, then writes it."""

    def __init__(self) -> None:
        self.born: dict[int, tuple[int, int | None, str, int]] = {}
        self._died: dict[int, int] = {}
        self._events: Counter[int] = Counter()
        self._left: dict[int, tuple[int, int]] = {}  # by exec: (event, process); another's (vfork) stays

    def note(self, event: Event) -> None:
        """Take one event in. One whose mm is in `born` already and whose call is not in LIFE says nothing."""
        if event.mm and event.mm not in self.born:
            self.born[event.mm] = (event.pid, None, "attach", event.seq)
        args = event.args
        if event.call in _FORKS and not event.errno and len(args) > 1 and args[1] and args[1] != event.mm:
            self.born[args[1]] = (event.result or 0, event.mm, "fork", event.seq)
        elif event.call in _EXECS and not event.errno and len(args) > 2 and args[2]:
            self.born[args[2]] = (event.pid, event.mm or None, "exec", event.seq)
            self._left.setdefault(event.mm, (event.seq, event.pid))
        elif event.call == "exit" and len(args) > 2 and args[2]:
            self._died[event.mm] = event.seq

    def count(self, events: Sequence[Event]) -> None:
        """Count the events of each address space."""
        self._events.update(map(itemgetter(1), events))

    def write(self, connection: Connection, trace: int) -> None:
        """Store what is new; an address space that is known keeps its birth."""
        born = [(trace, mm, *facts) for mm, facts in self.born.items()]
        if born:
            connection.exec_driver_sql(
                "INSERT INTO address_space_t (trace,mm,pid,parent_mm,origin,born_seq) VALUES (?,?,?,?,?,?)"
                " ON CONFLICT (trace, mm) DO NOTHING",
                born,
            )
        left = [(seq, trace, mm, pid) for mm, (seq, pid) in self._left.items()]
        if left:
            connection.exec_driver_sql(
                "UPDATE address_space_t SET died_seq=? WHERE trace=? AND mm=? AND pid=? AND died_seq IS NULL", left
            )
        died = [(seq, trace, mm) for mm, seq in self._died.items()]
        if died:
            connection.exec_driver_sql("UPDATE address_space_t SET died_seq=? WHERE trace=? AND mm=?", died)
        counts = [(n, trace, mm) for mm, n in self._events.items()]
        if counts:
            connection.exec_driver_sql("UPDATE address_space_t SET events=events+? WHERE trace=? AND mm=?", counts)
