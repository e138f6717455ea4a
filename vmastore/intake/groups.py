"""What an import is given, as readers: logs, families of logs, and what stands beside a log."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmastore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vmastore.events.brief import Given
    from vmastore.importers.base import TraceReader
    from vmastore.importers.beside import Stage
    from vmastore.importers.found import LogReader
    from vmastore.importers.observations import Observation
    from vmastore.recorder.faulted import FaultedLog

_LOGS = ("strace",)
_SECONDS = re.compile(r"(?P<sign>[+-]?)(?P<whole>\d{1,10})(?:\.(?P<fraction>\d{1,9}))?\Z")


@dataclass(frozen=True)
class Beside:
    """What adds to a log, as the command line writes it."""

    maps: tuple[str, ...] = ()  # each [PID=]FILE[@LINE|@TIME]
    execs: tuple[str, ...] = ()  # executables
    found: bool = True  # programs that are at their paths here
    faults: str | None = None  # FILE[@SECONDS]

    @property
    def words(self) -> list[str]:
        """Everything that makes the trace another one."""
        words = [*(f"maps {text}" for text in self.maps), *(f"exec {text}" for text in self.execs)]
        return words if self.faults is None else [*words, f"faults {self.faults}"]


def groups(paths: Sequence[str]) -> list[list[str]]:
    """What is one trace each: a file, or the files of one `strace -ff`."""
    from vmastore.importers.sources import member_of

    members = [member_of(path) for path in paths]
    stems = {
        (Path(path).parent, Path(path).name.partition(f".{m.tid}")[0])
        for path, m in zip(paths, members, strict=True)
        if m
    }
    if len(paths) > 1 and all(members) and len(stems) == 1 and len({m.tid for m in members if m}) == len(paths):
        return [list(paths)]
    return [[path] for path in paths]


def open_group(
    paths: Sequence[str], format: str, name: str | None, beside: Beside, strict: bool = False
) -> list[TraceReader]:
    """The readers of one group. strict: the first line of a log that becomes no event raises. Raises InputError."""
    from vmastore.importers.beside import Besides, Started
    from vmastore.importers.detect import format_of, open_traces
    from vmastore.importers.found import with_images

    if len(paths) == 1 and not beside.words:
        readers = open_traces(paths[0], format, name)
        if beside.found:
            readers = [with_images(reader, logs=paths) for reader in readers]
        return [Started(_strict(reader, paths[0], strict)) for reader in readers]
    if format_of(paths[0], format) not in _LOGS:
        raise InputError(f"{paths[0]}: --maps, --exec and --faults-from belong to a strace log")
    observations = _observations(beside, paths)
    reader = _log(paths, name, beside.faults, _one_process(observations))
    return [Started(Besides(_strict(reader, paths[0], strict), _stages(reader, paths, beside, observations)))]


def _strict(reader: TraceReader, path: str, strict: bool) -> TraceReader:
    importer = getattr(reader, "importer", None)
    if strict and importer is not None:
        importer.account.strict = path
    return reader


def followed_key(path: str, beside: Beside) -> str:
    """What tells a log that grows from others: where it is."""
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    return _key(f"follow:{Path(path).resolve()}:{stat.st_dev}:{stat.st_ino}", beside)


def followed(
    path: str, wait: Callable[[], bool], beside: Beside, name: str | None, strict: bool = False
) -> tuple[TraceReader, Iterator[Sequence[Given]], Callable[[], str]]:
    """A log that grows: its reader, its batches, and, when they have ended, the key of what was read."""
    from vmastore.importers.beside import lists
    from vmastore.importers.follow import Followed
    from vmastore.importers.found import with_images

    log = Followed(path, wait, name=name, strict=strict)
    reader = with_images(log, beside.execs, [path]) if beside.found else log
    return reader, lists(reader), lambda: f"{_key(log.digest, beside)}:0"


def _log(
    paths: Sequence[str], name: str | None, faults: str | None, one_process: int | None
) -> LogReader | FaultedLog:
    from vmastore.importers.strace import StraceReader

    if faults is None:
        return StraceReader(paths, name=name, one_process=one_process)
    from vmastore.recorder.faulted import FaultedLog

    if len(paths) > 1 or not Path(paths[0]).is_file():
        raise InputError("--faults-from: the log must be one file", hint="strace-log-merge makes one of many.")
    file, offset_ns = _faults(faults)
    return FaultedLog(paths[0], file, name=name, offset_ns=offset_ns, one_process=one_process)


def _faults(text: str) -> tuple[str, int | None]:
    """FILE[@OFFSET]: the file, and the seconds that its times are to be moved by, in ns."""
    file, sign, offset = text.rpartition("@")
    if not sign or Path(text).exists():
        return text, None
    match = _SECONDS.match(offset)
    if not match:
        raise InputError(f"--faults-from {text!r}: {offset!r} is no number of seconds", hint="for example @-0.25")
    whole = int(match["whole"]) * 10**9 + int((match["fraction"] or "").ljust(9, "0"))
    return file, -whole if match["sign"] == "-" else whole


def _observations(beside: Beside, paths: Sequence[str]) -> list[Observation]:
    from vmastore.importers.observations import parse_observation
    from vmastore.importers.sources import family

    found = [parse_observation(text) for text in beside.maps]
    by_line = next((one for one in found if one.line is not None), None)
    if by_line is not None and (len(paths) > 1 or family(paths[0])):
        raise InputError(f"--maps {by_line.source}@{by_line.line}: the log is several files", hint="Give a time.")
    return found


def _one_process(observations: Sequence[Observation]) -> int | None:
    """With one maps of the log's beginning: the process whose threads are all that there were then."""
    initial = [one for one in observations if one.initial]
    return (initial[0].pid or 0) if len(initial) == 1 else None


def _stages(
    reader: LogReader | FaultedLog, paths: Sequence[str], beside: Beside, observations: list[Observation]
) -> list[Stage]:
    from vmastore.importers.found import images_of
    from vmastore.importers.observations import Observing

    stages: list[Stage] = []
    if beside.execs or beside.found:
        stages.append(images_of(reader, beside.execs, paths))
    if observations:
        stages.append(Observing(observations))
    return stages


def source_key(paths: Sequence[str], beside: Beside) -> str | None:
    """What tells one source from another: its content, and that of what is added. None: it can be read once only."""
    files = _files(paths)
    if not files:
        return None
    digest = _digest(files[0]) if len(files) == 1 else _joined([f"{file.name} {_digest(file)}" for file in files])
    return _key(digest, beside)


def _key(digest: str, beside: Beside) -> str:
    words = [*beside.words, *([] if beside.found else ["no-exec"])]
    return _joined([digest, *words, *(_digest(file) for file in _named_in(beside))]) if words else digest


def _files(paths: Sequence[str]) -> list[Path]:
    """The files that are read: of a family, its members."""
    from vmastore.importers.sources import family

    if len(paths) == 1 and not Path(paths[0]).is_file():
        return [Path(member.source.path) for member in family(paths[0])]
    return [Path(path) for path in paths if Path(path).is_file()]


def _named_in(beside: Beside) -> list[Path]:
    texts = [part for text in beside.maps for part in (text, text.partition("=")[2])] + [beside.faults or ""]
    files = [Path(part) for text in texts for part in (text, text.rpartition("@")[0])]
    return [file for file in files if str(file) != "." and file.is_file()]


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()[:32]


def _joined(parts: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
