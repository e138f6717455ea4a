"""From what the user names to readers: the format is recognised by content, not by name."""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from vmastore.errors import InputError
from vmastore.importers import vectors
from vmastore.importers.base import TraceReader
from vmastore.importers.faults import Fault, parse_line
from vmastore.importers.jsonl import JsonlReader
from vmastore.importers.maprec import MaprecReader
from vmastore.importers.maps_file import MapsReader, is_maps_line, process_of
from vmastore.importers.perftrace import PerfTraceReader, is_perf_trace
from vmastore.importers.sources import Source
from vmastore.importers.vmafuzz import VmafuzzReader

Opener = Callable[[Source, "str | None"], "list[TraceReader]"]

_JSON_TAG = re.compile(rb'\s*\{\s*"(vmatrace|vmafuzz|maprec)"\s*:')
_JSON_FORMATS = {b"vmatrace": "jsonl", b"vmafuzz": "vmafuzz", b"maprec": "maprec"}
_HEAD_LINES = 20  # of these, one decides


def open_traces(path: str | Path, format: str = "auto", name: str | None = None) -> list[TraceReader]:
    """The traces of one input, usually one; `vectors` hold one a seed.

    path: a file (packed or not), the NAME or folder of a family of `strace -ff`, ``pid:1234``, or
    ``-`` for standard input. format: ``auto`` or one of FORMATS. name: the trace's, else the file's.
    Raises InputError for what is none of these, or is not of the format asked for.
    """
    if format != "auto" and format not in FORMATS:
        raise InputError(f"unknown format {format!r}", hint=f"Formats: auto, {', '.join(FORMATS)}.")
    path = str(path)
    if process_of(path) is not None:
        return [MapsReader(path, name)]
    if path == "-":
        return _standard_input(format, name)
    if _is_stream(path):
        with Path(path).open("rb") as stream:
            return _put_aside(stream, path, format, name or Path(path).name)
    source = Source(path)
    kind = _kind_of(source) if format == "auto" else format
    return OPENERS[kind](source, name)


def format_of(path: str | Path, format: str = "auto") -> str:
    """The format of a file by its content, unless one is asked for. Standard input is taken for a strace log."""
    if format != "auto":
        return format
    return "strace" if str(path) == "-" else _kind_of(Source(path))


def _kind_of(source: Source) -> str:
    """A family of logs has no file of that name: it is strace's to look for."""
    return recognise(_head(source), source.name) if Path(source.path).is_file() else "strace"


def _head(source: Source) -> list[bytes]:
    batch: list[bytes] = next(iter(source.batches()), [])
    return batch[:_HEAD_LINES]


def recognise(lines: list[bytes], name: str = "input") -> str:
    """The format of a text by its first lines; what looks like none of ours is strace's to judge."""
    shown = [line for line in lines if line.strip()]
    if not shown:
        return "strace"
    tag = _JSON_TAG.match(shown[0])
    if tag:
        return _JSON_FORMATS[tag[1]]
    if shown[0].lstrip().startswith(b"{"):
        raise InputError(
            f"{name}: JSON lines of an unknown kind: {shown[0][:60].decode('utf-8', 'backslashreplace')!r}",
            hint='The first line of a trace file begins with {"vmatrace": 1, … (see docs/trace-format.md).',
        )
    if is_maps_line(shown[0].rstrip(b"\r").decode("utf-8", "surrogateescape")):
        return "maps"
    if _is_vectors(shown):
        return "vectors"
    if is_perf_trace(shown):
        return "perf"
    if any(isinstance(parse_line(line), Fault) for line in shown):
        raise _faults_alone(name)
    return "strace"


def _faults_alone(name: str) -> InputError:
    """Page faults change nothing without the calls between them."""
    return InputError(
        f"{name}: holds page faults, which belong beside the log of the same run",
        hint=f"vmastore import LOG --faults-from {name}",
    )


def _is_vectors(lines: list[bytes]) -> bool:
    first = next((line for line in lines if not line.startswith(b"#")), b"")
    return re.match(rb"seed \d+\r?\Z", first) is not None


# -- standard input and pipes


def _standard_input(format: str, name: str | None) -> list[TraceReader]:
    """strace's logs stream; the other formats are read twice, so they are put aside first."""
    if format == "strace" or (format == "auto" and _strace_waits()):
        return OPENERS["strace"](Source("-"), name or "stdin")
    return _put_aside(_stdin(), "standard input", format, name or "stdin")


def _is_stream(path: str) -> bool:
    """A pipe with a name, as the shell's <(…): it can be read once only."""
    place = Path(path)
    return place.exists() and not place.is_file() and not place.is_dir()


def _put_aside(stream: IO[bytes], shown: str, format: str, name: str) -> list[TraceReader]:
    """Readers of a copy of `stream`, which errors and headers call `shown`."""
    spool = cast(IO[bytes], tempfile.NamedTemporaryFile(prefix="vmastore-"))  # noqa: SIM115 (the readers keep it)
    shutil.copyfileobj(stream, spool)
    spool.flush()
    source = Source(spool.name)
    source.name = shown
    kind = recognise(_head(source), source.name) if format == "auto" else format
    readers = OPENERS[kind](source, name)
    for reader in readers:
        weakref.finalize(reader, _keep, spool)  # the file goes when the last reader does
    return readers


def _strace_waits() -> bool:
    """Whether the bytes that wait in standard input, which stay there, are the beginning of a strace log."""
    if not isinstance(_stdin(), io.BufferedReader):
        return False
    head = cast(io.BufferedReader, _stdin()).peek(1)
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(31).decompress(head)
        except zlib.error:
            return False
    lines = head.split(b"\n")
    return b"\0" not in head and len(lines) > 1 and recognise(lines[:-1], "standard input") == "strace"


def _stdin() -> IO[bytes]:
    return cast(IO[bytes], getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode()))


def _keep(_: Any) -> None:
    """Hold a reference until the finalizer has run."""


# -- one opener a format


def _strace(source: Source, name: str | None) -> list[TraceReader]:
    from vmastore.importers.strace import StraceReader

    return [StraceReader([source.path], name=name)]


def _vectors(source: Source, name: str | None) -> list[TraceReader]:
    return list(vectors.readers(source, name))


def _ftrace(source: Source, name: str | None) -> list[TraceReader]:
    raise _faults_alone(source.name)


OPENERS: dict[str, Opener] = {
    "strace": _strace,
    "jsonl": lambda source, name: [JsonlReader(source, name)],
    "vmafuzz": lambda source, name: [VmafuzzReader(source, name)],
    "maprec": lambda source, name: [MaprecReader(source, name)],
    "vectors": _vectors,
    "maps": lambda source, name: [MapsReader(source, name)],
    "perf": lambda source, name: [PerfTraceReader(source, name)],
    "ftrace": _ftrace,
}
FORMATS = tuple(OPENERS)
