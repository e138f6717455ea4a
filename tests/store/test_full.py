"""A disk that is full is one clear error, and what was acknowledged is intact."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmastore.errors import StoreError
from vmastore.events import Event, TraceHeader
from vmastore.store import Store, open_store
from vmastore.store.check import check_store
from vmastore.store.upgrade import schema_of, upgrade_store

pytestmark = pytest.mark.sqlite("the file and its disk")
OLD = Path(__file__).parent.parent / "data" / "stores" / "0001.db.gz"
HEADER = TraceHeader("app", "app.log", "strace", "6.18.44")


def fill(store: Store, start: int) -> tuple[int, StoreError]:
    """Append until the disk is full. Returns the last version that was acknowledged, and the error."""
    version = start
    while version < 1_000_000:
        batch = [Event(n, 1, 7, 7, None, "munmap", (n << 12, 4096), 0, 0) for n in range(version + 1, version + 51)]
        try:
            version = store.append(1, batch, expected_version=version)
        except StoreError as error:
            return version, error
    raise AssertionError("the disk was never full")


def full_then_whole(place: Path) -> tuple[str, str]:
    """In a process whose files may not grow further: the error and its hint; the store is then as acknowledged."""
    end, begin = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
            with open_store(place) as store:
                version, error = fill(store, store.trace(1).events)
                problems, events = check_store(store)
            os.write(begin, f"{version}\n{error.message}\n{error.hint}\n{problems}\n{events}".encode())
        finally:
            os._exit(0)
    os.close(begin)
    with os.fdopen(end) as stream:
        version, message, hint, problems, events = stream.read().split("\n")
    os.waitpid(child, 0)
    assert problems == "[]" and events == version
    with open_store(place) as store:
        assert check_store(store) == ([], int(version))
        assert store.append(1, [Event(int(version) + 1, 1, 7, 7, None, "brk", (0,), 0, 0)]) == int(version) + 1
    return message, hint


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: the append fails with the file's name and what to do; all before it is there."""
    place = tmp_path / "s.db"
    with open_store(place) as store:
        store.create_trace(HEADER)
    message, hint = full_then_whole(place)
    assert message == f"{place}: disk I/O error"
    assert hint.endswith("what was committed is intact")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 768 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=768k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_file_system(small: Path) -> None:
    """ENOSPC in the middle of appends; with room again they go on."""
    with open_store(small / "s.db") as store:
        store.create_trace(HEADER)
        filler = small / "filler"
        filler.write_bytes(bytes(150_000))
        version, error = fill(store, 0)
        assert error.message == f"{small / 's.db'}: database or disk is full"
        assert error.hint == "free space on its disk; what was committed is intact"
        assert store.trace(1).events == version > 0
        assert check_store(store) == ([], version)
        filler.unlink()
        assert store.append(1, [Event(version + 1, 1, 7, 7, None, "brk", (0,), 0, 0)]) == version + 1
        assert check_store(store) == ([], version + 1)


@pytest.mark.parametrize("room", [120, 230, 330])
def test_no_room_to_upgrade(small: Path, room: int) -> None:
    """Neither for the copy (208 KiB) nor for the migration after it: the store is the old one, and opens."""
    place = small / "old.db"
    place.write_bytes(gzip.decompress(OLD.read_bytes()))
    free = os.statvfs(small)
    (small / "filler").write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - room * 1024)))
    try:
        upgrade_store(place)
    except StoreError as error:
        assert "full" in error.message or "No space" in error.message
        assert schema_of(place) == "0001"
    else:
        assert room == 330
    (small / "filler").unlink()
    for copy in small.glob("*.bak"):
        copy.unlink()
    upgrade_store(place)
    with open_store(place) as store:
        assert check_store(store) == ([], 242)
