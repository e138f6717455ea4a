"""Holding records back until a new thread's parent is known."""

from __future__ import annotations

from vmastore.importers.strace import StraceImporter
from vmastore.importers.strace.lookahead import Lookahead

START = [b'60 execve("/a", ["a"], 0x7f) = 0', b"60 fork( <unfinished ...>"]


def _events(importer: StraceImporter, lines: list[bytes]) -> list[tuple[int, str]]:
    return [(event.tid, event.call) for event in importer.feed_batch(lines)]


def test_nothing_is_given_while_a_parent_is_looked_for() -> None:
    """From a new thread's first line to its maker's return the records wait, then come in their order."""
    importer = StraceImporter(name="t", source="t")
    assert _events(importer, START) == [(60, "execve")]
    assert _events(importer, [b"61 brk(NULL) = 0", b"61 close(3) = 0"]) == []
    assert importer.lookahead.holding
    assert _events(importer, [b"60 <... fork resumed>) = 61"]) == [(60, "fork"), (61, "brk"), (61, "close")]
    assert not importer.lookahead.holding


def test_a_thread_that_nobody_made_was_there_before() -> None:
    """When every fork in flight has returned another child, the thread is taken for one that was running."""
    importer = StraceImporter(name="t", source="t")
    lines = [b"99 brk(NULL) = 0", b"60 <... fork resumed>) = 61", b"61 close(3) = 0"]
    assert _events(importer, [*START, *lines])[1:] == [(99, "brk"), (60, "fork"), (61, "close")]
    assert importer.mm_of(99) not in (0, importer.mm_of(60), importer.mm_of(61))


def test_it_waits_no_longer_than_its_limit() -> None:
    """A fork that never returns holds back a bounded number of records; its oldest caller is the parent."""
    importer = StraceImporter(name="t", source="t")
    lookahead = Lookahead(importer.tracker, 5)
    held = []
    for number, line in enumerate([*START, *[b"61 close(3) = 0"] * 6], 1):
        for record in importer.joiner.feed(line, number, 0):
            lookahead.push(record)
        held.append(lookahead.holding)
    assert held == [False, False, *[True] * 5, False]
    given = [(event.tid, event.call) for event in importer.take()]
    assert given == [(60, "execve"), (60, "fork"), *[(61, "close")] * 6]


def test_what_is_held_back_comes_at_the_end() -> None:
    """A log that ends while a fork is in flight loses nothing."""
    importer = StraceImporter(name="t", source="t")
    _events(importer, [*START, b"61 close(3) = 0"])
    assert [(event.tid, event.call) for event in importer.finish()] == [(60, "fork"), (61, "close")]


def test_a_vfork_alone_in_flight_is_the_parent_at_once() -> None:
    """Its line is long in coming, and nobody else can have made the thread."""
    importer = StraceImporter(name="t", source="t")
    lines = [START[0], b"60 vfork( <unfinished ...>", b"61 close(3) = 0"]
    assert _events(importer, lines) == [(60, "execve"), (60, "vfork"), (61, "close")]
