"""Opening what the user names: files, stdin, compressed ones, families of `strace -ff`.

Every reader of text gets its lines from here in batches, so that a binary file, a damaged archive or
an endless line is one InputError that names the file and the place.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, cast

from vmastore.errors import InputError

CHUNK = 1 << 18
HEAD = 1 << 16  # bytes that decide whether a file is text
MAX_LINE = 1 << 23

_GZIP, _XZ, _ZSTD, _BZIP2 = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"BZh"
_BINARIES = {
    b"\x7fELF": "an ELF file",
    b"PERFILE2": "a perf.data file",
    b"SQLite format 3": "an SQLite database",
    b"PK\x03\x04": "a zip archive",
}
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)


class Source:
    """One input: a path, or ``-`` for standard input."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.name = "standard input" if self.path == "-" else self.path
        self.cut = False  # the batch given last is one line that had no newline

    def batches(self, chunk: int = CHUNK) -> Iterator[list[bytes]]:
        """The text's lines without their newlines, in lists. See `cut` for the last.

        Raises InputError for what cannot be opened or read, is binary, or has a line above MAX_LINE.
        """
        try:
            stream = self._open()
        except OSError as error:
            raise InputError(f"{self.name}: {error.strerror or error}") from None
        with stream:
            yield from self._split(stream, chunk)

    def _split(self, stream: BinaryIO, size: int) -> Iterator[list[bytes]]:
        rest, done, first = b"", 0, True
        while True:
            chunk = self._read(stream, size, done + len(rest))
            if first:
                check_text(chunk[:HEAD], self.name)
                first = False
            if not chunk:
                break
            lines = (rest + chunk).split(b"\n")
            done += len(rest) + len(chunk)
            rest = lines.pop()
            done -= len(rest)
            if len(rest) > MAX_LINE:
                raise InputError(f"{self.name}: the line at byte {done} is longer than {MAX_LINE >> 20} MiB")
            if lines:
                yield lines
        if rest:
            self.cut = True
            yield [rest]

    def _read(self, stream: BinaryIO, size: int, done: int) -> bytes:
        try:
            return stream.read(size)
        except _DAMAGE as error:
            raise InputError(
                f"{self.name}: cannot be read past byte {done} of its text: {error}",
                hint="The file is damaged or was cut off; decompress as much of it as you can and import that.",
            ) from None

    def _open(self) -> BinaryIO:
        if self.path == "-":
            raw: IO[bytes] = sys.stdin.buffer
        else:
            if Path(self.path).is_dir():
                raise InputError(f"{self.name}: is a directory")
            raw = Path(self.path).open("rb")  # noqa: SIM115 (closed by the caller)
        return self._decompress(cast(io.BufferedReader, raw))

    def _decompress(self, raw: io.BufferedReader) -> BinaryIO:
        magic = raw.peek(8)[:8]
        if magic.startswith(_GZIP):
            return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
        if magic.startswith(_XZ):
            return cast(BinaryIO, lzma.LZMAFile(raw))
        if magic.startswith(_BZIP2):
            return cast(BinaryIO, bz2.BZ2File(raw))
        if magic.startswith(_ZSTD):
            return self._zstd(raw)
        return cast(BinaryIO, raw)

    def _zstd(self, raw: io.BufferedReader) -> BinaryIO:
        try:
            module = importlib.import_module("zstandard")
        except ImportError:
            return cast(BinaryIO, _ZstdProgram(raw, self.name))
        reader = module.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        return cast(BinaryIO, reader)


class _ZstdProgram:
    """The output of ``zstd -dc``."""

    def __init__(self, raw: io.BufferedReader, name: str) -> None:
        program = shutil.which("zstd")
        if program is None or name == "standard input":
            raise InputError(
                f"{name}: is compressed with zstd",
                hint="Install the zstd program or the Python package zstandard, or decompress it first.",
            )
        raw.close()
        self._name = name
        self._process = subprocess.Popen(
            [program, "-dcq", "--", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def read(self, size: int) -> bytes:
        assert self._process.stdout is not None and self._process.stderr is not None
        data = self._process.stdout.read(size)
        if not data and self._process.wait():
            message = self._process.stderr.read().decode("utf-8", "replace").strip()
            raise OSError(message or "zstd failed")
        return data

    def __enter__(self) -> _ZstdProgram:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def check_text(head: bytes, name: str) -> None:
    """Raise InputError when the beginning of a file is not text."""
    for magic, what in _BINARIES.items():
        if head.startswith(magic):
            perf = f"vmastore import LOG --faults-from {name}" if magic == b"PERFILE2" else None
            raise InputError(f"{name}: is {what}, not a log", hint=perf)
    zero = head.find(b"\0")
    if zero >= 0:
        raise InputError(f"{name}: byte {zero} is 0: this is a binary file, not a log")


class Member(NamedTuple):
    """One file of a family: strace -ff writes NAME.TID for each thread."""

    tid: int
    source: Source


_MEMBER = re.compile(r"(?P<stem>.*)\.(?P<tid>\d{1,7})(?:\.(?:gz|xz|zst|bz2))?\Z")


def family(path: str | Path) -> list[Member]:
    """The files of `strace -ff` that `path` stands for, by tid; empty if it is no family.

    `path` is the NAME given to -o, or a folder that holds one family.
    """
    where = Path(path)
    if str(path) == "-" or where.is_file():
        return []
    if where.is_dir():
        members = _members(where, None)
        if len({stem for stem, _ in members}) > 1:
            stems = ", ".join(sorted({stem for stem, _ in members}))
            raise InputError(f"{path}: holds several logs: {stems}", hint="Name one of them.")
        return [member for _, member in members]
    if not where.parent.is_dir():
        return []
    return [member for _, member in _members(where.parent, where.name)]


def _members(folder: Path, stem: str | None) -> list[tuple[str, Member]]:
    found = []
    for file in folder.iterdir():
        match = _MEMBER.match(file.name)
        if match and file.is_file() and stem in (None, match["stem"]):
            found.append((match["stem"], Member(int(match["tid"]), Source(file))))
    return sorted(found, key=lambda entry: entry[1].tid)


def member_of(path: str | Path) -> Member | None:
    """One file of a family, named by itself."""
    match = _MEMBER.match(Path(path).name)
    return Member(int(match["tid"]), Source(path)) if match else None
