"""Device, inode and size of mapped files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmastore.events.types import FileInfo
from vmastore.recorder.paths import Paths


def _line(path: Path, dev: str | None = None) -> list[object]:
    info = path.stat()
    real = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}"
    return [0, 4096, "r--p", 0, dev or real, info.st_ino, str(path), None, None]


def _paths(tmp_path: Path, age_ns: int = 1_000_000_000) -> tuple[Paths, Path, FileInfo]:
    """A recording that began `age_ns` after the file was changed."""
    file = tmp_path / "library.so"
    file.write_bytes(b"x" * 5000)
    return Paths(file.stat().st_ctime_ns + age_ns), file, FileInfo(1, str(file), "regular")


def test_a_file_is_described_once_its_device_was_seen_to_agree(tmp_path: Path) -> None:
    """Before maps and stat have been compared on a device nothing is said; then size and inode are."""
    paths, file, info = _paths(tmp_path)
    assert paths.describe(info) == info
    paths.learn([_line(file)])
    described = paths.describe(info)
    assert (described.size, described.inode) == (5000, file.stat().st_ino)
    assert paths.describe(info._replace(path="/no/such")).inode is None
    assert paths.describe(info._replace(kind="memfd")).inode is None


def test_a_device_that_maps_shows_otherwise_is_not_believed(tmp_path: Path) -> None:
    """On an overlay, maps names the device underneath."""
    paths, file, info = _paths(tmp_path)
    paths.learn([_line(file, dev="fe:77")])
    assert paths.describe(info).inode is None


@pytest.mark.parametrize("age_ns", [-1_000_000_000, 0, 4_000_000], ids=["later", "same-moment", "same-tick"])
def test_a_file_that_changed_since_is_not_believed(tmp_path: Path, age_ns: int) -> None:
    """It may be another one than the program had."""
    paths, file, info = _paths(tmp_path, age_ns)
    paths.learn([_line(file)])
    assert paths.describe(info) == info
