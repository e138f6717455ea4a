"""Formats are recognised by content."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmastore.errors import InputError
from vmastore.importers.detect import FORMATS, open_traces, recognise

DATA = Path(__file__).parents[1] / "data"
STRACE = "7 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000\n7 +++ exited with 0 +++\n"
SAMPLES = [
    ("vmafuzz/all-6.1.jsonl.gz", "vmafuzz", 1),
    ("maprec/ls.maprec.jsonl.gz", "maprec", 1),
    ("vectors/two-seeds-6.12.txt", "vectors", 2),
    ("maps/cat.maps", "maps", 1),
    ("maps/cat.smaps", "maps", 1),
    ("vmatrace/v1.vmatrace.jsonl", "jsonl", 1),
]


def _text(sample: str) -> bytes:
    data = (DATA / sample).read_bytes()
    return gzip.decompress(data) if sample.endswith(".gz") else data


def _formats(sample: str, readers: list[object]) -> set[str]:
    return {type(reader).__module__.rpartition(".")[2] for reader in readers}


MODULES = {"vmafuzz": "vmafuzz", "maprec": "maprec", "vectors": "vectors", "maps": "maps_file", "jsonl": "jsonl"}


@pytest.mark.parametrize(("sample", "kind", "count"), SAMPLES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gz", "xz"])
def test_a_format_is_known_by_its_first_lines(
    tmp_path: Path, sample: str, kind: str, count: int, pack: object
) -> None:
    """Whatever a file is called and however it is packed."""
    path = tmp_path / "some.file"
    path.write_bytes(pack(_text(sample)))  # type: ignore[operator]
    readers = open_traces(path)
    assert len(readers) == count
    assert _formats(sample, readers) == {MODULES[kind]}  # type: ignore[arg-type]
    assert sum(1 for _ in readers[0].events()) > 0


def test_everything_else_is_straces_to_read(tmp_path: Path) -> None:
    """A log is read by the strace reader, and so is a family of -ff, which no file has the name of."""
    path = tmp_path / "log"
    path.write_text(STRACE)
    (reader,) = open_traces(path, name="mine")
    assert (reader.header.format, reader.header.name) == ("strace", "mine")
    assert [event.call for event in reader.events()] == ["mmap", "exit"]
    (tmp_path / "log.7").write_text(STRACE.replace("7 ", ""))
    path.unlink()
    (family,) = open_traces(path)
    assert [event.call for event in family.events()] == ["mmap", "exit"]


@pytest.mark.parametrize(
    "data",
    [b'{"a": 1}\n', b"{\n", b"hello\nworld\n", b"", b"\x7fELF\0\0", bytes(range(1, 256)) * 20],
    ids=["json", "brace", "words", "empty", "elf", "bytes"],
)
def test_what_is_nothing_of_ours_is_one_clear_error(tmp_path: Path, data: bytes) -> None:
    """It names the file."""
    path = tmp_path / "what.ever"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"what\.ever"):
        open_traces(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No traceback for a typing error."""
    with pytest.raises(InputError, match="nowhere"):
        open_traces(tmp_path / "nowhere")


def test_an_unknown_format_lists_the_known_ones() -> None:
    """The hint says what can be asked for."""
    with pytest.raises(InputError, match="unknown format 'pcap'") as caught:
        open_traces("x", "pcap")
    assert all(name in (caught.value.hint or "") for name in FORMATS)


@pytest.mark.parametrize("kind", [name for name in FORMATS if name != "vmafuzz"])
def test_a_format_that_was_asked_for_is_held_to(kind: str) -> None:
    """A recording read as something else is an error, not a guess."""
    with pytest.raises(InputError):
        for reader in open_traces(DATA / "vmafuzz" / "all-6.1.jsonl.gz", kind):
            list(reader.events())


def test_a_name_is_the_traces() -> None:
    """--name wins over the file's."""
    (reader,) = open_traces(DATA / "maps" / "cat.maps", name="cat")
    assert reader.header.name == "cat"


def test_blank_lines_and_comments_do_not_hide_a_format() -> None:
    """The first line that says something decides."""
    assert recognise([b"", b'  {"vmatrace": 1}']) == "jsonl"
    assert recognise([b"# comment", b"# more", b"seed 5\r"]) == "vectors"
    assert recognise([]) == "strace"


PROGRAM = """
from vmastore.importers.detect import open_traces
for reader in open_traces("-"):
    print(reader.header.format, reader.header.name, sum(1 for _ in reader.events()))
"""


def _piped(data: bytes) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=data, capture_output=True, check=True)
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gz", "xz"])
def test_standard_input_is_recognised_too(pack: object) -> None:
    """Through a pipe, packed or not."""
    assert _piped(pack(STRACE.encode())) == ["strace stdin 2"]  # type: ignore[operator]
    assert _piped(pack(_text("vectors/two-seeds-6.12.txt"))) == [  # type: ignore[operator]
        "vectors stdin-seed0 41",
        "vectors stdin-seed1 41",
    ]
    assert _piped(pack(_text("vmafuzz/all-6.1.jsonl.gz")))[0].startswith("vmafuzz stdin ")  # type: ignore[operator]


def test_what_was_put_aside_goes_with_its_readers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Standard input that has to be read twice lies in a temporary file as long as a reader needs it."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(_text("vmafuzz/all-6.1.jsonl.gz"))))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    readers = open_traces("-")
    assert len(list(tmp_path.iterdir())) == 1
    assert readers[0].header.source == "standard input"
    assert sum(1 for _ in readers[0].events()) > 500
    readers.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "kind"), [(STRACE.encode(), "strace"), (_text("maps/cat.maps"), "maps")])
def test_a_named_pipe_is_read_once(tmp_path: Path, text: bytes, kind: str) -> None:
    """The shell's <(…) works like a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write({text!r})"]):
        (reader,) = open_traces(pipe)
    assert (reader.header.format, reader.header.name) == (kind, "pipe")
    assert sum(1 for _ in reader.events()) > 0


def test_a_real_program_under_strace_imports(tmp_path: Path) -> None:
    """End to end, where strace is installed."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "log"
    done = subprocess.run([strace, "-f", "-o", log, "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("strace may not trace here")
    (reader,) = open_traces(log)
    assert {"mmap", "munmap", "exit"} <= {event.call for event in reader.events()}


FAULTS = sorted((Path(__file__).parents[1] / "data" / "faults").glob("*.txt"))


@pytest.mark.parametrize("path", FAULTS, ids=[path.stem for path in FAULTS])
def test_page_faults_alone_are_told_where_they_belong(path: Path) -> None:
    """The text of perf script, trace-cmd and ftrace without a log: the error names the option."""
    with pytest.raises(InputError) as error:
        list(open_traces(path)[0].events())
    assert path.stem == "perf-no-address" or "--faults-from" in (error.value.hint or "")
    with pytest.raises(InputError, match="belong beside the log"):
        open_traces(path, "ftrace")
