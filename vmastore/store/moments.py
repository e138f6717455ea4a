"""Time travel in SQL: `vmas_at(trace, seq)` and the like, which SQLite in Python has no way to define.

What stands like a table-valued function in a query is replaced, token by token, by a subquery over
the lifetimes of VMAs; its arguments may be any expressions that need no row of the query itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from vmastore.errors import StoreError
from vmastore.store.nodes import PAGE_LEVELS, SEQ_LEVELS, holding, overlapping
from vmastore.store.views import VIEWS, kinds

_VMAS = next(view for view in VIEWS if view.name == "vmas")
COLUMNS = tuple(name for name, _, _ in _VMAS.columns)
_COLUMNS = ", ".join(f'{expression} AS "{name}"' for name, expression, _ in _VMAS.columns)
SHOWN = ("mm", "vm_start", "vm_end", "perms", "vm_flags", "pgoff", "path", "name")
_SHOWN = ", ".join(SHOWN)
_OF_V = {name: expression for name, expression, _ in _VMAS.columns}
_SHOWN_OF_U = ", ".join(f"{_OF_V[name].replace('v.', 'u.')} AS {name}" for name in SHOWN)
_STORED = "v.replay, v.mm, v.vm_start, v.vm_end, v.pgoff, v.kind"  # what a lifetime shows: a kind has one number
_KINDS = kinds("vma", "v")
_STATES = "FROM replay_t r CROSS JOIN vma_t v WHERE v.replay = r.replay"
_FROM = _STATES.replace(" WHERE", f" {_KINDS} WHERE")
_BY_PAGE = (
    f"FROM replay_t r CROSS JOIN vma_page_t p CROSS JOIN vma_t v {_KINDS}"
    " WHERE p.replay = r.replay AND v.replay = r.replay AND v.seq_node = p.seq_node AND v.n = p.n"
)
_PAGE_MASK = (1 << PAGE_LEVELS) - 1
_NARROW = 1000  # events: a range of time that is searched by time, whatever its addresses


class AsOf(NamedTuple):
    """A moment: a trace (name or number) and the event after which it is; under `kernel`, if given."""

    trace: str
    seq: int
    kernel: str | None = None


class Function(NamedTuple):
    """A table-valued function: its arguments (the optional ones last, with `?`), what it gives, its SQL."""

    arguments: tuple[str, ...]
    comment: str
    sql: Callable[..., str]


def alive(replay: str, seq: str) -> str:
    """SQL: the rows of `vmas` of one replay that are alive after one event (both SQL expressions)."""
    return (
        f"SELECT {_COLUMNS} {_FROM} AND r.replay = {replay} AND {holding('v.seq_node', seq, SEQ_LEVELS)}"
        f" AND v.born_seq <= {seq} AND (v.died_seq IS NULL OR v.died_seq > {seq})"
    )


def differing(replay: str, a: str, b: str) -> str:
    """SQL: the VMAs that one replay does not have alike after events a and b (all SQL expressions): `change`, SHOWN.

    A lifetime that holds both moments is the same in both: only the others are compared, by what is stored.
    """
    gone, come = _alone(replay, a, b), _alone(replay, b, a)
    return (
        f"SELECT u.change, {_SHOWN_OF_U} FROM (SELECT '-' AS change, * FROM ({gone} EXCEPT {come}) AS gone"
        f" UNION ALL SELECT '+' AS change, * FROM ({come} EXCEPT {gone}) AS come) AS u {kinds('vma', 'u')}"
    )


def _alone(replay: str, seq: str, other: str) -> str:
    """SQL: the stored columns of SHOWN, of the lifetimes that hold one moment and not the other."""
    return (
        f"SELECT {_STORED} {_STATES} AND r.replay = {replay} AND {holding('v.seq_node', seq, SEQ_LEVELS)}"
        f" AND v.born_seq <= {seq} AND (v.died_seq IS NULL OR v.died_seq > {seq})"
        f" AND (v.born_seq > {other} OR v.died_seq <= {other})"
    )


def _page(addr: str) -> str:
    return f"({addr} >> 12 & {_PAGE_MASK})"


def held(replay: str, addr: str) -> str:
    """SQL: the rows of `vmas` of one replay that ever held an address (a number; both SQL expressions)."""
    return (
        f"SELECT {_COLUMNS} {_BY_PAGE} AND r.replay = {replay}"
        f" AND {holding('p.page_node', _page(addr), PAGE_LEVELS)} AND v.vm_start <= {addr} AND v.vm_end > {addr}"
    )


def overlapped(replay: str, low: str, high: str, a: str, b: str) -> str:
    """SQL: the rows of `vmas` that overlapped [low, high) at some time from after event a to after event b.

    By time where the range of time is narrow, else by address; checked exactly in both.
    """
    exact = (
        f"v.vm_start < {high} AND v.vm_end > {low} AND v.born_seq <= {b} AND (v.died_seq IS NULL OR v.died_seq > {a})"
    )
    ways = [(_FROM, f"{b} - {a} <= {_NARROW}", c) for c in overlapping("v.seq_node", a, b, SEQ_LEVELS)]
    pages = (_page(low), _page(f"({high} - 1)"))
    ways += [(_BY_PAGE, f"{b} - {a} > {_NARROW}", c) for c in overlapping("p.page_node", *pages, PAGE_LEVELS)]
    return " UNION ALL ".join(
        f"SELECT {_COLUMNS} {source} AND r.replay = {replay} AND {guard} AND {way} AND {exact}"
        for source, guard, way in ways
    )


def _at(trace: str, seq: str, kernel: str = "NULL") -> str:
    return alive(f"replay_of({trace}, {kernel})", f"seq_of({trace}, {seq})")


def _diff(trace: str, a: str, b: str, kernel: str = "NULL") -> str:
    return differing(f"replay_of({trace}, {kernel})", *(f"seq_of({trace}, {seq})" for seq in (a, b)))


def _history(trace: str, addr: str, kernel: str = "NULL") -> str:
    return held(f"replay_of({trace}, {kernel})", f"addr({addr})")


def _between(trace: str, low: str, high: str, first: str, last: str, kernel: str = "NULL") -> str:
    moments = (f"seq_of({trace}, {seq})" for seq in (first, last))
    return overlapped(f"replay_of({trace}, {kernel})", f"addr({low})", f"addr({high})", *moments)


FUNCTIONS: dict[str, Function] = {
    "vmas_at": Function(
        ("trace", "seq", "kernel?"),
        "the VMAs alive after event `seq` (negative: from the end); columns of `vmas`",
        _at,
    ),
    "vma_diff": Function(
        ("trace", "a", "b", "kernel?"),
        f"what is not the same after events `a` and `b`: change ('-' gone, '+' new), {_SHOWN}",
        _diff,
    ),
    "vma_history": Function(
        ("trace", "addr", "kernel?"), "every state of every VMA that ever held `addr`; columns of `vmas`", _history
    ),
    "vmas_between": Function(
        ("trace", "low", "high", "first", "last", "kernel?"),
        "the VMAs that overlapped [low, high) at some time from after event `first` to after `last`; columns of"
        " `vmas`",
        _between,
    ),
}
SCALARS: dict[str, str] = {
    "trace_of(trace)": "the number of a trace, by name or number; an unknown one is an error",
    "replay_of(trace, kernel)": "the newest stored replay of a trace (under `kernel`, if it is not NULL);"
    " none, or a stale one, is an error",
    "seq_of(trace, n)": "the number of event `n`, which may count from the end: -1 is the last",
    "peak_of(trace)": "the number of the event after which there were most VMAs in one address space",
    "hex_addr(n), addr(text)": "an address as text, and back",
    "perms(flags), flag_names(flags)": "`rw-p`, and the letters of smaps",
}
_TOKEN = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|$)|[A-Za-z_]\w*|\s+|.", re.S
)


def expand(sql: str) -> str:
    """The query with each table-valued function replaced. Raises StoreError: wrong number of arguments."""
    return _expand(_TOKEN.findall(sql))


def _expand(tokens: list[str]) -> str:
    found, n = [], 0
    while n < len(tokens):
        function = FUNCTIONS.get(tokens[n].lower())
        opening = _next(tokens, n + 1)
        if function is None or opening == len(tokens) or tokens[opening] != "(":
            found.append(tokens[n])
            n += 1
            continue
        arguments, end = _arguments(tokens, opening, tokens[n])
        found.append(_call(tokens[n], function, [_expand(a).strip() for a in arguments]))
        n = end
    return "".join(found)


def _next(tokens: list[str], n: int) -> int:
    while n < len(tokens) and (tokens[n].isspace() or tokens[n].startswith(("--", "/*"))):
        n += 1
    return n


def _arguments(tokens: list[str], opening: int, name: str) -> tuple[list[list[str]], int]:
    """(the tokens of each argument, where the tokens behind the closing parenthesis begin)."""
    arguments: list[list[str]] = [[]]
    depth = 0
    for n in range(opening, len(tokens)):
        token = tokens[n]
        depth += (token == "(") - (token == ")")
        if depth == 0:
            return arguments, n + 1
        if token == "," and depth == 1:
            arguments.append([])
        elif n > opening:
            arguments[-1].append(token)
    raise StoreError(f"SQL: {name}( is not closed")


def _call(name: str, function: Function, arguments: list[str]) -> str:
    least = sum(not a.endswith("?") for a in function.arguments)
    if not least <= len(arguments) <= len(function.arguments) or not all(arguments):
        shown = ", ".join(f"[{a[:-1]}]" if a.endswith("?") else a for a in function.arguments)
        raise StoreError(f"SQL: {name} takes ({shown})", hint=function.comment)
    return f"({function.sql(*(f'({a})' for a in arguments))})"
