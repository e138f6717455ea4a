"""JSON lines: numbers, offsets, packing, and lines that are cut or wrong."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from vmastore.errors import InputError
from vmastore.importers.jsonlines import JsonLines, stem


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    return path


def test_line_numbers_and_offsets_point_at_the_line(tmp_path: Path) -> None:
    """A record's line counts from 1 with blank lines, its offset is that of its first byte."""
    text = '{"a": 1}\n\n{"b": "é"}\n{"c": 3}'
    path = _write(tmp_path, text)
    records = list(JsonLines(path).records())
    assert [(r.line, r.data) for r in records] == [(1, {"a": 1}), (3, {"b": "é"}), (4, {"c": 3})]
    raw = path.read_bytes()
    assert [raw[r.offset : r.offset + 4] for r in records] == [b'{"a"', b'{"b"', b'{"c"']


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bytes])
def test_packing_is_seen_by_content(tmp_path: Path, pack: object) -> None:
    """gzip, xz and plain text read alike, whatever the file is called."""
    path = tmp_path / "any.name"
    path.write_bytes(pack(b'{"a": 1}\n'))  # type: ignore[operator]
    assert JsonLines(path).first() == {"a": 1}


def test_a_last_line_that_was_cut_off_ends_the_file(tmp_path: Path) -> None:
    """An interrupted recording gives what is complete, and the number of the line that is not."""
    lines = JsonLines(_write(tmp_path, '{"a": 1}\n{"b": 2, "c'))
    assert [r.data for r in lines.records()] == [{"a": 1}]
    assert lines.cut == 2


def test_a_bad_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    """Only the last line may be incomplete."""
    lines = JsonLines(_write(tmp_path, '{"a": 1}\n{"b"\n{"c": 1}\n'))
    with pytest.raises(InputError, match=r"x\.jsonl:2: not JSON"):
        list(lines.records())


@pytest.mark.parametrize("text", ["[1]\n{}\n", "3\n", '"x"\n'])
def test_json_that_is_no_object_is_an_error(tmp_path: Path, text: str) -> None:
    """Every line is an object."""
    with pytest.raises(InputError, match=":1: not a JSON object"):
        list(JsonLines(_write(tmp_path, text)).records())


def test_an_empty_file_has_no_first_line(tmp_path: Path) -> None:
    """A file without a complete line is refused by name."""
    with pytest.raises(InputError, match=r"x\.jsonl"):
        JsonLines(_write(tmp_path, "")).first()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/all-1.jsonl.gz", "all-1"),
        ("ls.maprec.jsonl.gz", "ls"),
        ("t.vmatrace.jsonl.xz", "t"),
        (".gz", ".gz"),
        ("real-kernel-6.12.txt.gz", "real-kernel-6.12"),
    ],
)
def test_a_traces_default_name_is_the_files_without_suffixes(path: str, name: str) -> None:
    """Suffixes of format and packing go, dots in the name stay."""
    assert stem(path) == name
