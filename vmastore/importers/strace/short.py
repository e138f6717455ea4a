"""What the short way remembers of a log's tokens: whose a line is and its call, arguments, results.

Each is a dict that computes what it lacks, and holds a bounded number. One that cannot raises KeyError, ValueError
or Unparsed: the line is then read the general way.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vmastore.importers.processes import Thread
from vmastore.importers.strace import values
from vmastore.importers.strace.arguments import SIMPLE
from vmastore.importers.strace.numbers import real_name
from vmastore.importers.strace.scan import Result, Unparsed, parse_result
from vmastore.importers.strace.special import Args
from vmastore.importers.strace.tracker import LIFE
from vmastore.importers.strace.values import Memo

Reader = Callable[[bytes], Args]  # arguments as printed → values
Outcome = tuple[int | None, int, bool]  # result, errno, injected
HALF = b"<... "  # what the second half of a call begins with

_RESTS = 4_000  # of each call
_MAP_ANONYMOUS, _MREMAP_DONTUNMAP = 0x20, 4
_NUMBER = re.compile(rb" *= (0|-?[1-9]\d{0,17}|0x[0-9a-f]{1,16})\Z")


class _Rest(dict[bytes, tuple[int, ...]]):
    """What stands behind a call's first argument, remembered: addresses are new ones, the rest repeats itself."""

    def __init__(self, memos: tuple[Memo, ...], anonymous: bool) -> None:
        super().__init__()
        self._memos = memos
        self._anonymous = anonymous  # of mmap, and without a file alone

    def __missing__(self, text: bytes) -> tuple[int, ...]:
        read = tuple([memo[token] for memo, token in zip(self._memos, text.split(b", "), strict=True)])
        if self._anonymous and not read[2] & _MAP_ANONYMOUS and read[3] >= 0:
            raise Unparsed("a file")
        if len(text) > values.MEMO_TOKEN:
            return read
        if len(self) >= _RESTS:
            self.clear()
        self[text] = read
        return read


def _pair(first: Memo, second: Memo) -> Reader:
    def read(text: bytes) -> Args:
        one, _, other = text.partition(b", ")
        return first[one], second[other]

    return read


def _many(first: Memo, *others: Memo, anonymous: bool = False) -> Reader:
    remembered = _Rest(others, anonymous)

    def read(text: bytes) -> Args:
        one, _, rest = text.partition(b", ")
        return (first[one],) + remembered[rest]  # half the time of a display

    return read


def _mremap(addr: Memo, old: Memo, new: Memo, flags: Memo, new_addr: Memo) -> Reader:
    def read(text: bytes) -> Args:
        tokens = text.split(b", ")
        if len(tokens) == 4:  # new_addr is printed only with MREMAP_FIXED
            a, b, c, d = tokens
            bits = flags[d]
            return addr[a], old[b], new[c], bits, None if bits & _MREMAP_DONTUNMAP else 0
        a, b, c, d, e = tokens
        return addr[a], old[b], new[c], flags[d], new_addr[e]

    return read


def _single(only: Memo) -> Reader:
    def read(text: bytes) -> Args:
        return (only[text],)

    return read


_FORMS: dict[str, Reader] = {
    "mmap": _many(*SIMPLE["mmap"], anonymous=True),
    "mremap": _mremap(*SIMPLE["mremap"]),
    "brk": _single(*SIMPLE["brk"]),
    **{name: _pair(*SIMPLE[name]) for name in ("munmap", "mlock", "munlock")},
    **{name: _many(*SIMPLE[name]) for name in ("mprotect", "madvise", "mlock2", "msync")},
}
_CALLS = {name.encode(): (name, read) for name, read in _FORMS.items()}


class Results(dict[bytes, Outcome]):
    """What stands behind the closing parenthesis, its padding included, remembered."""

    def __missing__(self, text: bytes) -> Outcome:
        number = _NUMBER.match(text)
        if number:
            address = number[1]
            outcome: Outcome = (int(address, 0), 0, False)
            if address.startswith(b"0x") and len(values.INT) < values.MEMO_LIMIT:
                values.INT[address] = outcome[0] or 0  # a later call is about to name it
        else:
            result = parse_result(text)
            if result.value is None or result.duration_ns is not None or result.decoration:
                raise Unparsed("not the short way")
            outcome = (None if result.errno else result.value, result.errno, result.injected)
        if len(self) >= values.MEMO_LIMIT:
            self.clear()
        self[text] = outcome
        return outcome


class WholeResults(dict[bytes, Result]):
    """The same in full."""

    def __missing__(self, text: bytes) -> Result:
        result = parse_result(text)
        if result.value is None or result.duration_ns is not None:
            raise Unparsed("not the short way")
        if len(text) > values.MEMO_TOKEN:
            return result
        if len(self) >= values.MEMO_LIMIT:
            self.clear()
        self[text] = result
        return result


class _Names(dict[bytes, str]):
    """The calls that change no thread, by their names as printed."""

    def __missing__(self, text: bytes) -> str:
        name = text.decode("ascii", "replace")
        if not name.isidentifier() or not name.isascii() or real_name(name) in LIFE or len(self) > 1000:
            raise KeyError(text)
        self[text] = real_name(name)
        return self[text]


_NAMES = _Names()


def _other(text: bytes) -> Args:
    """Of a call that has no short way."""
    raise Unparsed("not the short way")


# thread, tid, call, what reads its arguments
Head = tuple[Thread, int, str, Reader]


class Heads(dict[bytes, Head]):
    """Whose a line is and which call it shows, by what stands before the parenthesis, without the time.

    prefixes: the threads known, by all that stands before the time or the call. Raises KeyError for others.
    """

    def __init__(self, prefixes: dict[bytes, Thread]) -> None:
        super().__init__()
        self._prefixes = prefixes

    def __missing__(self, head: bytes) -> Head:
        name = head[head.rfind(b" ") + 1 :]
        thread = self._prefixes[head[: len(head) - len(name)]]
        call, read = _CALLS.get(name) or (_NAMES[name], _other)
        return self._keep(head, (thread, thread.tid, call, read))

    def _keep(self, head: bytes, found: Head) -> Head:
        if len(self) >= values.MEMO_LIMIT:
            self.clear()
        self[head] = found
        return found


class Halves(Heads):
    """The same for the second half of a call, by what stands before `` resumed>``."""

    def __missing__(self, head: bytes) -> Head:
        before, _, name = head.partition(HALF)
        thread = self._prefixes[before]
        return self._keep(head, (thread, thread.tid, *_CALLS[name]))
