"""A log that grows: read as far as it goes, again and again; the same in the end as if it were read at once."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmastore.errors import InputError
from vmastore.events import Event
from vmastore.importers.follow import Followed
from vmastore.importers.strace import StraceReader
from vmastore.store import open_store

DATA = Path(__file__).parents[1] / "data"
LOG = DATA / "strace" / "threads.log"


class Growth:
    """Writes a log piece by piece, one piece each time the reader waits."""

    def __init__(self, path: Path, text: bytes, cuts: list[int]) -> None:
        self.path = path
        edges = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
        self.pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
        self.waits = 0
        path.write_bytes(b"")

    def __call__(self) -> bool:
        self.waits += 1
        if not self.pieces:
            return False
        with self.path.open("ab") as file:
            file.write(self.pieces.pop(0))
        return True


def once(path: Path) -> list[Event]:
    return list(StraceReader([path]).events())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 1 << 20), max_size=12))
def test_a_growing_log_gives_what_the_whole_one_does(tmp_path: Path, cuts: list[int]) -> None:
    """However it grows, in lines or in parts of lines."""
    path = tmp_path / "x.log"
    log = Followed(path_of(path), grow := Growth(path, LOG.read_bytes(), cuts))
    assert [event for batch in log.batches() for event in batch] == once(LOG)
    assert not grow.pieces
    reader = StraceReader([LOG])
    list(reader.events())
    assert log.skips() == reader.skips() and log.files == reader.files and log.header.note == reader.header.note


def path_of(path: Path) -> Path:
    path.touch()
    return path


def test_it_ends_when_every_thread_has_ended(tmp_path: Path) -> None:
    """Nobody is asked to wait once the last process is gone; until then, yes."""
    path = tmp_path / "x.log"
    path.write_bytes(LOG.read_bytes())
    waits: list[int] = []
    list(Followed(path, lambda: bool(waits.append(1))).batches())
    assert waits == []
    path.write_bytes(b"".join(LOG.read_bytes().splitlines(True)[:-1]))
    list(Followed(path, lambda: bool(waits.append(1))).batches())
    assert waits == [1]


def test_each_look_is_a_batch_in_the_store(tmp_path: Path) -> None:
    """What a look gives is stored at once; a second follower goes on where the first stopped, to the same hash."""
    path, text = tmp_path / "x.log", LOG.read_bytes()
    with open_store(tmp_path / "a.db") as store:
        grow = Growth(path, text, [3000, 6000])

        def wait() -> bool:
            if grow.waits == 2:
                raise KeyboardInterrupt
            return grow()

        log = Followed(path, wait)
        info = store.create_trace(log.header, source_key="follow:x")
        with pytest.raises(KeyboardInterrupt):
            store.import_batches(info, log, log.batches(), source_key=lambda: log.digest)
        partly = store.trace("x.log")
        assert 0 < partly.events < len(once(LOG)) and not partly.complete
        path.write_bytes(text)
        again = Followed(path, lambda: False)
        done = store.import_batches(partly, again, again.batches(), source_key=lambda: again.digest)
        assert done.complete and list(store.events(done.trace)) == once(LOG)
        assert store.by_source(again.digest) == done
    with open_store(tmp_path / "b.db") as store:
        reader = StraceReader([path])
        other = store.import_events(store.create_trace(reader.header), reader)
        whole = head(tmp_path / "b.db")
        assert other.events == done.events
    assert head(tmp_path / "a.db") == whole


def head(path: Path) -> bytes:
    """The last hash of a store's only trace."""
    with closing(sqlite3.connect(path)) as connection:
        return bytes(connection.execute("SELECT head_hash FROM trace_t").fetchone()[0])


def test_what_cannot_be_followed_is_one_error(tmp_path: Path) -> None:
    """A missing, packed or binary file, and one that gets shorter."""
    with pytest.raises(InputError, match="nowhere"):
        Followed(tmp_path / "nowhere", lambda: False)
    for name, data in {"gz": b"\x1f\x8b\x08\x04", "elf": b"\x7fELF\x02"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name):
            list(Followed(tmp_path / name, lambda: False).batches())
    path = tmp_path / "x.log"
    path.write_bytes(b"7 munmap(0x1000, 4096) = 0\n")

    def shorter() -> bool:
        path.write_bytes(b"7 ")
        return True

    with pytest.raises(InputError, match="shorter"):
        list(Followed(path, shorter).batches())
