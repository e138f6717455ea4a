"""One argument's text to its value, remembered: a log repeats the same few tokens for ever.

Every form of a number gives the same int: ``PROT_READ|PROT_WRITE``, ``0x3``,
``0x3 /* PROT_READ|PROT_WRITE */``, ``prot=0x3``, ``8192*1024``, ``21<<MAP_HUGE_SHIFT``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vmastore.importers.strace import constants
from vmastore.importers.strace.constants import Table
from vmastore.importers.strace.scan import DECORATION, Unparsed, without_comments

MEMO_LIMIT = 30_000  # entries: what a token costs to remember is bounded, not what a log holds
MEMO_TOKEN = 500  # bytes


class Memo(dict[bytes, int]):
    """Token → int, computed once by `parse`; forgets everything when it holds MEMO_LIMIT tokens."""

    def __init__(self, parse: Callable[[bytes], int]) -> None:
        super().__init__()
        self.parse = parse

    def __missing__(self, token: bytes) -> int:
        value = self.parse(token)
        if len(token) > MEMO_TOKEN:
            return value
        if len(self) >= MEMO_LIMIT:
            self.clear()
        self[token] = value
        return value


_NAMED = re.compile(rb"[a-z_][a-z0-9_]*=")  # -N: addr=NULL


def bare(token: bytes) -> bytes:
    """The token without its argument name, comment and descriptor decoration."""
    named = _NAMED.match(token)
    if named:
        token = token[named.end() :]
    if b"/*" in token:
        token = without_comments(token)
    if b"<" in token and b"<<" not in token:
        shown = DECORATION.search(token)
        if shown and shown.end() == len(token):
            token = token[: shown.start()]
    return token.strip()


def number(text: bytes) -> int:
    """A C integer: decimal, hexadecimal or octal, NULL, a product."""
    if text == b"NULL":
        return 0
    try:
        if text.startswith(b"0") and text.isdigit() and len(text) > 1:
            return int(text, 8)
        if b"*" in text:
            left, right = text.split(b"*")
            return int(left, 0) * int(right, 0)
        return int(text, 0)
    except ValueError:
        raise Unparsed(f"not a number: {text[:60]!r}") from None


def flags_parser(table: Table) -> Callable[[bytes], int]:
    """A parser of ``A|B|0x80``; Unparsed on a name that is not in `table`."""

    def single(text: bytes) -> int:
        value = table.get(text.decode("ascii", "replace"))
        return number(text) if value is None else value

    def part(text: bytes) -> int:
        left, shifted, right = text.partition(b"<<")
        if not shifted:
            return single(text)
        shift = single(right)
        if not 0 <= shift <= 64:
            raise Unparsed(f"not a number: {text[:60]!r}")
        return single(left) << shift

    def parse(token: bytes) -> int:
        value = 0
        for text in bare(token).split(b"|"):
            value |= part(text.strip())
        return value & MASK64

    return parse


MASK64 = (1 << 64) - 1


def _unsigned(token: bytes) -> int:
    return number(bare(token)) & MASK64


class _Unsigned(Memo):
    """Addresses and lengths: addresses are ever new ones, and parsed in one step."""

    def __missing__(self, token: bytes) -> int:
        try:
            value = int(token, 16) & MASK64 if token[:2] == b"0x" else self.parse(token)
        except ValueError:
            value = self.parse(token)
        if len(token) <= MEMO_TOKEN:
            if len(self) >= MEMO_LIMIT:
                self.clear()
            self[token] = value
        return value


def _signed32(token: bytes) -> int:
    """A C int: -e raw=all prints -1 as 0xffffffff."""
    value = number(bare(token)) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _either(table: Table, otherwise: Callable[[bytes], int]) -> Callable[[bytes], int]:
    """A parser of a name in `table` or of a number."""

    def parse(token: bytes) -> int:
        value = table.get(bare(token).decode("ascii", "replace"))
        return otherwise(token) if value is None else value

    return parse


INT = _Unsigned(_unsigned)
SIGNED = Memo(_signed32)
FD = Memo(_either(constants.DIRFD, _signed32))
PROT = Memo(flags_parser(constants.PROT))
MAP = Memo(flags_parser(constants.MAP))
MREMAP = Memo(flags_parser(constants.MREMAP))
MADV = Memo(flags_parser(constants.MADV))
MLOCK = Memo(flags_parser(constants.MLOCK))
MCL = Memo(flags_parser(constants.MCL))
MS = Memo(flags_parser(constants.MS))
MPOL = Memo(flags_parser(constants.MPOL))
MPOL_MF = Memo(flags_parser(constants.MPOL_MF))
MPOL_F = Memo(flags_parser(constants.MPOL_F))
SHMGET = Memo(flags_parser(constants.SHMGET))
SHMAT = Memo(flags_parser(constants.SHMAT))
SHADOW_STACK = Memo(flags_parser(constants.SHADOW_STACK))
PKEY = Memo(flags_parser(constants.PKEY))
OPEN = Memo(flags_parser(constants.OPEN))
MFD = Memo(flags_parser(constants.MFD))
CLOSE_RANGE = Memo(flags_parser(constants.CLOSE_RANGE))
FCNTL = Memo(flags_parser(constants.FCNTL))
FD_FLAGS = Memo(flags_parser(constants.FD_FLAGS))
UFFD_FEATURE = Memo(flags_parser(constants.UFFD_FEATURE))
UFFD_MODE = Memo(flags_parser(constants.UFFD_MODE))
CLONE = Memo(flags_parser(constants.CLONE))
PR = Memo(flags_parser(constants.PR))
PR_ARGUMENT = Memo(flags_parser(constants.PR_ARGUMENT))
PERSONALITY = Memo(flags_parser(constants.PERSONALITY))
RLIMIT = Memo(flags_parser(constants.RLIMIT))
RLIM = Memo(flags_parser(constants.RLIM))
