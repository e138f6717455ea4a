"""Events put beside a log's: numbered anew, and read no further than asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmastore.errors import InputError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.beside import Besides, Spaces, Started


class Reader:
    """Three events; counts how many were asked for."""

    header = TraceHeader("x", "x", "strace", note="one")
    files: list[FileInfo] = []
    given = 0

    def events(self) -> Iterator[Event]:
        for seq in (1, 2, 3):
            self.given += 1
            yield Event(seq, 1, 7, 7, None, "munmap", (seq << 12, 4096), 0, 0)

    def skips(self) -> list[Skip]:
        return [Skip(None, None, "text", 1, 1)]


class Doubling:
    """Follows each event with a note."""

    note = "two"

    def events(self, stream: Iterator[Event]) -> Iterator[Event]:
        for event in stream:
            yield event
            yield Event(0, 1, 7, 7, None, "note", ("x", {}), 0, 0)


def test_all_events_are_numbered_anew() -> None:
    """What a stage adds counts; the notes are put together, the rest is the reader's."""
    reader = Besides(Reader(), [Doubling()])
    events = list(reader.events())
    assert [(event.seq, event.call) for event in events] == [
        (seq, "munmap" if seq % 2 else "note") for seq in range(1, 7)
    ]
    assert reader.header.note == "one; two"
    assert (reader.files, reader.skips()) == ([], [Skip(None, None, "text", 1, 1)])


def test_a_started_reader_has_read_one_event() -> None:
    """Its errors of the beginning are raised when it is made; its events are all of them."""
    inner = Reader()
    reader = Started(inner)
    assert inner.given == 1
    assert [event.seq for event in reader.events()] == [1, 2, 3]
    assert reader.header is inner.header and reader.skips() and reader.files == []

    class Bad(Reader):
        def events(self) -> Iterator[Event]:
            raise InputError("bad")
            yield

    with pytest.raises(InputError):
        Started(Bad())


def test_spaces_follow_fork_and_exec() -> None:
    """Each process's address space, as the events say."""
    spaces = Spaces()
    for event in (
        Event(1, 0, 7, 7, None, "execve", ("/x", [], 1), 0, 0),
        Event(2, 1, 7, 7, None, "clone", (17, 2), 8, 0),
        Event(3, 1, 7, 7, None, "clone", (0x100, 1), 9, 0),
        Event(4, 2, 8, 8, None, "execve", ("/y", [], 3), 0, 0),
        Event(5, 2, 8, 8, None, "execve", ("/z", [], None), None, 2),
    ):
        spaces.follow(event)
    assert (spaces.of[7], spaces.first) == (1, 7)
    assert spaces.of[8] == 2  # a failed exec is of the address space it is made in
