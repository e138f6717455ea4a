"""Events to rows and back. The stored form of an event is what its hash covers.

A row is (mm, pid, tid, ts_ns, call, args, result, errno, file, injected, site, source_line,
source_offset): `args` is the JSON array of the arguments, `result` signed 64 bits. Payload version 1.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

DIGEST = 16  # bytes of the chain hash
GENESIS = bytes(DIGEST)  # the hash before the first event
PAYLOAD_VERSION = 1

_encode = json.JSONEncoder(separators=(",", ":")).encode
# templates of the commonest arrays, by the types of their values: up to 7 integers
NUMBERS: dict[tuple[type, ...], str] = {(int,) * n: "[" + ",".join(["%d"] * n) + "]" for n in range(8)}
UNSIGNED = {"mmap", "mremap", "brk", "shmat", "map_shadow_stack"}  # calls that return an address
_HASHED = "\x1f".join(["%s"] * 14)
blank = blake2b(digest_size=DIGEST).copy  # twice as fast as a new one
_NO_LINES = blake2b(b"[[],[]]", digest_size=DIGEST).hexdigest()
_TOP = 1 << 63
_WRAP = 1 << 64
Row = tuple[Any, ...]


def encode_args(args: tuple[Any, ...]) -> str:
    """JSON array without spaces, in ASCII: bytes of a path that are no UTF-8 survive as escapes."""
    form = NUMBERS.get((*map(type, args),))
    return _encode(args) if form is None else form % args


def decode_args(text: str) -> tuple[Any, ...]:
    """The arguments of a stored array; one of integers alone, the commonest, is read the short way."""
    try:
        return tuple(map(int, text[1:-1].split(",")))
    except ValueError:  # a string, null, an array in the array, …: its mark is in one of the pieces
        return tuple(json.loads(text))


def clean(text: str) -> str:
    """Text that any database takes: lone surrogates (bytes that are no UTF-8) as \\xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if not text.isascii() else text


def to_signed(value: int | None) -> int | None:
    return value - _WRAP if value is not None and value >= _TOP else value


def chain(previous: bytes, seq: int, call: str, row: Row, site: str | None) -> bytes:
    """The hash of a stored row: numbers of interned strings stay out, the call and the site go in by name."""
    mm, pid, tid, ts_ns, _, args, result, errno, file, injected, _, line, offset = row
    return link(previous, seq, mm, pid, tid, ts_ns, call, args, result, errno, file, injected, site, line, offset)


def link(
    previous: bytes,
    seq: int,
    mm: int,
    pid: int,
    tid: int,
    ts_ns: int | None,
    call: str,
    args: str,
    result: int | None,
    errno: int,
    file: int | None,
    injected: int,
    site: str | None,
    line: int | None,
    offset: int | None,
) -> bytes:
    """The hash of an event, over its fields as stored and the hash before it (blake2b, 16 bytes)."""
    shown = "" if site is None else "+" + site
    fields = (seq, mm, pid, tid, ts_ns, call, args, result, errno, file, injected, shown, line, offset)
    return digest(previous, _HASHED % fields)


def digest(previous: bytes, text: str) -> bytes:
    """The hash of the text of an event's fields and of the hash before it."""
    state = blank()
    state.update(previous + text.encode("utf-8", "surrogatepass"))
    return state.digest()


def pack_maps(args: tuple[Any, ...]) -> tuple[str, str, bytes | None]:
    """(the args that are hashed, those to store in the row, the payload) of a `maps` event.

    Its lines go apart, compressed: the payload. What is hashed has their digest, so that the chain covers them.
    An observation of no lines, that nothing has changed, is stored without digest and payload.
    """
    kind, count, removed, added = args
    if removed == [] and added == []:
        short = encode_args((kind, count))
        return whole_maps(short), short, None
    payload = json.dumps([removed, added], separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    shown = encode_args((kind, count, blake2b(payload, digest_size=DIGEST).hexdigest()))
    return shown, shown, zlib.compress(payload, 1)


def whole_maps(args: str) -> str:
    """The stored args of a `maps` event as they are hashed: with the digest, that of no lines where there is none."""
    return args if args.endswith('"]') else f'{args[:-1]},"{_NO_LINES}"]'


def unpack_maps(args: Sequence[Any], payload: bytes | None) -> tuple[Any, ...]:
    """The arguments of a `maps` event (payload None: none is stored).

    Raises ValueError if the payload is not the one hashed.
    """
    if payload is None:
        if len(args) > 2 and args[2] != _NO_LINES:
            raise ValueError("the observed maps are missing")
        return args[0], args[1], [], []
    raw = zlib.decompress(payload)
    if blake2b(raw, digest_size=DIGEST).hexdigest() != args[2]:
        raise ValueError("the observed maps are not what was stored")
    removed, added = json.loads(raw.decode("utf-8", "surrogatepass"))
    return args[0], args[1], removed, added
