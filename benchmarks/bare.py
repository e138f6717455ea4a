"""The baselines: the least that could do the same job."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterable

from sortedcontainers import SortedDict

from benchmarks.stream import Call

_COLUMNS = "seq INTEGER PRIMARY KEY, mm, pid, tid, ts, call, a0, a1, a2, a3, a4, a5, result, errno, line"
_TABLE = f"CREATE TABLE event ({_COLUMNS})"
_INSERT = f"INSERT INTO event VALUES ({','.join('?' * 15)})"


_PADDING: list[list[None]] = [[None] * (6 - n) for n in range(7)]


class _Numbers(dict[bytes, int]):
    """Numbers by their text, remembered; words (flags) get a number of their own."""

    def __missing__(self, text: bytes) -> int:
        try:
            found = int(text, 0)
        except ValueError:
            found = hash(text) & 0xFFFF
        if len(self) < 100_000:
            self[text] = found
        return found


def bare_import(path: str, database: str, skip: int = 0) -> int:
    """Hand-split lines into integers and insert them: no index, no hash, no checks. Returns the events.

    skip: lines at the log's head that are no memory calls (exec, clone).
    """
    waiting: dict[bytes, bytes] = {}
    numbers = _Numbers()
    number = numbers.__getitem__

    def rows() -> Iterable[tuple[object, ...]]:
        seq = 0
        with open(path, "rb") as stream:
            for line_number, line in enumerate(stream, 1):
                if line_number <= skip:
                    continue
                tid, _, body = line.rstrip(b"\n").partition(b"  ")
                if body.endswith(b" <unfinished ...>"):
                    waiting[tid] = body[:-17]
                    continue
                if body.startswith(b"<... "):
                    body = waiting.pop(tid, b"") + body.partition(b" resumed>")[2]
                name, _, rest = body.partition(b"(")
                asked, _, answered = rest.rpartition(b") = ")
                args = [number(a) for a in asked.split(b", ")]
                args += _PADDING[len(args)]
                seq += 1
                yield (seq, 1, 7000, number(tid), None, name, *args, number(answered), 0, line_number)

    gc.disable()
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(_TABLE)
    with connection:
        connection.executemany(_INSERT, rows())
    (count,) = connection.execute("SELECT count(*) FROM event").fetchone()
    connection.close()
    gc.enable()
    return int(count)


def bare_engine(calls: Iterable[Call]) -> int:
    """Split and merge on a SortedDict of start -> (end, flags): no rules, no reasons. Returns the VMAs."""
    vmas: SortedDict = SortedDict()

    def cut(at: int) -> None:
        index = vmas.bisect_right(at) - 1
        if index >= 0:
            start, (end, flags) = vmas.peekitem(index)
            if start < at < end:
                vmas[start] = (at, flags)
                vmas[at] = (end, flags)

    def set_range(start: int, end: int, flags: int) -> None:
        cut(start)
        cut(end)
        for key in list(vmas.irange(start, end, (True, False))):
            del vmas[key]
        index = vmas.bisect_left(start)
        if index > 0:
            before, (limit, kept) = vmas.peekitem(index - 1)
            if limit == start and kept == flags:
                del vmas[before]
                start = before
        after = vmas.get(end)
        if after is not None and after[1] == flags:
            del vmas[end]
            end = after[0]
        vmas[start] = (end, flags)

    for name, args, _ in calls:
        if name in ("mmap", "mprotect"):
            set_range(args[0], args[0] + args[1], args[2])
    return len(vmas)
