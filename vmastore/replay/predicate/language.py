"""The predicate language: text to a Predicate, by recursive descent.

The parser reads the text directly, with one pattern for what may stand at each place, so that every
error knows its column.
"""

from __future__ import annotations

import errno as codes
import operator
import re
from collections.abc import Callable
from difflib import get_close_matches

from vmastore.errors import InputError
from vmastore.mm.flags import LETTERS, U64
from vmastore.replay.predicate import values
from vmastore.replay.predicate.moment import Moment, Predicate, Test
from vmastore.replay.predicate.reader import HINT, WORD, Reader
from vmastore.replay.predicate.values import ALONE, OF_EVENT, VALUES, Value

GRAMMAR = """\
predicate = both { "or" both }
both      = one { "and" one }
one       = "not" one | "(" predicate ")" | test | number COMPARE number | number
COMPARE   = "<" | "<=" | ">" | ">=" | "=" | "==" | "!="
number    = VALUE | "lost_merges" "(" REASON ")" | INTEGER | "errno"
VALUE     = "map_count" | "lost_merges" | "largest_vma" | "wx" | "seq" | "merges" | "splits"
          | "bytes mapped" | "bytes writable" | "bytes executable"
test      = "split_at" ADDR | "merged" ADDR ADDR | "mapped" RANGE | "perms" ADDR PERMS
          | "flags" ADDR "has" LETTERS { "," LETTERS } | "errno" ERRNO
RANGE     = ADDR | ADDR "-" ADDR | ADDR "+" LENGTH
ADDR, LENGTH, INTEGER: 4096, 0x1000, 4k, 2M, 1G
PERMS: a perms column or the beginning of one; ? is any letter
"""

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
_UNITS = {"k": 10, "m": 20, "g": 30, "t": 40}
_SIGN = re.compile(r">=|<=|==|!=|=|<|>")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+[kKmMgGtT]?(?![A-Za-z_0-9])")
_PERMS = re.compile(r"[r?-](?:[w?-](?:[x?-](?:[ps?])?)?)?(?![A-Za-z_0-9?-])")
_TESTS = ("split_at", "merged", "mapped", "perms", "flags", "errno")
_BYTES = ("mapped", "writable", "executable")
_LETTERS = {letters for _, letters in LETTERS}
_LONGEST = 4000  # characters
_DEEPEST = 60  # parentheses and nots within each other


def parse(text: str) -> Predicate:
    """The predicate that `text` says. Raises InputError naming the column that it stumbles over."""
    if len(text) > _LONGEST:
        raise InputError(f"the predicate has {len(text)} characters: {_LONGEST} are the most")
    parser = _Parser(text)
    test = parser.either()
    if not parser.ended:
        raise parser.error(f"unexpected {parser.here()!r}: `and`, `or` or the end should stand here")
    return Predicate(text, test, parser.of_event, parser.restless)


def number(word: str) -> int:
    """4096, 0x1000, 4k, 2M in bytes. Raises ValueError."""
    if word[:2].lower() == "0x":
        return int(word, 16)
    unit = _UNITS.get(word[-1:].lower())
    return int(word[:-1]) << unit if unit else int(word)


