"""The frame of a log's lines, and taking lines before their turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vmastore.recorder.loglines import Log, LogLine, Quiet, born_of, file_lines, read_line

NS = 1_795_513_954_000_000_000


@pytest.mark.parametrize(
    ("text", "tid", "name", "entry", "time", "begins", "ends"),
    [
        (b"7 1795513954.000000100 brk(NULL) = 0x55 <0.000000020>", 7, "brk", NS + 100, NS + 120, False, False),
        (b"7  1795513954.000001 mmap(NULL, 4096 <unfinished ...>", 7, "mmap", NS + 1000, NS + 1000, True, False),
        (b"7 1795513954.000000100 <... mmap resumed>) = 0x7f <0.1>", 7, "mmap", None, NS + 100, False, True),
        (b"7 1795513954.000000100 +++ exited with 0 +++", 7, "", NS + 100, NS + 100, False, False),
        (b"7 1795513954.000000100 --- SIGCHLD {si_signo=SIGCHLD} ---", 7, "", NS + 100, NS + 100, False, False),
        (b"7 1795513954.000000100 exit_group(0) = ?", 7, "exit_group", NS + 100, NS + 100, False, False),
        (b"what is this", 0, "", 0, 0, False, False),
        (b"", 0, "", 0, 0, False, False),
    ],
    ids=["whole", "entry", "exit", "end", "signal", "no-return", "foreign", "empty"],
)
def test_the_frame_of_each_kind_of_line(
    text: bytes, tid: int, name: str, entry: int | None, time: int, begins: bool, ends: bool
) -> None:
    """Thread, call, entry and return time in ns are read from either clock precision."""
    line = read_line(3, 10, text)
    assert (line.tid, line.name, line.entry_ns, line.time_ns, line.begins, line.ends) == (
        tid, name, entry, time, begins, ends,
    )  # fmt: skip
    assert line.end == 10 + len(text) + 1


def _log(tmp_path: Path, *lines: str) -> Log:
    path = tmp_path / "log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return Log(file_lines(path))


def _numbers(log: Log) -> list[int]:
    return [line.number for line in iter(log.next, None) if isinstance(line, LogLine)]


def test_a_completion_is_taken_out_of_the_lines_to_come(tmp_path: Path) -> None:
    """The lines of a call in flight are taken up to its return, and nobody gets them a second time."""
    log = _log(
        tmp_path,
        "7 1.1 mmap(NULL <unfinished ...>",
        "8 1.2 brk(NULL) = 0x1 <0.1>",
        "7 1.3 <... mmap resumed>) = 0x7f <0.1>",
        "7 1.4 munmap(0x7f <unfinished ...>",
    )
    assert log.next() is not None
    assert [line.number for line in log.completion(7)] == [3]
    assert log.completion(7) == [], "the next call does not return in this log"
    assert log.completion(9) == []
    assert _numbers(log) == [2, 4]


def test_the_birth_of_a_thread_is_the_return_of_a_call_in_flight(tmp_path: Path) -> None:
    """It is looked for until each thread that may make one has returned, and taken out of the lines to come."""
    lines = [
        "8 1.2 brk(NULL) = 0x1 <0.1>",
        "7 1.3 <... clone resumed>, child_tidptr=0x7f) = 8 <0.1>",
        "7 1.6 vfork() = 9 <0.1>",
    ]
    log = _log(tmp_path, *lines)
    assert log.birth(8, []) is None and log.birth(8, [6]) is None
    assert log.birth(9, [7]) is None, "7 has returned from another call by then"
    born = log.birth(8, [7, 6])
    assert born is not None and born.number == 2
    assert _numbers(log) == [1, 3]
    log = _log(tmp_path, "7 1.2 +++ killed by SIGKILL +++", "7 1.3 fork() = 8 <0.1>")
    assert log.birth(8, [7]) is None, "the thread of that number is another"


@pytest.mark.parametrize(
    ("text", "child"),
    [
        (b"7 1.3 <... clone resumed>, child_tidptr=0x7f) = 8 <0.1>", 8),
        (b"7 1.4 clone3({flags=CLONE_VM}, 88) = 9<name> <0.1>", 9),
        (b"7 1.6 vfork() = 8 <0.1>", 8),
        (b"7 1.7 fork() = -1 ENOMEM (Cannot allocate memory) <0.1>", 0),
        (b"7 1.7 fork() = ? ERESTARTNOINTR (To be restarted) <0.1>", 0),
        (b"7 1.7 brk(NULL) = 8 <0.1>", 0),
    ],
    ids=["resumed", "named", "vfork", "failed", "restarted", "other"],
)
def test_the_thread_that_a_line_tells_of(text: bytes, child: int) -> None:
    """clone, clone3, fork and vfork that succeeded, whole or resumed."""
    assert born_of(read_line(1, 0, text)) == child


def test_the_next_lines_time_is_known_where_the_log_is_quiet() -> None:
    """Later than the limit is enough; a line that has begun has its time already."""
    line = read_line(1, 0, b"7 5.0 brk(NULL) = 0x1 <0.1>")
    second = 1_000_000_000
    assert Log([line]).next_ns(9 * second) == 5 * second
    assert Log([line]).next_ns(4 * second) == 4 * second
    assert Log([]).next_ns(4 * second) == 4 * second

    def quiet(*places: Quiet) -> Log:
        def lines() -> Iterator[Quiet]:
            yield from places
            raise AssertionError("it need not wait for more")

        return Log(lines())

    assert quiet(Quiet(3 * second), Quiet(4 * second)).next_ns(4 * second) == 4 * second
    assert quiet(Quiet(4 * second, 7, 2 * second)).next_ns(9 * second) == 2 * second
