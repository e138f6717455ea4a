"""The short way gives what the general way gives."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vmastore.events import Event
from vmastore.events.brief import whole
from vmastore.events.codec import encode_args
from vmastore.importers.base import Skip
from vmastore.importers.strace import StraceImporter
from vmastore.importers.strace.fast import FastPath

DATA = Path(__file__).parents[1] / "data" / "strace"
CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
LOGS = [
    *DATA.glob("*.log"),
    *sorted((CORPUS / "strace-logs").glob("*.log*")),
    *sorted((CORPUS / "programs").glob("*.strace.gz")),
]
Outcome = tuple[list[Event], list[Skip], int, int]


def _lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).split(b"\n")[:-1]


def _general(importer: StraceImporter, lines: list[bytes]) -> list[Event]:
    events, offset = [], 0
    for number, line in enumerate(lines, 1):
        importer.step(line, number, offset)
        offset += len(line) + 1
        events += importer.take()
    return events


def _one_by_one(importer: StraceImporter, lines: list[bytes]) -> list[Event]:
    return [event for line in lines for event in importer.feed(line + b"\n")]


def _outcome(lines: list[bytes], way: Callable[[StraceImporter, list[bytes]], list[Event]]) -> Outcome:
    importer = StraceImporter(name="t", source="t")
    events = way(importer, lines) + importer.finish()
    return events, importer.skips(), importer.account.halves, importer.account.recorded


@pytest.mark.parametrize("path", LOGS, ids=[path.name.partition(".")[0] for path in LOGS])
def test_batches_lines_and_the_general_way_agree(path: Path) -> None:
    """Events, skips and the account of lines do not depend on the way they are read."""
    lines = _lines(path)
    general = _outcome(lines, _general)
    assert _outcome(lines, lambda importer, lines: importer.feed_batch(lines)) == general
    assert _outcome(lines, _one_by_one) == general


TRICKY = {
    "octal-looking length": b"5 munmap(0x1000, 010) = 0",
    "text behind the call": b"5 munmap(0x1000, 4096) x = 0",
    "underscores": b"5 munmap(0x1000, 4_096) = 0",
    "two calls on a line": b"5 munmap(0x1000, 4096) = 0 munmap(0x2000, 4096) = 0",
    "no result": b"5 munmap(0x1000, 4096) = ?",
    "a duration where there was none": b"5 munmap(0x1000, 4096) = 0 <0.000010>",
    "a time where there was none": b"5 1000000000.000001 munmap(0x1000, 4096) = 0",
    "carriage return": b"5 munmap(0x1000, 4096) = 0\r",
    "colour": b"5 munmap(\x1b[35m0x1000\x1b[0m, 4096) = 0",
    "file with ) = 3, in its name": b"5 mmap(NULL, 1, PROT_READ, MAP_PRIVATE, 3</a) = 3, 4>, 0) = 0x7f00",
    "another thread": b"6 munmap(0x1000, 4096) = 0",
    "a comm": b"5<a b> munmap(0x1000, 4096) = 0",
    "an exit half of another call": b"5 <... mmap resumed>) = 0",
    "a comment that does not end": b"5 munmap(0x1000 /* ), 4096) = 0",
    "a parenthesis in a comment": b"5 munmap(0x1000 /* ) */, 4096) = 0",
    "an argument named": b"5 munmap(addr=0x1000, len=4096) = 0",
    "a failure": b"5 munmap(0x1000, 4096) = -1 EINVAL (Invalid argument)",
    "an address of 64 bits": b"5 mmap(NULL, 4096, PROT_READ, 0x22, -1, 0) = 0xffffffffff600000",
    "an address of 63 bits": b"5 mmap(NULL, 4096, PROT_READ, 0x22, -1, 0) = 0x7fffffffffffffff",
    "an address of 17 digits": b"5 munmap(0x10000000000001000, 4096) = 0",
    "a result of 17 digits": b"5 mmap(NULL, 4096, PROT_READ, 0x22, -1, 0) = 0x10000000000001000",
    "capitals in a result": b"5 mmap(NULL, 4096, PROT_READ, 0x22, -1, 0) = 0x7F00",
    "an underscore in a result": b"5 mmap(NULL, 4096, PROT_READ, 0x22, -1, 0) = 0x7f_00",
    "a space behind a result": b"5 mmap(NULL, 4096, PROT_READ, 0x22, -1, 0) = 0x7f00 ",
    "no digits in a result": b"5 mmap(NULL, 4096, PROT_READ, 0x22, -1, 0) = 0x",
    "four arguments": b"5 mremap(0x1000, 4096, 8192, MREMAP_MAYMOVE) = 0x7000",
    "four arguments, the fifth looked at": b"5 mremap(0x1000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_DONTUNMAP) = 0x7000",
    "one argument": b"5 brk(0x7000) = 0x7000",
    "one argument too many": b"5 brk(0x7000, 1) = 0x7000",
    "a name of more than 64 characters": b"5 " + b"m" * 65 + b"(0x1000, 4096) = 0",
    "huge number": b"5 munmap(0x1000, 99999999999999999999999) = 0",
    "huge result": b"5 munmap(0x1000, 4096) = 99999999999999999999999",
    "injected": b"5 munmap(0x1000, 4096) = 0 (INJECTED)",
}


@pytest.mark.parametrize("line", TRICKY.values(), ids=TRICKY)
def test_lines_that_are_almost_of_the_short_form(line: bytes) -> None:
    """A line that only looks short is not misread, and what follows it is read."""
    common = b"5 munmap(0x3000, 4096) = 0"
    for lines in ([common, line, common], [common, b"5 munmap(0x4000, 4096 <unfinished ...>", line, common]):
        general = _outcome(lines, _general)
        assert _outcome(lines, lambda importer, lines: importer.feed_batch(lines)) == general


HALVES = {
    "all arguments in the entry half": (b"munmap(0x1000, 4096 <unfinished ...>", b"<... munmap resumed>) = 0"),
    "arguments in both": (
        b"mmap(NULL, 4096, <unfinished ...>",
        b"<... mmap resumed>PROT_READ, 0x22, -1, 0) = 0x7000",
    ),
    "none in the entry half": (b"munmap( <unfinished ...>", b"<... munmap resumed>0x1000, 4096) = 0"),
    "a parenthesis in the entry half": (b"munmap(0x1000, (4096) <unfinished ...>", b"<... munmap resumed>) = 0"),
    "a result in the entry half": (b"munmap(0x1000, 4096) = 0 <unfinished ...>", b"<... munmap resumed>) = 0"),
    "padding before the result": (b"munmap(0x1000, 4096 <unfinished ...>", b"<... munmap resumed>)       = 0"),
    "another result behind it": (b"munmap(0x1000, 4096 <unfinished ...>", b"<... munmap resumed>) = 0) = 1"),
    "no result": (b"munmap(0x1000, 4096 <unfinished ...>", b"<... munmap resumed>) = ?"),
    "nothing": (b"munmap(0x1000, 4096 <unfinished ...>", b"<... munmap resumed>"),
    "another call": (b"munmap(0x1000, 4096 <unfinished ...>", b"<... mlock resumed>) = 0"),
}
PREFIXES = {
    "padded to five": (b"%-5d ", (5, 42, 77777)),
    "of all widths": (b"%-5d ", (5, 99999, 100000, 1234567)),
    "unpadded": (b"%d ", (5, 42, 77777)),
    "more padding than usual": (b"%-8d ", (5, 42)),
    "bracketed": (b"[pid %5d] ", (5, 42, 123456)),
    "with a time": (b"%-5d 1700000000.000001 ", (5, 123456)),
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("shape", HALVES)
def test_halves_of_several_threads(prefix: str, shape: str) -> None:
    """Whatever stands before a half and wherever its arguments are, both ways read the same."""
    form, tids = PREFIXES[prefix]
    entry, rest = HALVES[shape]
    lines = [form % tid + b"munmap(0x3000, 4096) = 0" for tid in tids]
    for _ in range(3):
        lines += [form % tid + entry for tid in tids] + [form % tid + rest for tid in reversed(tids)]
        lines += [form % tid + b"brk(NULL) = 0x1000" for tid in tids]
    general = _outcome(lines, _general)
    assert _outcome(lines, lambda importer, lines: importer.feed_batch(lines)) == general
    assert _outcome(lines, _one_by_one) == general


@pytest.mark.parametrize("behind", [b"(", b"(0x1000, 4096) = 0", b" ", b")"])
def test_what_stands_behind_a_second_half_known_by_heart(behind: bytes) -> None:
    """A line that only begins like one that repeats itself is read for itself."""
    entry, rest = HALVES["all arguments in the entry half"]
    lines = [b"5 munmap(0x3000, 4096) = 0"]
    for last in (b"", b"", behind, b""):
        lines += [b"5 " + entry, b"5 " + rest + last]
    assert _outcome(lines, lambda importer, lines: importer.feed_batch(lines)) == _outcome(lines, _general)


@pytest.mark.parametrize("path", LOGS, ids=[path.name.partition(".")[0] for path in LOGS])
def test_briefs_have_the_text_that_is_stored(path: Path) -> None:
    """What a Brief says of its arguments is the array that the codec makes of them."""
    importer = StraceImporter(name="t", source="t")
    given = importer.feed_briefs(_lines(path))
    for brief, event in zip(given, whole(given), strict=True):
        if not isinstance(brief, Event):
            assert f"[{brief[6]}{brief[7].text}" == encode_args(event.args)


@pytest.mark.parametrize("last", [b"<0.0000", b"<unfinished ...>f1", b"<", b"<0.1> ", b"<0.1>>", b"<0,1>"])
@pytest.mark.parametrize("call", [b"munmap(0x1000, 4096)", b"fsync(3)"])
def test_what_only_begins_like_a_duration(call: bytes, last: bytes) -> None:
    """Where lines end in durations, the end of a damaged line is not taken for one."""
    lines = [b"5 munmap(0x3000, 4096) = 0 <0.000010>", b"5 " + call + b" = 7 " + last]
    assert _outcome(lines, lambda importer, lines: importer.feed_batch(lines)) == _outcome(lines, _general)


def test_most_lines_of_a_threaded_log_go_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves of memory calls with times and durations do not reach the general parser."""
    lines = _lines(DATA / "threads.log")
    general = 0
    step = StraceImporter.step

    def counted(self: StraceImporter, line: bytes, number: int, offset: int, *, cut: bool = False) -> None:
        nonlocal general
        general += 1
        step(self, line, number, offset, cut=cut)

    monkeypatch.setattr(StraceImporter, "step", counted)
    importer = StraceImporter(name="t", source="t")
    importer.feed_batch(lines * 20)
    first_run = general
    assert first_run < len(lines) * 20 * 0.5
    assert isinstance(importer.account.halves, int) and importer.account.halves > 0


def test_the_short_way_does_a_fraction_of_the_work() -> None:
    """A stream of one thread's calls takes less than a third of the function calls that the general way takes."""
    lines = [b"5 mprotect(0x7f%06x000, 4096, PROT_READ) = 0" % (n % 5000) for n in range(2_000)]
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    work = []
    for way in (_general, lambda importer, lines: importer.feed_batch(lines)):
        calls = 0
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            _outcome(lines, way)
        finally:
            sys.setprofile(before)
        work.append(calls)
    assert work[1] < work[0] / 3, work


def test_the_short_way_needs_a_line_to_learn_from() -> None:
    """Nothing is assumed of a log before its first line was read the general way."""
    importer = StraceImporter(name="t", source="t")
    seen: list[int] = []
    path = FastPath(
        importer.joiner, importer.tracker, importer.lookahead, lambda line, number, offset: seen.append(number)
    )
    path.run([b"5 brk(NULL) = 0x1000", b"5 brk(NULL) = 0x1000"], 1, 0)
    assert seen == [1, 2]
