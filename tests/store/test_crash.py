"""A writer that is killed at a random moment leaves a sound store, with all that it said was stored.

VMASTORE_CRASHES is the number of kills for each of the five kinds of work (`make crash`: 50).
"""

from __future__ import annotations

import gzip
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset
from vmastore.replay.check import check_replays
from vmastore.replay.derive import derive
from vmastore.replay.rebuild import rebuild
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store, migrate, open_store
from vmastore.store.check import check_store
from vmastore.store.upgrade import schema_of, upgrade_store

CRASHES = int(os.environ.get("VMASTORE_CRASHES", "6"))
DATA = Path(__file__).parent.parent / "data"
HEADER = TraceHeader("app", "app.log", "strace", "6.18.44")
BATCH = 7
Say = Callable[[int], None]


def killed(job: Callable[[Say], None], rng: random.Random, acks: int) -> list[int]:
    """Run a job that never ends in a process, kill it at a random moment. Returns what it has said.

    The moment: after a random number of acknowledgements, and then a random instant of the work that follows.
    """
    end, begin = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        with suppress(BaseException):
            os.close(end)
            job(lambda number: os.write(begin, b"%d\n" % number) and None)
        os._exit(3)
    os.close(begin)
    wanted = rng.randrange(acks + 1)
    said = b""
    while said.count(b"\n") < wanted and (piece := os.read(end, 4096)):
        said += piece
    time.sleep(rng.random() ** 3 * 0.06)  # a moment, not a deadline: nothing below depends on it
    os.kill(child, signal.SIGKILL)
    while piece := os.read(end, 4096):
        said += piece
    os.close(end)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "the job came to its end"
    return [int(line) for line in said.split(b"\n")[:-1]]


def rounds(seed: int) -> Iterator[random.Random]:
    """A source of chance for each kill."""
    for n in range(CRASHES):
        yield random.Random(seed * 1000 + n)


def event(seq: int) -> Event:
    if seq % 5 == 0:
        line = [4096, 8192, "rw-p", 0, "00:00", 0, "", None, None]
        return Event(seq, 1, 7, 7, None, "maps", ("check", 1, None, [line]), None, 0)
    return Event(seq, 1, 7, 7, None, f"call_{seq % 31}", (seq, 4096), 0, 0, site=f"f+{seq % 17}")


def sound(store: Store) -> None:
    """`db check` passes, derived data included."""
    assert check_store(store)[0] == []
    assert check_replays(store).problems == []


def test_append(place: str) -> None:
    """Every acknowledged batch is there, and none in part."""
    with open_store(place) as store:
        store.create_trace(HEADER)

    def job(say: Say) -> None:
        with open_store(place) as store:
            version = store.trace(1).events
            while True:
                batch = [event(n) for n in range(version + 1, version + BATCH + 1)]
                version = store.append(1, batch, expected_version=version, key=str(version))
                say(version)

    stored = 0
    for rng in rounds(1):
        said = killed(job, rng, 30)
        with open_store(place) as store:
            version = store.trace(1).events
            assert version >= max([stored, *said]) and version % BATCH == 0
            assert version - stored in (len(said) * BATCH, (len(said) + 1) * BATCH)  # at most one was not yet said
            assert [(e.call, e.args) for e in store.events(1, stored + 1)] == [
                (event(n).call, event(n).args) for n in range(stored + 1, version + 1)
            ]
            sound(store)
            stored = version


