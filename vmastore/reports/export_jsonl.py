"""Traces as vmastore's own files: JSON lines (docs/trace-format.md)."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO, cast

from vmastore.errors import InputError
from vmastore.events.jsoncodec import Json, event_json, file_json, header_json
from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def export_jsonl(
    header: TraceHeader,
    files: list[FileInfo],
    events: Iterable[Event],
    out: TextIO,
    skips: Iterable[Skip] = (),
) -> int:
    """Write a trace; reading it gives the same header, files and events. Returns the number of events.

    `files` may grow and change while `events` is read (a TraceReader's do): a description is written
    before the first event that follows it, and once more at the end if it has changed. `skips` is
    read last.
    """
    written: list[FileInfo] = []
    _write(out, header_json(header))
    count = 0
    for event in events:
        for info in files[len(written) :]:
            written.append(info)
            _write(out, file_json(info))
        _write(out, event_json(event))
        count += 1
    for position, info in enumerate(files):
        if position >= len(written) or written[position] != info:
            _write(out, file_json(info))
    for skip in skips:
        _write(out, {"skip": skip._asdict()})
    _write(out, {"end": count})
    return count


def _write(out: TextIO, data: Json) -> None:
    out.write(_encode(data) + "\n")


def open_output(path: str | Path) -> TextIO:
    """A file to export into, packed as its name says (.gz, .xz), - for standard output. Raises InputError."""
    try:
        if str(path) == "-":
            sys.stdout.flush()
            return open(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
        if str(path).endswith(".gz"):
            return cast(TextIO, gzip.open(path, "wt", encoding="ascii", compresslevel=6))
        if str(path).endswith(".xz"):
            return cast(TextIO, lzma.open(path, "wt", encoding="ascii"))
        return Path(path).open("w", encoding="ascii")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
