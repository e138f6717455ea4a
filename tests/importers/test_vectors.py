"""Vectors: several seeds a file, a window of anonymous memory after each call."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmastore.errors import InputError
from vmastore.importers.vectors import WINDOW, readers

DATA = Path(__file__).parents[1] / "data" / "vectors" / "two-seeds-6.12.txt"
CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "vectors"


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "v.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("kernel", ["6.8", "6.12", "6.18", "7.3"])
def test_the_corpus_reads_as_ten_traces_a_kernel(kernel: str) -> None:
    """Ten seeds of 400 operations, each with its window; the release is the file's."""
    path = CORPUS / f"real-kernel-{kernel}.txt.gz"
    if not path.is_file():
        pytest.skip("the real-kernel corpus is not there")
    found = readers(path)
    assert [reader.header.name for reader in found] == [f"real-kernel-{kernel}-seed{n}" for n in range(10)]
    for reader in found:
        assert reader.header.release == kernel
        events = list(reader.events())
        assert [event.seq for event in events] == list(range(1, 802))
        assert [event.call == "maps" for event in events] == [True, *[False, True] * 400]
        assert reader.skips() == []


def test_each_seed_reads_its_own_section() -> None:
    """The second trace begins with an empty window, and its lines are those of the second seed."""
    first, second = readers(DATA)
    assert [len(list(reader.events())) for reader in (first, second)] == [41, 41]
    lines = DATA.read_text().splitlines()
    start, *rest = second.events()
    assert start.args == ("baseline", 0, None, []) and lines[(start.source_line or 0) - 1] == "seed 1"
    raw = DATA.read_bytes()
    for event in rest:
        assert raw[event.source_offset or 0 :].startswith(b"maps" if event.call == "maps" else b"op")


def test_operations_are_calls_whose_results_are_not_recorded(tmp_path: Path) -> None:
    """Page numbers become bytes; only a fault tells how it went."""
    text = "seed 3\nop map 10004 1000a 5\nmaps \nop prot 10006 10009 0\nmaps \nop unmap 10004 10006\nmaps \n"
    text += "op wfault 1001f efault\nmaps \nop wfault 10016 ok\nmaps \n"
    (reader,) = readers(_write(tmp_path, text))
    calls = [(e.call, e.args, e.result, e.errno) for e in reader.events() if e.call != "maps"]
    assert calls == [
        ("mmap", (0x10004000, 0x6000, 5, 0x32, -1, 0), None, 0),
        ("mprotect", (0x10006000, 0x3000, 0), None, 0),
        ("munmap", (0x10004000, 0x2000), None, 0),
        ("fault", (0x1001F000, 0x1000, "w", "S", "kernel"), 1, 0),
        ("fault", (0x10016000, 0x1000, "w", ".", "kernel"), 0, 0),
    ]


def test_a_window_lists_ranges_and_permissions_only(tmp_path: Path) -> None:
    """What the vectors do not show is -1 or empty, and the whole window is listed."""
    text = "seed 0\nop map 10004 1000a 5\nmaps 10004-10006:r-x 10009-1000a:---\n"
    (reader,) = readers(_write(tmp_path, text))
    check = list(reader.events())[-1]
    assert check.args == (
        "window",
        2,
        None,
        [
            [0x10004000, 0x10006000, "r-xp", -1, "", -1, "", None, None],
            [0x10009000, 0x1000A000, "---p", -1, "", -1, "", None, None],
        ],
    )
    assert all(WINDOW[0] <= line[0] < line[1] <= WINDOW[1] for line in check.args[3])


@pytest.mark.parametrize(
    ("name", "text", "release"),
    [
        ("real-kernel-6.18.txt", "seed 0\n", "6.18"),
        ("v.txt", "# observed on a real 6.8.12 kernel\nseed 0\n", "6.8.12"),
        ("v.txt", "seed 0\n", None),
    ],
)
def test_the_release_is_in_the_first_line_or_the_files_name(
    tmp_path: Path, name: str, text: str, release: str | None
) -> None:
    """A comment wins, then the name; else it is unknown."""
    path = tmp_path / name
    path.write_text(text)
    assert readers(path)[0].header.release == release


def test_a_name_is_given_to_every_seed() -> None:
    """Traces of one file are told apart by seed."""
    assert [reader.header.name for reader in readers(DATA, "v")] == ["v-seed0", "v-seed1"]


@pytest.mark.parametrize(
    "line",
    [
        *("op", "op map 1 2", "op map x 2 3", "op prot 1 2", "op dance 1 2", "op wfault 1 maybe"),
        *("maps 1-2", "maps 1-2:rw", "maps 1-2:r-- x", "something else"),
    ],
)
def test_a_line_that_is_none_is_an_error_with_its_number(tmp_path: Path, line: str) -> None:
    """Nothing is passed over."""
    (reader,) = readers(_write(tmp_path, f"seed 0\nop unmap 10000 10001\nmaps \n{line}\n"))
    with pytest.raises(InputError, match=r"v\.txt:4: not a line of vectors"):
        list(reader.events())


@pytest.mark.parametrize(
    "text",
    ["", "op unmap 1 2\n", "seed x\n", "seed 1\nseed 1\n", "seed \n"],
    ids=["empty", "none", "x", "twice", "blank"],
)
def test_a_file_without_proper_seeds_is_refused(tmp_path: Path, text: str) -> None:
    """No seed, a seed that is no number, or the same one twice."""
    with pytest.raises(InputError, match=r"v\.txt"):
        readers(_write(tmp_path, text))
