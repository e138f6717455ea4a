"""A log that is still being written: read to its end, then on as it grows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from vmastore.errors import InputError
from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.sources import CHUNK, HEAD, MAX_LINE, Source, check_text
from vmastore.importers.strace import StraceImporter
from vmastore.importers.strace.lexer import Kind, lex
from vmastore.importers.strace.survey import first_process


class Followed:
    """A growing log of strace, one plain file.

    wait: called where the file ends for now; returns whether to look again (False: that was all). Nothing but
    whole lines is read until then. Reading stops by itself when every thread that the log has shown has ended.
    Raises InputError for a file that is missing, packed, binary, or gets shorter.
    """

    def __init__(
        self, path: str | Path, wait: Callable[[], bool], *, name: str | None = None, strict: bool = False
    ) -> None:
        self._path = Path(path)
        self._wait = wait
        self._digest = hashlib.blake2b()
        self._size = 0  # bytes read
        self._rest = b""
        self.importer: StraceImporter | None = None
        self._strict = strict
        self._name = name or self._path.name
        Source(path)  # says what is wrong with a path as for any other input
        try:
            self._stream = self._path.open("rb")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from None
        if not self._path.is_file():
            raise InputError(
                f"{path}: only a plain file can be followed", hint="A pipe is read with: … | vmastore import -"
            )

    @property
    def header(self) -> TraceHeader:
        """The trace's facts."""
        if self.importer is None:
            return TraceHeader(self._name, str(self._path), "strace")
        return self.importer.header

    @property
    def files(self) -> list[FileInfo]:
        """The open file descriptions, by number - 1."""
        return [] if self.importer is None else self.importer.files

    def skips(self) -> list[Skip]:
        """What became no event."""
        return [] if self.importer is None else self.importer.skips()

    @property
    def digest(self) -> str:
        """The digest of what was read: that of the file, if it has not grown since."""
        return self._digest.copy().hexdigest()[:32]

    def batches(self) -> Iterator[list[Event]]:
        """Events as they come: a list for each look at the file that gave some. To be called once."""
        with self._stream:
            while True:
                lines = self._look()
                if lines:
                    events = self._begun(lines).feed_batch(lines)
                    if events:
                        yield events
                elif self._over() or not self._wait():
                    break
        importer = self._begun([])
        last = importer.feed_cut(self._rest) if self._rest else []
        last += importer.finish()
        if last:
            yield last

    def events(self) -> Iterator[Event]:
        """The same, one by one."""
        for batch in self.batches():
            yield from batch

    def _look(self) -> list[bytes]:
        """The whole lines that the file has more by now (a part of them, if they are many)."""
        if self._path.exists() and self._path.stat().st_size < self._size:
            raise InputError(f"{self._path}: has got shorter while it was read")
        data = self._stream.read(CHUNK)
        if not data:
            return []
        if not self._size:
            check_text(data[:HEAD], str(self._path))
            if data.startswith((b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"BZh")):
                raise InputError(f"{self._path}: is compressed: only a plain file can be followed")
        self._size += len(data)
        self._digest.update(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            raise InputError(f"{self._path}: a line is longer than {MAX_LINE >> 20} MiB")
        return lines or self._look()

    def _begun(self, lines: list[bytes]) -> StraceImporter:
        """The importer, made when the log's first lines show what shape they have."""
        if self.importer is None:
            stacks = any(lex(line).kind is Kind.FRAME for line in lines[:2000])
            self.importer = StraceImporter(
                name=self._name, source=str(self._path), stacks=stacks, main_tid=first_process([lines])
            )
            self.importer.account.strict = str(self._path) if self._strict else None
        return self.importer

    def _over(self) -> bool:
        """Whether the log has shown threads, and all of them have ended."""
        importer = self.importer
        if importer is None or self._rest or not importer.tracker.seq:
            return False
        return not importer.tracker.processes.threads and not importer.lookahead.holding