class _Parser(Reader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.of_event = False
        self.restless = False

    def either(self) -> Test:
        left = self.both()
        while self.keyword("or"):
            left = _or(left, self.both())
        return left

    def both(self) -> Test:
        left = self.one()
        while self.keyword("and"):
            left = _and(left, self.one())
        return left

    def one(self) -> Test:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.error("too many parentheses and nots within each other")
        try:
            if self.keyword("not"):
                return _not(self.one())
            if self.sign("("):
                test = self.either()
                if not self.sign(")"):
                    raise self.error(f"unexpected {self.here()!r}: a ) is missing")
                return test
            return self.test() or self.comparison()
        finally:
            self.depth -= 1

    def test(self) -> Test | None:
        """One of the tests by name, or None with nothing read."""
        start = self.at
        word = self.take(WORD)
        if word not in _TESTS:
            self.at = start
            return None
        if word == "errno":
            test = self.errno()
            if test is None:
                self.at = start
            return test
        in_brackets = self.sign("(")  # split_at(0x1000), merged(0x1000, 0x2000)
        test = {
            "split_at": lambda: values.split_at(self.addr()),
            "merged": self.merged,
            "mapped": self.mapped,
            "perms": self.perms,
            "flags": self.flags,
        }[word]()
        if in_brackets and not self.sign(")"):
            raise self.error(f"unexpected {self.here()!r}: a ) is missing")
        return test

    def merged(self) -> Test:
        a = self.addr()
        self.sign(",")
        return values.merged(a, self.addr())

    def mapped(self) -> Test:
        start = self.addr()
        self.skip()
        at = self.at
        end = start + 1
        if self.sign("-"):
            end = self.addr()
        elif self.sign("+"):
            end = start + self.addr("a length")
        if end <= start:
            raise self.error("the range is empty: its end is not above its start", at)
        return values.mapped(start, end)

    def perms(self) -> Test:
        addr = self.addr()
        self.sign(",")
        wanted = self.take(_PERMS)
        if wanted is None:
            raise self.error(f"{self.here()!r} is no perms column: write it like rw-p, r-?p or just rw")
        return values.has_perms(addr, wanted)

    def flags(self) -> Test:
        addr = self.addr()
        if not self.keyword("has"):
            raise self.error(f"unexpected {self.here()!r}: `has` should follow, as in flags ADDR has nh")
        letters = [self.letters()]
        while self.sign(","):
            letters.append(self.letters())
        return values.has_flags(addr, tuple(letters))

    def letters(self) -> str:
        self.skip()
        at = self.at
        word = self.take(WORD)
        if word not in _LETTERS:
            self.at = at
            raise self.error(
                f"{self.here()!r} is none of the two-letter names of smaps' VmFlags",
                hint=f"they are {' '.join(sorted(_LETTERS))}",
            )
        return word

    def errno(self) -> Test | None:
        """`errno ENOMEM`, `errno = ENOMEM`; None where a number follows, or nothing."""
        sign = self.take(_SIGN) or "="
        self.skip()
        at = self.at
        name = self.take(WORD)
        if name is None or not name.startswith("E"):
            return None
        value = getattr(codes, name, None)
        if not isinstance(value, int):
            close = get_close_matches(name, list(codes.errorcode.values()), 1)
            raise self.error(f"unknown errno {name!r}", at, hint=f"did you mean {close[0]}?" if close else HINT)
        if sign not in ("=", "==", "!="):
            raise self.error(f"an errno's name is compared with = or !=, not {sign}", at)
        self.of_event = self.restless = True
        test: Test = lambda at: at.outcome.errno == value  # noqa: E731
        return test if sign != "!=" else _not(test)

    def comparison(self) -> Test:
        left, alone = self.number()
        sign = self.take(_SIGN)
        if sign is not None:
            right, _ = self.number()
            return _compare(_COMPARE[sign], left, right)
        if not alone:
            raise self.error(f"unexpected {self.here()!r}: a comparison (>, <, >=, <=, =, !=) should follow")
        return lambda at: left(at) > 0

    def number(self) -> tuple[Value, bool]:
        """A value or an integer, and whether it may stand alone (more than 0)."""
        self.skip()
        at = self.at
        digits = self.take(_NUMBER)
        if digits is not None:
            constant = number(digits)
            return lambda _: constant, False
        word = self.take(WORD)
        if word == "bytes":
            word = "bytes_" + self.kind_of_bytes()
        if word is None or word not in VALUES:
            self.at = at
            raise self._unknown(word, at)
        self.of_event |= word in OF_EVENT
        self.restless |= word in OF_EVENT or word == "seq"
        if word == "lost_merges" and self.sign("("):
            return self.lost_merges(), True
        return VALUES[word][1], word in ALONE

    def kind_of_bytes(self) -> str:
        for kind in _BYTES:
            if self.keyword(kind):
                return kind
        raise self.error(f"unexpected {self.here()!r}: bytes mapped, bytes writable or bytes executable")

    def lost_merges(self) -> Value:
        self.skip()
        at = self.at
        code = self.take(WORD)
        known = values.reason_codes()
        if code is None or code not in known:
            raise self.error(f"{code or self.here()!r} is no reason", at, hint=f"reasons: {', '.join(known)}")
        if not self.sign(")"):
            raise self.error(f"unexpected {self.here()!r}: a ) is missing")
        self.restless = True
        return values.lost_merges_of(code)

    def addr(self, what: str = "an address") -> int:
        digits = self.take(_NUMBER)
        if digits is None:
            raise self.error(f"{self.here()!r} is not {what}: write it like 0x7f0000001000, 4096 or 2M")
        value = number(digits)
        if value > U64:
            raise self.error(f"{digits} is above 64 bits", self.at - len(digits))
        return value

    def _unknown(self, word: str | None, at: int) -> InputError:
        if self.ended:
            return self.error("a value or test should stand here")
        known = [*VALUES, *_TESTS, "bytes", "not"]
        close = get_close_matches(word or "", known, 1)
        shown = f"unknown word {word!r}" if word else f"cannot read {self.here()!r}"
        return self.error(shown, at, hint=f"did you mean {close[0]}?" if close else HINT)


def _and(left: Test, right: Test) -> Test:
    return lambda at: left(at) and right(at)


def _or(left: Test, right: Test) -> Test:
    return lambda at: left(at) or right(at)


def _not(inner: Test) -> Test:
    return lambda at: not inner(at)


def _compare(sign: Callable[[int, int], bool], left: Value, right: Value) -> Test:
    def test(at: Moment) -> bool:
        return sign(left(at), right(at))

    return test
