"""The files of a family in one order."""

from __future__ import annotations

import random
from pathlib import Path

from vmastore.importers.sources import family
from vmastore.importers.strace.merge import merge


def test_lines_come_in_the_order_of_their_ends(tmp_path: Path) -> None:
    """With absolute times and durations, the merged lines are sorted by when their calls were over."""
    rng = random.Random(3)
    for tid in (5, 6, 7):
        clock = 1_000_000_000_000_000
        lines = []
        for _ in range(200):
            clock += rng.randrange(1, 50)
            spent = rng.randrange(1, 40)
            lines.append(f"{clock // 10**6}.{clock % 10**6:06d} close(3) = 0 <0.{spent:06d}>\n")
            clock += spent
        (tmp_path / f"log.{tid}").write_text("".join(lines))
    ends = []
    for merged in merge(family(tmp_path)):
        begin, _, spent = merged.line.partition(b" close(3) = 0 <")
        ends.append(int(begin.replace(b".", b"")) + int(spent[2:-1]))
    assert len(ends) == 600 and ends == sorted(ends)


def test_every_line_has_its_place_in_its_own_file(tmp_path: Path) -> None:
    """Numbers and offsets are those of the thread's file; the cut last line is marked."""
    (tmp_path / "log.5").write_text("brk(NULL) = 0x1000\nclose(3) = 0\n")
    (tmp_path / "log.6").write_text("pause()")
    lines = sorted(merge(family(tmp_path)))
    assert [(line.tid, line.number, line.offset, line.cut) for line in lines] == [
        (5, 1, 0, False),
        (5, 2, 19, False),
        (6, 1, 0, True),
    ]


def test_frames_stay_behind_their_call(tmp_path: Path) -> None:
    """A stack is not torn apart by another thread's lines."""
    for tid in (5, 6):
        (tmp_path / f"log.{tid}").write_text("close(3) = 0\n > /a(f+0x1) [0x2]\n > /a(g+0x1) [0x2]\n" * 3)
    tids = [line.tid for line in merge(family(tmp_path))]
    assert [tids[n : n + 3] for n in range(0, 18, 3)] == [[5] * 3, [6] * 3] * 3


def test_a_threads_file_is_opened_when_the_thread_is_made(tmp_path: Path) -> None:
    """A thousand threads, one after the other, need no thousand open files."""
    last = 1000
    for tid in range(1, last + 1):
        made = f"fork() = {tid + 1}\n" if tid < last else ""
        (tmp_path / f"log.{tid}").write_text(f"brk(NULL) = 0x1000\n{made}+++ exited with 0 +++\n")
    tids = [line.tid for line in merge(family(tmp_path))]
    assert len(tids) == 3 * last - 1
    assert sorted(range(1, last + 1), key=tids.index) == list(range(1, last + 1))
