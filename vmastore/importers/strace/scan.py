"""Where a call's arguments and its result begin and end.

Strings, file descriptor decorations (``3</tmp/a, b) = 3>``), comments and brackets may hold any
character that separates arguments, so the text is cut along these, never at the first comma.
"""

from __future__ import annotations

import errno as _errno
import re
from typing import NamedTuple


class Unparsed(ValueError):
    """Text that is not what strace prints at this place."""


# Every quantifier is possessive and an unclosed string takes the rest, so that no text takes longer than its
# length. A path in a decoration has its < and > escaped, a socket ("TCP:[a->b]") has arrows; -yy nests.
_PATH = rb"<(?=/)(?:[^<>\\]|\\.|<[^<>]*+>)*+>"
_OTHER = rb"<(?![<./])(?:->|[^<>\\]|\\.|<(?:->|[^<>])*+>)*+>"
_ENDS_IN_DASH = rb"<(?:[^<>\\-]|-(?!>)|\\.)*+->(?=[,)\]} ]|\Z)"
_BEFORE = rb"(?:(?<=[0-9A-Z])|(?<=\*/))"  # -X verbose -y: -100 /* AT_FDCWD */</home>
_DECORATION = _BEFORE + rb"(?:" + _PATH + rb"|" + _OTHER + rb"|" + _ENDS_IN_DASH + rb")(?:\(deleted\))?"
_STRING = rb'"(?:[^"\\]|\\.)*+(?:"|\Z)'
DECORATION = re.compile(_DECORATION, re.DOTALL)
_STRUCTURE = re.compile(_STRING + rb"|/\*|\*/|" + _DECORATION + rb"|[(){}\[\],]", re.DOTALL)
_COMMENT = {b"/*": 1, b"*/": -1}
_COMMENT_MARK = re.compile(rb"/\*|\*/")
_DEPTH = {b"(": 1, b"[": 1, b"{": 1, b")": -1, b"]": -1, b"}": -1}


def split_call(text: bytes) -> tuple[list[bytes], bytes]:
    """Cut ``args) = result`` into its arguments and the text from the closing parenthesis on.

    Raises Unparsed when the parenthesis that closes the call is missing.
    """
    inside, _, tail = text.partition(b")")
    if tail.startswith(b" ") and not _BRACKETS.search(inside):
        tokens = inside.split(b", ") if inside else []
        if b"<" not in inside or all(b"<" not in token or token.endswith(b">") for token in tokens):
            return tokens, tail
    return _split_structured(text)


_BRACKETS = re.compile(rb'["([{]|/\*')


def _split_structured(text: bytes) -> tuple[list[bytes], bytes]:
    arguments: list[bytes] = []
    depth = begin = comments = 0
    for token in _STRUCTURE.finditer(text):
        mark = token[0]
        if mark in _COMMENT:  # -X verbose nests them: 0x28 /* 0x8 /* MAP_??? */|MAP_ANONYMOUS */
            comments += _COMMENT[mark]
            continue
        if comments > 0:
            continue
        if mark == b",":
            if depth == 0:
                arguments.append(text[begin : token.start()].strip())
                begin = token.end()
            continue
        depth += _DEPTH.get(mark, 0)
        if depth < 0:
            if mark != b")":
                break
            last = text[begin : token.start()].strip()
            if last or arguments:
                arguments.append(last)
            return arguments, text[token.end() :]
    raise Unparsed("no closing parenthesis")


def without_comments(token: bytes) -> bytes:
    """The token without its ``/* ... */``, nested ones too."""
    kept, depth, begin = [], 0, 0
    for mark in _COMMENT_MARK.finditer(token):
        if depth == 0 and mark[0] == b"/*":
            kept.append(token[begin : mark.start()].rstrip())
        depth = max(0, depth + _COMMENT[mark[0]])
        begin = mark.end()
    return b"".join([*kept, token[begin:]]) if depth == 0 else b"".join(kept)


