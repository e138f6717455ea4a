"""Opening input: plain files, .gz, .xz, .zst, standard input; line by line, never all at once."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from vmastore.errors import InputError

_MAX_LINE = 64 << 20  # bytes; no log has such a line, a binary file may


@contextmanager
def open_binary(path: str) -> Iterator[BinaryIO]:
    """The uncompressed bytes of a file (`-`: standard input). Raises InputError."""
    if path == "-":
        yield sys.stdin.buffer
        return
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{path} is a directory", hint="name the file")
    try:
        with open(path, "rb") as raw:
            yield from _decompressed(path, raw)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except PermissionError:
        raise InputError(f"{path}: permission denied") from None


def _decompressed(path: str, raw: BinaryIO) -> Iterator[BinaryIO]:
    magic = raw.read(6)
    raw.seek(0)
    if magic[:2] == b"\x1f\x8b":
        with gzip.open(raw) as unpacked:
            yield cast(BinaryIO, unpacked)
    elif magic == b"\xfd7zXZ\x00":
        with lzma.open(raw) as unpacked_xz:
            yield cast(BinaryIO, unpacked_xz)
    elif magic[:4] == b"\x28\xb5\x2f\xfd":
        yield from _zstd(path)
    else:
        yield io.BufferedReader(cast(io.RawIOBase, raw), 1 << 20)


def _zstd(path: str) -> Iterator[BinaryIO]:
    program = shutil.which("zstd")
    if program is None:
        raise InputError(f"{path}: zstd is needed to read it", hint="install the package zstd, or unpack it")
    with subprocess.Popen([program, "-dcq", path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield cast(BinaryIO, process.stdout)


def open_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line without its newline). Raises InputError for damaged archives."""
    number = 0
    try:
        with open_binary(path) as stream:
            while line := stream.readline(_MAX_LINE):
                number += 1
                yield number, line.rstrip(b"\n")
    except (EOFError, OSError, lzma.LZMAError) as error:
        raise InputError(f"{path}: cannot be unpacked after line {number}: {error}") from None