def test_import(tmp_path: Path, place: str) -> None:
    """An interrupted import goes on where it stopped, in whole batches, and comes to the same events."""
    source = str(DATA / "strace" / "sh.log")
    with open_store(tmp_path / "whole.db") as store:
        reader = open_traces(source)[0]
        whole = store.import_events(store.create_trace(reader.header), reader)
        expected = list(store.events(whole.trace))
    open_store(place).close()

    class Telling(Store):
        """Says what it has stored."""

        def append(self, trace: int, *words: object, **named: object) -> int:
            version = super().append(trace, *words, **named)  # type: ignore[arg-type]
            self.say(trace * 1000 + version)  # type: ignore[attr-defined]
            return version

    def job(say: Say) -> None:
        with open_store(place) as opened:
            store = Telling(opened.engine)
            store.say = say  # type: ignore[attr-defined]
            while True:
                for n in range(1, 1000):
                    reader = open_traces(source)[0]
                    known = store.by_source(str(n))
                    if known is None or not known.complete:
                        info = known or store.create_trace(reader.header, source_key=str(n))
                        store.import_events(info, reader, batch=BATCH)

    told: dict[int, int] = {}
    for rng in rounds(2):
        for trace, version in (divmod(number, 1000) for number in killed(job, rng, 40)):
            told[trace] = version
        with open_store(place) as store:
            for info in store.traces():
                assert info.events >= told.get(info.trace, 0)
                assert info.events % BATCH == 0 or info.events == len(expected)
                assert list(store.events(info.trace)) == expected[: info.events]
                assert not info.complete or info.events == len(expected)
            assert sum(not info.complete for info in store.traces()) <= 1
            sound(store)


@pytest.fixture
def imported(place: str) -> str:
    """A store with a sample that can be replayed."""
    with open_store(place) as store:
        reader = open_traces(str(DATA / "vmatrace" / "v1.vmatrace.jsonl"))[0]
        store.import_events(store.create_trace(reader.header), reader)
    return place


@pytest.mark.parametrize("work", ["replay", "rebuild"])
def test_derived_data(imported: str, work: str) -> None:
    """Events are untouched; what is stored as finished is what a replay gives, the one in the work is stale."""
    with open_store(imported) as store:
        head = list(store.events(1))
        for kernel in ("6.1", "6.18"):
            derive(StoredTrace(store, store.trace(1)), preset(kernel))

    def job(say: Say) -> None:
        with open_store(imported) as store:
            done = 0
            while True:
                if work == "rebuild":
                    rebuild(store)
                else:
                    derive(StoredTrace(store, store.trace(1)), preset("6.18" if done % 2 else "6.1"))
                done += 1
                say(done)

    stale: set[str] = set()  # by rule set: each kill leaves one at most, and the next may not come to it
    for rng in rounds(3 if work == "replay" else 4):
        killed(job, rng, 3)
        with open_store(imported) as store:
            sound(store)
            assert list(store.events(1)) == head
            checked = check_replays(store)
            before, stale = stale, {text.rpartition("(")[2] for text in checked.stale}
            assert checked.replays + len(stale) == len(checked.stale) + checked.replays == 2
            assert len(stale - before) <= 1
    with open_store(imported) as store:
        assert rebuild(store) == 2
        assert check_replays(store) == ([], 2, [])


@pytest.mark.sqlite("the file is copied and upgraded (test_pg_upgrade.py has PostgreSQL's)")
def test_upgrade(tmp_path: Path) -> None:
    """The store is the old one or the new one; run again, the upgrade succeeds."""
    old = gzip.decompress((DATA / "stores" / "0001.db.gz").read_bytes())

    for number, rng in enumerate(rounds(5)):
        folder = tmp_path / str(number)
        folder.mkdir()

        def job(say: Say, folder: Path = folder) -> None:
            for n in range(1, 1000):
                place = folder / f"{n}.db"
                (folder / f"{n}.new").write_bytes(old)
                os.replace(folder / f"{n}.new", place)
                say(2 * n)
                upgrade_store(place)
                say(2 * n + 1)

        said = killed(job, rng, 4)
        for place in folder.glob("*.db"):
            done = 2 * int(place.stem) + 1 in said
            assert schema_of(place) in ((migrate.head(),) if done else ("0001", migrate.head()))
            upgrade_store(place)
            with open_store(place) as store:
                assert [info.events for info in store.traces()] == [60, 168, 14]
                sound(store)
            for copy in folder.glob(f"{place.name}.0001.bak"):
                assert schema_of(copy) == "0001"
