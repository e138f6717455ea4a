"""The first look at a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmastore.importers.sources import Source
from vmastore.importers.strace.lexer import Kind, lex
from vmastore.importers.strace.survey import first_process, survey

FIRST = {
    "announced by a note": (
        [
            "clone(flags=SIGCHLDstrace: Process 61 attached",
            ") = 61",
            "[pid    61] brk(NULL) = 0",
            "[pid    60] close(3) = 0",
        ],
        60,
    ),
    "announced by the call": (["fork() = 61", "[pid    61] brk(NULL) = 0", "[pid    60] close(3) = 0"], 60),
    "first itself": (["fork() = 61", "[pid    60] close(3) = 0"], 60),
    "in a call": (
        ["vfork( <unfinished ...>", "[pid    61] brk(NULL) = 0", "[pid    60] <... vfork resumed>) = 61"],
        60,
    ),
    "in a call, with times": (
        ["1.0 vfork( <unfinished ...>", "[pid    61] 1.1 brk(NULL) = 0", "[pid    60] 1.2 <... vfork resumed>) = 61"],
        60,
    ),
    "no other": (["brk(NULL) = 0"], None),
}


@pytest.mark.parametrize(("lines", "tid"), FIRST.values(), ids=FIRST)
def test_the_first_process_is_found(lines: list[str], tid: int | None) -> None:
    """Its pid is the first that nothing announced; while it is in a call, only that call's end is its line."""
    assert first_process([[line.encode() for line in lines]]) == tid


def test_stack_frames_are_seen_in_advance(tmp_path: Path) -> None:
    """Whether a log has frames must be known before its first event is given."""
    path = tmp_path / "log"
    path.write_text("5 brk(NULL) = 0x1000\n > /bin/a(main+0x1) [0x2]\n")
    assert survey(Source(path)).stacks
    path.write_text("5 brk(NULL) = 0x1000\n")
    assert not survey(Source(path)).stacks


def test_the_survey_uses_up_no_line(tmp_path: Path) -> None:
    """The batches begin at the first line."""
    path = tmp_path / "log"
    path.write_text("brk(NULL) = 0x1000\n" * 30_000)
    assert sum(len(batch) for batch in survey(Source(path)).batches) == 30_000


@pytest.mark.parametrize("frame", [b" > /lib/a.so(f+0x1) [0x1f]", b"\x1b[33m > a [0x1]", b"> b", b"x > c", b" >d"])
def test_stacks_are_what_the_lexer_takes_for_frames(frame: bytes, tmp_path: Path) -> None:
    """The head is looked at without lexing every line of it, with the lexer's answer."""
    log = tmp_path / "x.log"
    log.write_bytes(b"7 brk(NULL) = 0x5000\n" + frame + b"\n")
    assert survey(Source(log)).stacks is (lex(frame).kind is Kind.FRAME)
