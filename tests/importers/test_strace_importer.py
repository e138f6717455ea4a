"""Any bytes at all: events or counted skips, never a traceback, never without bound."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmastore.events import Event
from vmastore.events.jsoncodec import event_from_json, event_json
from vmastore.importers.strace import StraceImporter

DATA = Path(__file__).parents[1] / "data" / "strace"
CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "strace-logs"
LOGS = [path.read_bytes().split(b"\n") for path in [*sorted(DATA.glob("*.log")), *sorted(CORPUS.glob("*.log"))]]

PIECES = int(os.environ.get("VMASTORE_FUZZ", "2000"))

TOKENS = [
    *(b"<", b">", b"(", b")", b'"', b", ", b" = ", b"/*", b"*/", b"[", b"{", b"|", b"=>", b"0x", b"-1", b"\\", b"\r"),
    *(b" <unfinished ...>", b"<... mmap resumed>", b"strace: Process 12 attached", b"[pid 77] ", b" > x", b"clone("),
    *(b"fork( <unfinished ...>", b"execve(", b"+++ exited with 0 +++", b"+++ superseded by execve in pid 3 +++"),
    *(
        b"99999999999999999999",
        b"1<<99999",
        b"1<<1<<1",
        b"\x1b[31m",
        b"\xff\x00",
        b"close_range(0, 4294967295, 0) = 0",
    ),
    *(
        b"CLONE_VM",
        b"NULL",
        b"AT_FDCWD",
        b"9999999 ",
        b"syscall_010(1) = 0",
        b"--- SIGSEGV {} ---",
        b"% time     seconds",
    ),
]


def _mutated(rng: random.Random) -> list[bytes]:
    """A piece of a real log, and damage to it."""
    log = rng.choice(LOGS)
    begin = rng.randrange(max(1, len(log) - 60))
    lines = [bytearray(line) for line in log[begin : begin + rng.randint(1, 60)]]
    if rng.random() < 0.2:
        lines += [bytearray(line) for line in rng.choice(LOGS)[:10]]
    for _ in range(rng.randint(0, 12)):
        at = rng.randrange(len(lines))
        line = lines[at]
        place, kind = rng.randrange(len(line) + 1), rng.randrange(7)
        if kind == 0 and line:
            line[place - 1] = rng.randrange(256)
        elif kind == 1:
            line[place:place] = rng.choice(TOKENS)
        elif kind == 2:
            del line[place : place + rng.randint(1, 20)]
        elif kind == 3:
            lines[at : at + 1] = [line[:place], line[place:]]
        elif kind == 4:
            lines.insert(rng.randrange(len(lines)), bytearray(line))
        elif kind == 5:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            line[place:place] = line[rng.randrange(len(line) + 1) :]
    return [bytes(line).replace(b"\n", b"") for line in lines]


def _check(lines: list[bytes], **options: bool) -> list[Event]:
    importer = StraceImporter(name="t", source="t", **options)  # type: ignore[arg-type]
    events = importer.feed_batch(lines) + importer.finish()
    account = importer.account
    assert account.unaccounted == 0
    assert account.lines == account.recorded + account.halves + account.frames + account.skipped_lines == len(lines)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert all(event.file is None or 0 < event.file <= len(importer.files) for event in events)
    return events


def _fits(event: Event) -> bool:
    """Whether a store can hold it: 64-bit numbers, JSON values."""
    numbers = (event.mm, event.pid, event.tid, event.ts_ns, event.source_line, event.source_offset)
    if not all(number is None or -(1 << 63) <= number < 1 << 63 for number in numbers):
        return False
    if event.result is not None and not -(1 << 63) <= event.result < 1 << 64:
        return False
    return event_from_json(json.loads(json.dumps(event_json(event)))) == event


def _general(lines: list[bytes]) -> list[Event]:
    importer = StraceImporter(name="t", source="t")
    offset = 0
    for number, line in enumerate(lines, 1):
        importer.step(line, number, offset)
        offset += len(line) + 1
    return importer.take() + importer.finish()


@pytest.mark.parametrize("share", range(4))
def test_damaged_logs_are_read_to_their_end(share: int) -> None:
    """Thousands of damaged pieces of real logs: every line is accounted for, every event can be stored, and both ways
    of reading agree. VMASTORE_FUZZ: how many."""
    for seed in range(share * PIECES // 4, (share + 1) * PIECES // 4):
        lines = _mutated(random.Random(seed))
        events = _check(lines)
        assert all(map(_fits, events)), seed
        assert _general(lines) == events, seed
        _check(lines, live=True)
        _check(lines, stacks=True)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.sampled_from([*TOKENS, b"7 ", b"mmap(", b") = 0", b"a", b" "]), max_size=12), max_size=12)
)
def test_lines_made_of_straces_own_words(parts: list[list[bytes]]) -> None:
    """Any sequence of the words that mean something to the lexer is read."""
    _check([b"".join(line) for line in parts])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_lines_of_any_bytes(lines: list[bytes]) -> None:
    """Random bytes are text, and counted."""
    _check([line.replace(b"\n", b"") for line in lines])


LONG = [b"A<", b"A</", b"3<->", b"/*", b'"', b'\\"', b"(", b") = ", b"mmap(", b"<<", b"[pid 1] ", b"= ", b"-> (a"]


@pytest.mark.parametrize("pattern", LONG, ids=[pattern.decode() for pattern in LONG])
def test_no_text_takes_longer_than_its_length(pattern: bytes) -> None:
    """No expression goes back over 400 kB of one pattern, in any place of a line: one that did would not end here."""
    for head in (b"", b'12  open("', b"12  foo(", b"12  close(3) = 3<", b"12  ioctl(3, UFFDIO_REGISTER, {"):
        for tail in (b"", b") = 0", b" <unfinished ...>", b"strace: Process 7 attached"):
            _check([b"12  close(3) = 0", head + pattern * (400_000 // len(pattern)) + tail])


def test_memory_does_not_grow_with_the_log() -> None:
    """A log of ever new addresses, threads and damage holds no more at its end than in its middle."""
    importer = StraceImporter(name="t", source="t")

    def feed(first: int, last: int) -> int:
        for n in range(first, last):
            tid = 100 + n % 50
            importer.feed_batch(
                [
                    b"%d mmap(NULL, %d, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0 <unfinished ...>" % (tid, n * 8),
                    b"%d <... mmap resumed>) = 0x7f%x000" % (tid, n),
                    b"%d fork() = %d" % (tid, 1000 + n),
                    b"%d munmap(0x%x000, 4096) = 0" % (1000 + n, n),
                    b"%d +++ exited with 0 +++" % (1000 + n),
                    b"noise %d" % n,
                ]
            )
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        feed(0, 4000)
        half = feed(4000, 8000)
        assert feed(8000, 12_000) - half < 3_000_000
    finally:
        tracemalloc.stop()
