"""Opening input: compression, families, standard input, and everything that is no text."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vmastore.errors import InputError
from vmastore.importers import sources
from vmastore.importers.sources import Source, family, member_of

TEXT = b"".join(b"line %d\n" % n for n in range(60_000)) + b"no newline"
LINES = TEXT.split(b"\n")


def _zstd(data: bytes) -> bytes:
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program")
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "two gz members": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": _zstd,
}


def _lines(source: Source) -> list[bytes]:
    return [line for batch in source.batches() for line in batch]


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_lines_are_the_same_however_packed(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """A compressed file gives the lines of the plain one, whatever its name."""
    path = tmp_path / "log"
    path.write_bytes(pack(TEXT))
    source = Source(path)
    assert _lines(source) == LINES
    assert source.cut


def test_a_final_newline_makes_no_line(tmp_path: Path) -> None:
    """Text that ends with a newline is not cut, and an empty file has no lines."""
    path = tmp_path / "log"
    path.write_bytes(b"a\n\nb\r\n")
    source = Source(path)
    assert _lines(source) == [b"a", b"", b"b\r"]
    assert not source.cut
    path.write_bytes(b"")
    assert _lines(Source(path)) == []


def test_standard_input_can_be_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is read like a file."""
    for pack in (bytes, gzip.compress):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(pack(TEXT)))))
        assert _lines(Source("-")) == LINES


@pytest.mark.parametrize("cut", [20, 5000])
@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, _zstd], ids=["gz", "xz", "bz2", "zst"])
def test_a_damaged_archive_is_one_error_that_names_it(
    tmp_path: Path, pack: Callable[[bytes], bytes], cut: int
) -> None:
    """A truncated or corrupted archive says which file and how far it could be read."""
    packed = pack(base64.b64encode(random.Random(1).randbytes(50_000)))
    for damaged in (packed[:cut], packed[:cut] + b"\xff" * 40 + packed[cut + 40 :]):
        path = tmp_path / "log.x"
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"log\.x.*byte") as error:
            _lines(Source(path))
        assert error.value.hint


BINARIES = {"an ELF file": b"\x7fELF\2\1", "a perf.data file": b"PERFILE2", "byte 3 is 0": b"abc\0def"}


@pytest.mark.parametrize(("what", "data"), BINARIES.items(), ids=BINARIES)
def test_binary_files_are_named_for_what_they_are(tmp_path: Path, what: str, data: bytes) -> None:
    """A binary file is refused before a line of it is read, also inside an archive."""
    path = tmp_path / "log"
    for content in (data, gzip.compress(data)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"log.*{what}"):
            _lines(Source(path))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    """A missing file and a folder are errors that name them."""
    with pytest.raises(InputError, match=r"nowhere.*No such file"):
        _lines(Source(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="is a directory"):
        _lines(Source(tmp_path))


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with a line: the error says where it begins."""
    monkeypatch.setattr(sources, "MAX_LINE", 1 << 20)
    path = tmp_path / "log"
    path.write_bytes(b"ok\n" + b"x" * (3 << 20))
    with pytest.raises(InputError, match="line at byte 3 is longer"):
        _lines(Source(path))


def test_zstd_without_any_decoder_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the package nor the program: one clear error."""
    path = tmp_path / "log.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfdrest")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setattr(sources.shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="zstd") as error:
        _lines(Source(path))
    assert "Install" in (error.value.hint or "")


def test_a_family_is_found_by_its_name_or_folder(tmp_path: Path) -> None:
    """strace -ff -o NAME: NAME.TID of all threads, packed or not, and nothing else."""
    for name in ("log.12", "log.7", "log.3.gz", "log.txt", "log", "other"):
        (tmp_path / name).write_text("x")
    assert family(tmp_path / "log") == []  # a file of that name is meant
    (tmp_path / "log").unlink()
    for path in (tmp_path / "log", tmp_path):
        assert [member.tid for member in family(path)] == [3, 7, 12]
    assert family(tmp_path / "nothing") == [] and family(tmp_path / "no" / "log") == [] and family("-") == []
    (tmp_path / "second.9").write_text("x")
    with pytest.raises(InputError, match="several logs: log, second"):
        family(tmp_path)


def test_a_member_is_known_by_its_name() -> None:
    """NAME.TID is the log of thread TID."""
    member = member_of("/x/log.6263")
    assert member is not None and member.tid == 6263
    assert member_of("/x/log.txt") is None
