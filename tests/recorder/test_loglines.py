"""The frame of a log's lines, and taking lines before their turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmastore.recorder.loglines import Log, read_line

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
    return Log(path)


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
    rest = [line.number for line in iter(log.next, None) if line]
    assert rest == [2, 4]


def test_the_birth_of_a_thread_is_the_next_return_that_made_its_tid(tmp_path: Path) -> None:
    """clone, fork and clone3, whole or resumed, with a decorated pid or not; a tid used twice has two births."""
    log = _log(
        tmp_path,
        "7 1.1 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>",
        "8 1.2 brk(NULL) = 0x1 <0.1>",
        "7 1.3 <... clone resumed>, child_tidptr=0x7f) = 8 <0.1>",
        "7 1.4 clone3({flags=CLONE_VM}, 88) = 9<name> <0.1>",
        "8 1.5 +++ exited with 0 +++",
        "7 1.6 vfork() = 8 <0.1>",
        "7 1.7 fork() = -1 ENOMEM (Cannot allocate memory) <0.1>",
    )
    first, second = log.next(), log.next()
    assert first is not None and second is not None
    born = log.birth(8, second)
    assert born is not None and born.number == 3
    third = log.next()
    assert third is not None and third.number == 4
    again = log.birth(8, third)
    assert again is not None and again.number == 6
    assert log.birth(9, third) is None, "that line has had its turn"
    assert log.birth(12, third) is None
