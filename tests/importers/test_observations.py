"""Saved maps and smaps beside a log: where they are put, and what the replay says to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmastore.errors import InputError
from vmastore.events import Event
from vmastore.importers.beside import Besides
from vmastore.importers.observations import Observing, parse_observation
from vmastore.importers.strace import StraceReader
from vmastore.mm.rules import resolve
from vmastore.replay.verify import Verifier
from vmastore.replay.verify_report import Report
from vmastore.replay.world import World

ATTACH = Path(__file__).parents[1] / "data" / "attach"  # steps.c under `strace -f -ttt -T -y -p`, of Linux 6.18


def _read(log: str | Path, *observed: str, one_process: int | None = 0) -> tuple[Besides, list[Event]]:
    reader = Besides(
        StraceReader([log], one_process=one_process), [Observing([parse_observation(text) for text in observed])]
    )
    events = list(reader.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return reader, events


def _verify(reader: Besides, events: list[Event]) -> Report:
    return Verifier(World(reader.header, reader.files, resolve("6.18"))).run(events)


def _kinds(events: list[Event]) -> list[tuple[str, int]]:
    """Each observation's kind, and the line of the event before it."""
    lines = [0, *(event.source_line or 0 for event in events)]
    return [(e.args[0], max(lines[: e.seq])) for e in events if e.call == "maps"]


def test_an_attached_process_is_exact_from_its_baseline_on() -> None:
    """With the smaps of before, and of one time and one line, every line and flag of both is as replayed; the
    thread that ran already shares the address space."""
    reader, events = _read(
        ATTACH / "attach.log",
        f"{ATTACH}/start.smaps",
        f"2466={ATTACH}/mid.smaps@1795524131.6455145",
        f"{ATTACH}/end.maps@20",
    )
    assert _kinds(events) == [("baseline", 0), ("check", 15), ("check", 20)]
    assert {event.mm for event in events if event.mm} == {1}
    assert {event.pid for event in events if event.tid == 2467} == {2466}
    report = _verify(reader, events)
    assert (report.compared, report.mismatches, report.mismatches_assumed, report.errno_mismatches) == (2, 0, 0, 0)
    assert "one process" in (reader.header.note or "")


def test_a_wrong_observation_is_a_mismatch() -> None:
    """The check is one: the state of the middle, said to be the end's, differs."""
    reader, events = _read(ATTACH / "attach.log", f"{ATTACH}/start.smaps", f"{ATTACH}/mid.smaps@20")
    report = _verify(reader, events)
    assert report.mismatches + report.mismatches_assumed == 1
    assert report.first_mismatch is not None and report.first_mismatch.observed


def test_the_first_observation_is_the_baseline() -> None:
    """Without one of the beginning, the state is known from the first observation on."""
    reader, events = _read(ATTACH / "attach.log", f"{ATTACH}/start.smaps@1", f"{ATTACH}/end.maps@20")
    assert [kind for kind, _ in _kinds(events)] == ["baseline", "check"]
    assert _verify(reader, events).mismatches == 0


def _small(tmp_path: Path, stamp: str) -> tuple[Path, Path]:
    log, maps = tmp_path / "x.log", tmp_path / "a@b.maps"
    log.write_text(
        "".join(f"7 {stamp.format(n)}munmap(0x{n}000, 4096) = 0\n" for n in range(1, 5))
        + f"7 {stamp.format(5)}fork() = 8\n8 {stamp.format(6)}munmap(0x6000, 4096) = 0\n"
        + f'8 {stamp.format(7)}execve("/x", ["x"], NULL) = 0\n8 {stamp.format(8)}brk(NULL) = 0x9000\n'
    )
    maps.write_text("00010000-00011000 rw-p 00000000 00:00 0 \n")
    return log, maps


PLACES = {
    "start": ("", "", 0, 1),
    "line": ("", "@3", 3, 1),
    "last line": ("", "@8", 8, 1),
    "behind the end": ("", "@900", 8, 1),
    "day": ("", "@00:00:03.5", 3, 1),
    "child": ("8=", "@6", 6, 2),
    "child's new program": ("8=", "@7", 7, 3),
}


@pytest.mark.parametrize(("who", "where", "line", "mm"), PLACES.values(), ids=PLACES)
def test_places(tmp_path: Path, who: str, where: str, line: int, mm: int) -> None:
    """Behind the line, before the first event after the time; of the process named. A name may hold @."""
    log, maps = _small(tmp_path, "00:00:0{} ")
    reader, events = _read(log, f"{who}{maps}{where}", one_process=None)
    at = next(event.seq for event in events if event.call == "maps")
    assert events[at - 1].mm == mm
    assert max([0, *(event.source_line or 0 for event in events[:at])]) == line
    assert ("first process" in (reader.header.note or "")) == (not who and line == 8)


def test_a_time_since_the_epoch(tmp_path: Path) -> None:
    """-ttt: the second as a whole number is a time, not a line."""
    log, maps = _small(tmp_path, "179549022{}.5 ")
    _, events = _read(log, f"{maps}@1795490223", one_process=None)
    assert _kinds(events)[0][1] == 2


def test_a_child_of_a_known_process_is_known(tmp_path: Path) -> None:
    """A fork copies the baseline's state: an observation of the child is a check, of its new program a baseline."""
    log, maps = _small(tmp_path, "")
    _, events = _read(log, f"{maps}", f"8={maps}@6", f"8={maps}@7", one_process=None)
    assert [kind for kind, _ in _kinds(events)] == ["baseline", "check", "baseline"]


BAD = {
    "no such file": ("nowhere.maps", "No such file"),
    "neither line nor time": ("{maps}@later", "neither a line nor a time"),
    "line 0": ("{maps}@0", "neither a line nor a time"),
    "the log's clock is another": ("{maps}@1795490223.5", "the log prints times of day"),
    "no maps": ("{log}@3", "not a line of /proc/PID/maps"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_one_error(tmp_path: Path, text: str, message: str) -> None:
    """A bad option is an InputError, before anything of the log has been given."""
    log, maps = _small(tmp_path, "00:00:0{} ")
    with pytest.raises(InputError) as error:
        reader = Besides(StraceReader([log]), [Observing([parse_observation(text.format(maps=maps, log=log))])])
        next(reader.events())
    assert message in error.value.message


def test_what_finds_no_place_is_said(tmp_path: Path) -> None:
    """An observation of a process that the log does not show is left out, and the note says so; a log without
    times cannot have one at a time."""
    log, maps = _small(tmp_path, "")
    reader, events = _read(log, f"99={maps}", f"98={maps}@2", one_process=None)
    assert not _kinds(events)
    assert (reader.header.note or "").count("shows no process") == 2
    with pytest.raises(InputError, match="prints no times"):
        _read(log, f"{maps}@1795490223.5")
