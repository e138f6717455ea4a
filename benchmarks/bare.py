"""The baselines: the least that could do the same job."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from sortedcontainers import SortedDict

from benchmarks.stream import Call

_COLUMNS = "seq INTEGER PRIMARY KEY, mm, pid, tid, ts, call, a0, a1, a2, a3, a4, a5, result, errno, line"
_TABLE = f"CREATE TABLE event ({_COLUMNS})"
_ROW = f"({','.join('?' * 15)})"
_INSERT = f"INSERT INTO event VALUES {_ROW}"
_BLOCK = 50  # rows a statement: a fifth faster than one
_INSERT_BLOCK = f"INSERT INTO event VALUES {','.join([_ROW] * _BLOCK)}"


_PADDING: list[tuple[None, ...]] = [(None,) * (6 - n) for n in range(7)]
_REMEMBERED = 100_000


class _Numbers(dict[bytes, int]):
    """Numbers by their text, remembered; words (flags) get a number of their own."""

    def __missing__(self, text: bytes) -> int:
        try:
            found = int(text, 0)
        except ValueError:
            found = hash(text) & 0xFFFF
        if len(self) < _REMEMBERED:
            self[text] = found
        return found


class _Others(dict[bytes, tuple[int | None, ...]]):
    """The arguments behind the first, five with what is missing, by their text, remembered."""

    def __init__(self, number: _Numbers) -> None:
        super().__init__()
        self._number = number

    def __missing__(self, text: bytes) -> tuple[int | None, ...]:
        parts = text.split(b", ") if text else []
        found = (*map(self._number.__getitem__, parts), *_PADDING[len(parts) + 1])
        if len(self) < _REMEMBERED:
            self[text] = found
        return found


class _Heads(dict[bytes, tuple[int, bytes, bytes, int]]):
    """What stands before the first parenthesis, remembered: the thread and the call.

    Of the second half of a call that is the whole line: the thread, no call, more arguments, the result.
    """

    def __init__(self, number: _Numbers) -> None:
        super().__init__()
        self._number = number

    def __missing__(self, head: bytes) -> tuple[int, bytes, bytes, int]:
        tid, _, name = head.partition(b"  ")
        found = (self._number[tid], name, b"", 0)
        if name[0] == 60:  # <... call resumed>
            more, _, answered = name.partition(b" resumed>")[2].partition(b") = ")
            found = (self._number[tid], b"", more, self._number[answered])
            if answered.startswith(b"0x"):  # an address: the line does not come again
                return found
        if len(self) < _REMEMBERED:
            self[head] = found
        return found


def bare_rows(path: str, skip: int = 0) -> Iterator[tuple[object, ...]]:
    """The rows of a log's calls, each field an integer; halves of a call are joined.

    skip: lines at the log's head that are no memory calls (exec, clone).
    """
    waiting: dict[int, tuple[bytes, bytes]] = {}
    number = _Numbers()
    heads, others = _Heads(number), _Others(number)
    seq = 0
    with open(path, "rb") as stream:
        for _ in range(skip):
            next(stream)
        for line_number, line in enumerate(stream, skip + 1):
            head, _, text = line.partition(b"(")
            tid, name, more, result = heads[head]
            if not name:
                name, text = waiting.pop(tid)
                if more:
                    text += more
                one, _, rest = text.partition(b", ")
            elif text[-2] == 62:  # <unfinished ...>
                waiting[tid] = (name, text[:-18])
                continue
            else:
                asked, _, answered = text.rpartition(b") = ")
                one, _, rest = asked.partition(b", ")
                result = number[answered]
            seq += 1
            yield (seq, 1, 7000, tid, None, name, number[one], *others[rest], result, 0, line_number)


def _blocks(rows: Iterator[tuple[object, ...]], rest: list[tuple[object, ...]]) -> Iterator[list[object]]:
    """The values of each full block; the rows of the last, shorter one go into `rest`."""
    while len(block := list(islice(rows, _BLOCK))) == _BLOCK:
        yield list(chain.from_iterable(block))
    rest += block


def bare_import(path: str, database: str, skip: int = 0) -> int:
    """Insert the rows of a log: no index, no hash, no checks. Returns the events."""
    gc.disable()
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(_TABLE)
    rows = bare_rows(path, skip)
    rest: list[tuple[object, ...]] = []
    with connection:
        connection.executemany(_INSERT_BLOCK, _blocks(rows, rest))
        connection.executemany(_INSERT, rest)
    (count,) = connection.execute("SELECT count(*) FROM event").fetchone()
    connection.close()
    gc.enable()
    return int(count)


class BareEngine:
    """Split and merge on a SortedDict of start -> (end, flags): no rules, no reasons.

    As fast as it goes: neighbours come from `irange`, which needs no positional index (`bisect` and `peekitem`
    make one after every change), and a value under a key that stays is set past the SortedDict.
    """

    def __init__(self) -> None:
        self.vmas: SortedDict = SortedDict()

    def run(self, stream: Iterable[Call]) -> None:
        """Set the flags of each call's range."""
        vmas, get, irange, keep = self.vmas, self.vmas.get, self.vmas.irange, self._keep
        for name, args, _ in stream:
            if name != "mmap" and name != "mprotect":
                continue
            start, end, flags = args[0], args[0] + args[1], args[2]
            left, limit = None, end  # the range before that this one joins; where the joined range ends
            first = next(irange(None, start, (True, False), True), None)
            if first is not None:
                reach, had = vmas[first]
                if reach > end:  # all within one range
                    if had != flags:
                        keep(first, (start, had))
                        vmas[start], vmas[end] = (end, flags), (reach, had)
                    continue
                if reach >= start and had == flags:
                    left = first
                elif reach > start:
                    keep(first, (start, had))
            here = get(start)
            last = here
            if here is None or here[0] < end:
                for key in list(irange(start, end, (False, False))):
                    last = vmas.pop(key)
            if last is not None and last[0] > end:
                if last[1] != flags:
                    vmas[end] = last
                else:
                    limit = last[0]
            elif (after := get(end)) is not None and after[1] == flags:
                del vmas[end]
                limit = after[0]
            if left is not None:
                keep(left, (limit, flags))
                if here is not None:
                    del vmas[start]
            elif here is not None:
                keep(start, (limit, flags))
            else:
                vmas[start] = (limit, flags)

    def _keep(self, key: int, value: tuple[int, int]) -> None:
        dict.__setitem__(self.vmas, key, value)
