"""vmastore's own trace files, read."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from vmastore.errors import InputError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.events.jsoncodec import FORMAT, event_json, file_json, header_json
from vmastore.importers.base import Skip
from vmastore.importers.jsonl import JsonlReader

DATA = Path(__file__).parents[1] / "data" / "vmatrace"
HEADER = TraceHeader("t", "strace.log", "strace")
FILE = FileInfo(1, "/lib/x", "regular")
EVENT = Event(1, 1, 7, 7, None, "munmap", (4096, 4096), 0, 0)


def _write(tmp_path: Path, *lines: dict[str, Any]) -> Path:
    path = tmp_path / "t.vmatrace.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_a_file_of_every_version_reads(version: int) -> None:
    """A file that was written by each version of the format is still read in full."""
    reader = JsonlReader(DATA / f"v{version}.vmatrace.jsonl")
    events = list(reader.events())
    assert [event.seq for event in events] == list(range(1, 61))
    assert reader.header.release == "6.1.0-56-cloud-amd64" and reader.header.format == "vmafuzz"
    assert len(reader.files) == 12 and reader.skips() == []


def test_header_files_events_and_skips_are_those_of_the_file(tmp_path: Path) -> None:
    """A description that comes twice is replaced by the later one."""
    later, skip = FILE._replace(inode=5), Skip(3, "mmap", "no-result", 9, 2)
    path = _write(
        tmp_path,
        header_json(HEADER),
        file_json(FILE),
        event_json(EVENT._replace(file=1)),
        event_json(EVENT._replace(seq=2)),
        file_json(later),
        {"skip": skip._asdict()},
        {"end": 2},
    )
    reader = JsonlReader(path)
    assert list(reader.events()) == [EVENT._replace(file=1), EVENT._replace(seq=2)]
    assert (reader.header, reader.files, reader.skips()) == (HEADER, [later], [skip])
    assert JsonlReader(path, "other").header.name == "other"


def test_a_file_without_its_end_says_so(tmp_path: Path) -> None:
    """What is there is read, the cut is counted with its line."""
    path = _write(tmp_path, header_json(HEADER), event_json(EVENT))
    path.write_text(path.read_text() + '{"seq": 2, "mm"')
    reader = JsonlReader(path)
    assert list(reader.events()) == [EVENT]
    assert reader.skips() == [Skip(None, None, "truncated", 3, 1)]


BAD_LINES: list[tuple[list[dict[str, Any]], str]] = [
    ([event_json(EVENT._replace(seq=2))], ":2: seq is 2 where 1 comes next"),
    ([event_json(EVENT), event_json(EVENT)], ":3: seq is 1 where 2 comes next"),
    ([event_json(EVENT._replace(file=1))], ":2: the event names file 1"),
    ([{"end": 1}], ":2: the end counts 1 events, 0 were read"),
    ([{"end": 0}, event_json(EVENT)], ":3: a line after the end"),
    ([{"what": 1}], ":2: neither an event nor"),
    ([{"skip": 5}], ":2: skip is not an object"),
    ([{"skip": {"why": 5}}], ":2: "),
    ([{"open_file": 1}], ":2: kind is None"),
]


@pytest.mark.parametrize(("lines", "what"), BAD_LINES, ids=[what for _, what in BAD_LINES])
def test_a_line_that_does_not_fit_is_an_error_with_its_number(
    tmp_path: Path, lines: list[dict[str, Any]], what: str
) -> None:
    """Nothing is passed over, nothing is guessed."""
    reader = JsonlReader(_write(tmp_path, header_json(HEADER), *lines))
    with pytest.raises(InputError, match=what):
        list(reader.events())


def test_a_newer_version_asks_for_an_upgrade(tmp_path: Path) -> None:
    """A file of a later vmastore is refused with the way out."""
    with pytest.raises(InputError, match=f"version {FORMAT + 1}") as caught:
        JsonlReader(_write(tmp_path, {**header_json(HEADER), "vmatrace": FORMAT + 1}))
    assert caught.value.hint == "Upgrade vmastore."


@pytest.mark.parametrize("change", [{"vmatrace": "1"}, {"vmatrace": 0}, {"name": 5}, {"colour": "red"}])
def test_a_header_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """The first line is the header."""
    with pytest.raises(InputError, match=":1: not "):
        JsonlReader(_write(tmp_path, {**header_json(HEADER), **change}))


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_is_only_ever_an_input_error(tmp_path: Path, seed: int) -> None:
    """Bytes changed at random: events or InputError, nothing else."""
    rng = random.Random(seed)
    data = bytearray((DATA / "v1.vmatrace.jsonl").read_bytes())
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.choice(b'{}[]",:0123456789nullx\n')
    path = tmp_path / "t.vmatrace.jsonl"
    path.write_bytes(data)
    try:
        assert all(event.seq for event in JsonlReader(path).events())
    except InputError as error:
        assert "t.vmatrace.jsonl" in error.message
