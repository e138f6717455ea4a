"""One argument that is more than a number: strings, lists, descriptors with their paths."""

from __future__ import annotations

import re

from vmastore.events.types import Arg
from vmastore.importers.strace import values
from vmastore.importers.strace.scan import DECORATION, Unparsed, split_list, string
from vmastore.importers.strace.values import INT, bare


class AnyMemo(dict[bytes, Arg]):
    """An argument of a call that we know nothing of, remembered."""

    def __missing__(self, token: bytes) -> Arg:
        if len(self) >= values.MEMO_LIMIT:
            self.clear()
        self[token] = value = any_value(token)
        return value


def any_value(token: bytes) -> Arg:
    """A string, a 64-bit number, else the text."""
    text = string(token)
    if text is not None:
        return text
    try:
        number = values.number(bare(token))
    except Unparsed:
        number = 1 << 64
    if -(1 << 63) <= number < 1 << 64:
        return number
    return token.decode("utf-8", "backslashreplace")


ANY = AnyMemo()


def pointer(token: bytes) -> int | None:
    """An address; None where the log shows what it points to instead."""
    try:
        return INT[token]
    except Unparsed:
        return None


def text_of(token: bytes) -> str:
    """A path or name; the pointer's text where it could not be read."""
    text = string(bare_name(token))
    return bare(token).decode("utf-8", "backslashreplace") if text is None else text


_ARGUMENT_NAME = re.compile(rb"[a-z_][a-z0-9_]*=(?![=])")


def bare_name(token: bytes) -> bytes:
    """The token without its argument name (-N)."""
    named = _ARGUMENT_NAME.match(token)
    return token[named.end() :] if named else token


def decoration(token: bytes) -> str | None:
    """The path of a descriptor that -y shows, without its ``(deleted)``; None if it shows none."""
    found = DECORATION.search(token)
    if not found:
        return None
    text = found[0].removesuffix(b"(deleted)")[1:-1].removesuffix(b" (deleted)")
    # -yy: 3</dev/zero<char 1:5>>
    return decoded_path(text.partition(b"<")[0])


def decoded_path(text: bytes) -> str:
    """A path as strace escapes it, decoded."""
    return string(b'"' + text + b'"') or ""


def items_of(token: bytes) -> list[bytes] | None:
    """The items of a bracketed list; None for a pointer."""
    inside = bare_name(token)
    if not inside.startswith(b"["):
        return None
    return split_list(inside[1:].rstrip(b"]"))