def split_list(text: bytes) -> list[bytes]:
    """Cut a comma-separated list (the inside of brackets or of an unfinished call) into its items."""
    try:
        return split_call(text + b")")[0]
    except Unparsed:
        return [item.strip() for item in text.split(b",")]


class Result(NamedTuple):
    """What stands behind the ``=``."""

    value: int | None  # None: the call has no result (``?``)
    errno: int  # 0, or positive
    injected: bool  # strace faked it: the kernel did not run the call
    decoration: bytes  # of a returned descriptor or pid, without its < >
    duration_ns: int | None  # -T


_RESULT = re.compile(
    rb"\s*= (?P<value>\?|-?\d{1,20}|0x[0-9a-f]{1,16})"
    rb"(?P<decoration><.*?>)?(?:\(deleted\))?(?: /\* (?P<outer>\d{1,7}) in strace's PID NS \*/| /\*.*?\*/)?"
    rb"(?: (?P<errno>E[A-Z0-9_]+)| \(errno (?P<number>\d{1,5})\))?"
    rb"(?: <unavailable>)?"
    rb"(?P<notes>(?: \((?:[^()]|\([^()]*\))*\))*)"
    rb"(?: <(?P<duration>\d{1,8}(?:\.\d{1,9})?)>)?\Z",
    re.DOTALL,
)


_MAX_RESULT = 20_000  # bytes: a descriptor's path, every byte of it escaped


def parse_result(text: bytes) -> Result:
    """Parse the text after a call's closing parenthesis, from its padding to its duration."""
    match = _RESULT.match(text) if len(text) <= _MAX_RESULT else None
    if not match:
        raise Unparsed("no result")
    duration = match["duration"]
    decoration = match["decoration"]
    value, code = _value(match)
    return Result(
        value,
        code,
        b"(INJECTED" in match["notes"],
        decoration[1:-1] if decoration else b"",
        _nanoseconds(duration) if duration else None,
    )


def _value(match: re.Match[bytes]) -> tuple[int | None, int]:
    text = match["outer"] or match["value"]
    if text == b"?":
        return None, 0
    value = int(text, 16 if text.startswith(b"0x") else 10)
    if not -(1 << 63) <= value < 1 << 64:
        raise Unparsed("not a result")
    if match["number"]:
        return value, int(match["number"])
    if value == -1 and match["errno"]:
        return value, errno_number(match["errno"].decode())
    return value, 0


# names that the kernel returns and the C library does not know
_KERNEL_ERRNO = {
    "ENOTSUPP": 524,
    "ERESTARTSYS": 512,
    "ERESTARTNOINTR": 513,
    "ERESTARTNOHAND": 514,
    "ENOIOCTLCMD": 515,
}


def errno_number(name: str) -> int:
    """The number of an errno's name."""
    number = _KERNEL_ERRNO.get(name) or getattr(_errno, name, None)
    if not isinstance(number, int):
        raise Unparsed(f"unknown error {name}")
    return number


def _nanoseconds(text: bytes) -> int:
    seconds, _, fraction = text.partition(b".")
    return int(seconds) * 10**9 + int(fraction[:9].ljust(9, b"0"))


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_PLAIN = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f", b"a": b"\a", b"b": b"\b"}


def unescape(text: bytes) -> bytes:
    r"""Undo strace's escapes (``\n``, ``\177``, ``\x41``)."""
    return _ESCAPE.sub(_unescape_one, text) if b"\\" in text else text


def _unescape_one(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes([int(match[1], 16)])
    if match[2]:
        return bytes([int(match[2], 8) & 0xFF])
    return _PLAIN.get(match[3], match[3])


def string(token: bytes) -> str | None:
    """The text of a string argument; None for a token that is no string (NULL, a pointer).

    A string cut short by -s (``"abc"...``) gives what is shown.
    """
    if not token.startswith(b'"'):
        return None
    body = token.removesuffix(b"...")
    return unescape(body[1:-1]).decode("utf-8", "backslashreplace")
