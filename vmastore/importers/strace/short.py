"""What the short way remembers of a log's tokens: whose a line is and its call, arguments, results.

Each is a dict that computes what it lacks, and holds a bounded number. One that cannot raises KeyError, ValueError
or Unparsed: the line is then read the general way.
"""

from __future__ import annotations

import re

from vmastore.events.brief import Rest, rest_of
from vmastore.importers.processes import Thread
from vmastore.importers.strace import values
from vmastore.importers.strace.arguments import SIMPLE
from vmastore.importers.strace.numbers import real_name
from vmastore.importers.strace.scan import Result, Unparsed, parse_result
from vmastore.importers.strace.tracker import LIFE
from vmastore.importers.strace.values import Memo

# what a call returned, and what no Brief can say of it (errno, injected; a result above 63 bits): None, nothing
Outcome = tuple[int, tuple[int, bool] | None]
Answer = tuple[Rest, int, tuple[int, bool] | None]  # arguments behind the first, outcome
HALF = b"<... "  # what the second half of a call begins with

_RESTS = 4_000  # of each call
_MAP_ANONYMOUS, _MREMAP_DONTUNMAP = 0x20, 4
_NUMBER = re.compile(rb" *= (0|-?[1-9]\d{0,17}|0x[0-9a-f]{1,16})\Z")
_NOT_PLAIN = re.compile(rb"[)/<]")
_I63 = (1 << 63) - 1
_NAME = 64  # characters of a call's name


class Firsts(Memo):
    """First arguments that are no plain addresses: without comments and decorations, which may hold a parenthesis."""

    def __init__(self) -> None:
        super().__init__(lambda token: values.INT[token])

    def __missing__(self, token: bytes) -> int:
        if _NOT_PLAIN.search(token):
            raise Unparsed("not the short way")
        return super().__missing__(token)


class Rests(dict[bytes, Rest]):
    """What stands behind a call's first argument, remembered: addresses are new ones, the rest repeats itself."""

    def __init__(self, *memos: Memo) -> None:
        super().__init__()
        self._memos = memos

    def __missing__(self, text: bytes) -> Rest:
        tokens = text.split(b", ") if self._memos else ([text] if text else [])
        read = rest_of(self._read(tokens))
        if len(text) > values.MEMO_TOKEN:
            return read
        if len(self) >= _RESTS:
            self.clear()
        self[text] = read
        return read

    def _read(self, tokens: list[bytes]) -> tuple[int | None, ...]:
        return tuple([memo[token] for memo, token in zip(self._memos, tokens, strict=True)])


class _OfMmap(Rests):
    def _read(self, tokens: list[bytes]) -> tuple[int | None, ...]:
        read = super()._read(tokens)
        _, _, flags, fd, _ = read
        if flags is None or fd is None or (not flags & _MAP_ANONYMOUS and fd >= 0):
            raise Unparsed("a file")
        return read


class _OfMremap(Rests):
    def _read(self, tokens: list[bytes]) -> tuple[int | None, ...]:
        if len(tokens) != 3:
            return super()._read(tokens)
        old, new, flags = (memo[token] for memo, token in zip(self._memos, tokens, strict=False))
        return old, new, flags, None if flags & _MREMAP_DONTUNMAP else 0  # new_addr is printed only with MREMAP_FIXED


class Results(dict[bytes, Outcome]):
    """What stands behind the closing parenthesis, its padding included, remembered."""

    def __missing__(self, text: bytes) -> Outcome:
        number = _NUMBER.match(text)
        if number:
            value = int(number[1], 0)
            outcome: Outcome = (value, None if value <= _I63 else (0, False))
        else:
            result = parse_result(text)
            if result.value is None or result.duration_ns is not None or result.decoration:
                raise Unparsed("not the short way")
            outcome = (result.value, (result.errno, result.injected))
        if len(self) >= values.MEMO_LIMIT:
            self.clear()
        self[text] = outcome
        return outcome


class Answers(dict[bytes, Answer]):
    """All that stands behind a call's first argument, its result too, remembered."""

    def __init__(self, rests: Rests, results: Results) -> None:
        super().__init__()
        self._rests = rests
        self._results = results

    def __missing__(self, text: bytes) -> Answer:
        asked, _, tail = text.partition(b")")
        answer = (self._rests[asked], *self._results[tail])
        if len(text) > values.MEMO_TOKEN:
            return answer
        if len(self) >= _RESTS:
            self.clear()
        self[text] = answer
        return answer


class _None(Rests):
    """Of a call that has no short way."""

    def __missing__(self, text: bytes) -> Rest:
        raise Unparsed("not the short way")


_NO_FORM = (_None(), None)
_OTHERS = ("munmap", "mlock", "munlock", "mprotect", "madvise", "mlock2", "msync")
# a call, its arguments behind the first, its answers (None: it returns an address, so that they do not repeat)
Form = tuple[str, Rests, Answers | None]


def forms(results: Results) -> dict[bytes, Form]:
    """The calls that have a short way, by name."""
    found: dict[str, tuple[Rests, Answers | None]] = {
        "mmap": (_OfMmap(*SIMPLE["mmap"][1:]), None),
        "mremap": (_OfMremap(*SIMPLE["mremap"][1:]), None),
        "brk": (Rests(), None),
    }
    for name in _OTHERS:
        rests = Rests(*SIMPLE[name][1:])
        found[name] = rests, Answers(rests, results)
    return {name.encode(): (name, *form) for name, form in found.items()}


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
        if len(name) > _NAME or not name.isidentifier() or not name.isascii():  # the lexer would not call it one
            raise KeyError(text)
        if real_name(name) in LIFE or len(self) > 1000:
            raise KeyError(text)
        self[text] = real_name(name)
        return self[text]


_NAMES = _Names()


# thread, tid, a Form, and, of a line that is the second half of a call, what stands behind "resumed>"
Head = tuple[Thread, int, str, Rests, Answers | None, bytes | None]


class Heads(dict[bytes, Head]):
    """Whose a line is and which call it shows, by what stands before the parenthesis, without the time.

    prefixes: the threads known, by all that stands before the time or the call. Raises KeyError for others.
    """

    def __init__(self, prefixes: dict[bytes, Thread], calls: dict[bytes, Form]) -> None:
        super().__init__()
        self._prefixes = prefixes
        self._calls = calls

    def __missing__(self, head: bytes) -> Head:
        name = head[head.rfind(b" ") + 1 :]
        thread = self._prefixes[head[: len(head) - len(name)]]
        call, rests, answers = self._calls.get(name) or (_NAMES[name], *_NO_FORM)
        return self.keep(head, (thread, thread.tid, call, rests, answers, None))

    def keep(self, head: bytes, found: Head) -> Head:
        """Remember it, if there is room."""
        if len(self) >= values.MEMO_LIMIT:
            self.clear()
        self[head] = found
        return found


class Halves(Heads):
    """The same for the second half of a call, by what stands before `` resumed>``."""

    def __missing__(self, head: bytes) -> Head:
        before, _, name = head.partition(HALF)
        thread = self._prefixes[before]
        return self.keep(head, (thread, thread.tid, *self._calls[name], None))
