"""A first look at a log: is it strace's, and what must be known before its first line is read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vmastore.errors import InputError
from vmastore.importers.sources import Source
from vmastore.importers.strace.lexer import Kind, lex

HEAD_LINES = 2_000  # one of them must be strace's
MAIN_LINES = 200_000  # of standard input, to learn the first process's pid

_FRAME = re.compile(rb"(?:\x1b\[[0-9;]*m)* > ")  # what `lex` takes for a stack frame, past the escapes of --color
_STRACE_KINDS = frozenset(Kind) - {Kind.TEXT, Kind.EMPTY, Kind.FRAGMENT, Kind.FRAME}

_OF_PROCESSES = _STRACE_KINDS - {Kind.SUMMARY, Kind.NOTE}


class Survey(NamedTuple):
    """What was seen, and the log's lines from its beginning."""

    source: Source
    stacks: bool  # stack frames (-k)
    main_tid: int | None  # whose the lines without a pid are, where others have one
    batches: Iterator[list[bytes]]


def survey(source: Source) -> Survey:
    """Look at the head of a log; raises InputError when nothing in it is strace's."""
    batches = source.batches()
    head: list[list[bytes]] = []
    lines = 0
    for batch in batches:
        head.append(batch)
        lines += len(batch)
        if lines >= HEAD_LINES:
            break
    first = list(itertools.islice(itertools.chain.from_iterable(head), HEAD_LINES))
    _check(first, head, source.name)
    main_tid = None
    if _first_without_pid(first):
        main_tid, head, batches = _find_main(source, head, batches)
    stacks = any(map(_FRAME.match, first))
    return Survey(source, stacks, main_tid, itertools.chain(head, batches))


def _check(lines: list[bytes], head: list[list[bytes]], name: str) -> None:
    if not head:
        raise InputError(f"{name}: is empty")
    kinds = {lex(line).kind for line in lines}
    if Kind.SUMMARY in kinds and not kinds & _OF_PROCESSES and len(lines) < HEAD_LINES:
        raise _table_alone(lines, name)
    if kinds & _STRACE_KINDS:
        return
    if len(lines) == 1 and lex(lines[0]).kind is Kind.FRAGMENT:  # a log cut in its first line
        return
    first = head[0][0][:80].decode("utf-8", "backslashreplace")
    raise InputError(
        f"{name}: line 1 is not a line of strace's ({first!r}), nor is any of the first {len(lines)}",
        hint="Record one with: strace -f -y -ttt -T -o LOG PROGRAM",
    )


def _table_alone(lines: list[bytes], name: str) -> InputError:
    """What `strace -c` writes: how often each call was made, and none of the calls."""
    number, line = next((number, line) for number, line in enumerate(lines, 1) if lex(line).kind is Kind.SUMMARY)
    shown = line[:80].decode("utf-8", "backslashreplace").rstrip()
    return InputError(
        f"{name}: line {number} is the table of strace -c ({shown!r}), and the log holds no calls",
        hint="Record with the calls, without -c (or with -C: calls and table): strace -f -y -ttt -T -o LOG PROGRAM",
    )


def _first_without_pid(lines: list[bytes]) -> bool:
    for line in map(lex, lines):
        if line.kind in (Kind.CALL, Kind.ENTRY, Kind.FRAGMENT):
            return line.tid is None
    return False


def _find_main(
    source: Source, head: list[list[bytes]], batches: Iterator[list[bytes]]
) -> tuple[int | None, list[list[bytes]], Iterator[list[bytes]]]:
    """The first process's pid, and the batches not yet used up."""
    if source.path != "-":
        return first_process(itertools.chain(head, source.batches())), head, batches
    lines = 0
    for batch in batches:
        head.append(batch)
        lines += len(batch)
        if lines > MAIN_LINES:
            break
    return first_process(head), head, batches


_PID = re.compile(rb"\[pid +(\d{1,7})")
_RESUMED = re.compile(rb"<\.\.\. \w+ resumed>")
_ATTACHED = re.compile(rb"Process (\d{1,7}) attached")
_MADE = re.compile(rb"(?:clone3?|v?fork)(?:\(| resumed>).*= (\d{1,7})")


def first_process(batches: Iterable[list[bytes]]) -> int | None:
    """The pid of the process that the first lines, without one, belong to.

    It is the first pid that was announced neither by strace nor by the call that made it; while the
    first process is in a call, only the end of that call can be its line.
    """
    others: set[int] = set()
    in_call = False
    for line in itertools.chain.from_iterable(batches):
        shown = _PID.match(line)
        if shown:
            tid = int(shown[1])
            if tid not in others and (not in_call or _RESUMED.search(line)):
                return tid
            others.add(tid)
        elif line.endswith(b"<unfinished ...>"):
            in_call = True
        elif _RESUMED.search(line):
            in_call = False
        for pattern in (_ATTACHED, _MADE):
            found = pattern.search(line)
            if found:
                others.add(int(found[1]))
    return None
