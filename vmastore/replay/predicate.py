"""Predicates on the state after an event, in a small language of their own (nothing is evaluated).

    map_count > 1000        split_at 0x7f0000001000      errno ENOMEM       mapped 0x1000-0x3000
    merges > 2 and not errno ENOMEM                      largest_vma >= 2M  wx > 0

Values: map_count (VMAs), merges, splits, lost_merges (adjacent VMAs equal but for the anon_vma),
largest_vma, bytes_mapped, bytes_writable, bytes_executable (bytes), wx (bytes both writable and
executable), seq. Tests: `split_at ADDR` (a VMA boundary with mappings on both sides),
`mapped ADDR[-END]`, `perms ADDR rwxp`, `flags ADDR has LETTERS`, `merged A B` (both in one VMA),
`errno NAME`. Joined by and, or, not, and parentheses.
"""

from __future__ import annotations

import errno as codes
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from vmastore.errors import InputError
from vmastore.mm.flags import VM_EXEC, VM_WRITE, perms, vmflags_letters
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma
from vmastore.replay.world import Outcome


@dataclass(frozen=True)
class Moment:
    """What a predicate looks at: an address space and the outcome of the event that led there."""

    mm: Mm
    outcome: Outcome


Test = Callable[[Moment], bool]
Value = Callable[[Moment], int]

_TOKEN = re.compile(r"\s*(>=|<=|==|!=|=|<|>|\(|\)|-|[A-Za-z_?]+(?:[A-Za-z_0-9-]*)|0x[0-9a-fA-F]+|[0-9]+[kKmMgG]?)")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
_UNITS = {"k": 10, "m": 20, "g": 30}


def _bytes(flags: int) -> Value:
    return lambda at: sum(v.vm_end - v.vm_start for v in at.mm.vmas() if v.vm_flags & flags == flags)


def lost_merges(mm: Mm) -> list[tuple[Vma, Vma]]:
    """Adjacent pairs that are alike in all but the anon_vma."""
    pairs = []
    for vma in mm.vmas():
        nxt = vma.next
        if vma.vm_end == nxt.vm_start and vma.attrs.compat is nxt.attrs.compat and not vma.attrs.special:
            pairs.append((vma, nxt))
    return pairs


VALUES: dict[str, Value] = {
    "map_count": lambda at: at.mm.map_count,
    "vmas": lambda at: at.mm.map_count,
    "merges": lambda at: at.outcome.merges,
    "splits": lambda at: at.outcome.splits,
    "seq": lambda at: at.outcome.seq,
    "lost_merges": lambda at: len(lost_merges(at.mm)),
    "largest_vma": lambda at: max((v.vm_end - v.vm_start for v in at.mm.vmas()), default=0),
    "bytes_mapped": _bytes(0),
    "bytes_writable": _bytes(VM_WRITE),
    "bytes_executable": _bytes(VM_EXEC),
    "wx": _bytes(VM_WRITE | VM_EXEC),
}


def parse(text: str) -> Test:
    """The predicate that `text` says. Raises InputError pointing at the word it stumbles over."""
    parser = _Parser(text)
    test = parser.either()
    if parser.word is not None:
        raise parser.error(f"unexpected {parser.word!r}")
    return test


def number(word: str) -> int:
    """4096, 0x1000, 4k, 2M. Raises ValueError."""
    if word[:2].lower() == "0x":
        return int(word, 16)
    unit = _UNITS.get(word[-1].lower())
    return int(word[:-1]) << unit if unit else int(word)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.words = self._split(text)
        self.at = 0

    def _split(self, text: str) -> list[str]:
        words, at = [], 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise InputError(f"predicate {text!r}: cannot read {text[at:].strip()!r}", hint=_HINT)
            words.append(match[1])
            at = match.end()
        return words

    @property
    def word(self) -> str | None:
        return self.words[self.at] if self.at < len(self.words) else None

    def take(self) -> str:
        word = self.word
        if word is None:
            raise self.error("it ends too early")
        self.at += 1
        return word

    def error(self, what: str) -> InputError:
        return InputError(f"predicate {self.text!r}: {what}", hint=_HINT)

    def either(self) -> Test:
        left = self.both()
        while self.word == "or":
            self.take()
            left = _or(left, self.both())
        return left

    def both(self) -> Test:
        left = self.one()
        while self.word == "and":
            self.take()
            left = _and(left, self.one())
        return left

    def one(self) -> Test:
        word = self.take()
        if word == "not":
            inner = self.one()
            return lambda at: not inner(at)
        if word == "(":
            test = self.either()
            if self.take() != ")":
                raise self.error("a ) is missing")
            return test
        if word in VALUES:
            return self.comparison(VALUES[word])
        special = _TESTS.get(word)
        if special is None:
            raise self.error(f"unknown word {word!r}")
        return special(self)

    def comparison(self, value: Value) -> Test:
        sign = _COMPARE.get(self.take())
        if sign is None:
            raise self.error("a comparison (>, <, >=, <=, ==, !=) should follow the value")
        bound = self.number()
        return lambda at: sign(value(at), bound)

    def number(self) -> int:
        word = self.take()
        try:
            return number(word)
        except ValueError:
            raise self.error(f"{word!r} is not a number or address") from None


def _and(left: Test, right: Test) -> Test:
    return lambda at: left(at) and right(at)


def _or(left: Test, right: Test) -> Test:
    return lambda at: left(at) or right(at)


def _split_at(parser: _Parser) -> Test:
    addr = parser.number()

    def test(at: Moment) -> bool:
        vma = at.mm.vma_lookup(addr)
        return vma is not None and vma.vm_start == addr and vma.prev.vm_end == addr

    return test


def _mapped(parser: _Parser) -> Test:
    start = parser.number()
    end = start + 1
    if parser.word == "-":
        parser.take()
        end = parser.number()

    def test(at: Moment) -> bool:
        vma, reached = at.mm.find_vma(start), start
        while reached < end and vma.vm_start <= reached:
            reached = vma.vm_end
            vma = vma.next
        return reached >= end

    return test


def _perms(parser: _Parser) -> Test:
    addr = parser.number()
    wanted = ""
    while parser.word is not None and re.fullmatch(r"[rwxps-]+", parser.word) and len(wanted) < 4:
        wanted += parser.take()

    def test(at: Moment) -> bool:
        vma = at.mm.vma_lookup(addr)
        return vma is not None and perms(vma.vm_flags).startswith(wanted)

    return test


def _flags(parser: _Parser) -> Test:
    addr = parser.number()
    if parser.take() != "has":
        raise parser.error("write `flags ADDR has LETTERS`")
    letters = parser.take()

    def test(at: Moment) -> bool:
        vma = at.mm.vma_lookup(addr)
        return vma is not None and letters in vmflags_letters(vma.vm_flags).split()

    return test


def _merged(parser: _Parser) -> Test:
    a, b = parser.number(), parser.number()

    def test(at: Moment) -> bool:
        vma = at.mm.vma_lookup(a)
        return vma is not None and vma.vm_start <= b < vma.vm_end

    return test


def _errno(parser: _Parser) -> Test:
    name = parser.take()
    value = getattr(codes, name, None)
    if not isinstance(value, int):
        raise parser.error(f"unknown errno {name!r}")
    return lambda at: at.outcome.errno == value


_TESTS: dict[str, Callable[[_Parser], Test]] = {
    "split_at": _split_at,
    "mapped": _mapped,
    "perms": _perms,
    "flags": _flags,
    "merged": _merged,
    "errno": _errno,
}
_HINT = "for example: map_count > 1000, split_at 0x7f0000001000, errno ENOMEM"
