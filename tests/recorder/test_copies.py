"""What calls like read have written."""

from __future__ import annotations

import pytest

from vmastore.recorder.copies import Copies, is_copy
from vmastore.recorder.loglines import read_line


def written(copies: Copies, text: bytes) -> tuple[int, int] | None:
    line = read_line(1, 0, text)
    assert is_copy(line.name)
    return copies.written(line.tid, line.name, text, begins=line.begins, ends=line.ends)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"7 1.5 read(0x3, 0x7f00, 0x340) = 0x340 <0.1>", (0x7F00, 0x340)),
        (b"7 1.5 pread64(0x3, 0x7f00, 0x310, 0x40) = 0x10 <0.1>", (0x7F00, 0x10)),
        (b"7 1.5 getrandom(0x7f01, 0x8, 0x1) = 0x8 <0.1>", (0x7F01, 8)),
        (b"7 1.5 readlinkat(0xffffff9c, 0x1, 0x7f00, 0x1000) = 0x2b <0.1>", (0x7F00, 0x2B)),
        (b"7 1.5 recvfrom(0x5, 0x7f00, 0x100, 0, 0, 0) = 0x1 <0.1>", (0x7F00, 1)),
        (b"7 1.5 read(0, 0x7f00, 0xa)              = 0 <0.1>", None),
        (b"7 1.5 read(0x3, 0x7f00, 0x340) = -1 EFAULT (Bad address) <0.1>", None),
        (b"7 1.5 read(0x3, 0x7f00, 0x340) = ? ERESTARTSYS (To be restarted) <0.1>", None),
        (b"7 1.5 read(0x3, ", None),
    ],
    ids=["read", "short", "first", "third", "zeros", "end", "failed", "restarted", "cut"],
)
def test_the_buffer_and_the_result_of_a_line(text: bytes, expected: tuple[int, int] | None) -> None:
    """As much of the buffer is written as the call returned; nothing when it failed or was cut short."""
    assert written(Copies(), text) == expected


def test_the_halves_of_a_call_belong_together() -> None:
    """The buffer stands on the line that begins, the result on the one that ends, each thread's own."""
    copies = Copies()
    assert written(copies, b"7 1.0 read(0x3, 0x7f00, 0x340 <unfinished ...>") is None
    assert written(copies, b"8 1.1 getcwd(0x8000, 0x400 <unfinished ...>") is None
    assert written(copies, b"7 1.2 <... read resumed>) = 0x15 <0.2>") == (0x7F00, 0x15)
    assert written(copies, b"8 1.3 <... getcwd resumed>) = 0x5 <0.2>") == (0x8000, 5)
    assert written(copies, b"8 1.4 <... getcwd resumed>) = 0x5 <0.2>") is None, "it began before the log"
