"""Several processes write to one store: nothing is lost, nothing is stored twice, nobody fails for a lock."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import pytest

from vmastore.errors import ConcurrencyError, StoreError
from vmastore.events import Event, TraceHeader
from vmastore.store import Store, open_store
from vmastore.store.check import check_store

HEADER = TraceHeader("app", "app.log", "strace", "6.18.44")
APPENDS = 60  # of each writer


def call(seq: int, pid: int, name: str = "munmap") -> Event:
    return Event(seq, 1, pid, pid, None, name, (4096, 4096), 0, 0)


def together(count: int, job: Callable[[str, int], None], place: str) -> None:
    """Run a job in several processes at once; each must come to its end."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=job, args=(place, n)) for n in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


def _append_to_one_trace(place: str, writer: int) -> None:
    """Append one event at a time at the version last seen; a conflict means to look again."""
    with open_store(place) as store:
        done, version = 0, 0
        while done < APPENDS:
            try:
                version = store.append(1, [call(version + 1, 100 + writer)], expected_version=version)
                done += 1
            except ConcurrencyError as error:
                assert f"not at {version}" in error.message
                version = store.trace(1).events


def test_writers_of_one_trace_take_turns(place: str) -> None:
    """By expected versions: a gap-free sequence that holds each writer's events, every one once."""
    with open_store(place) as store:
        store.create_trace(HEADER)
    together(3, _append_to_one_trace, place)
    with open_store(place) as store:
        pids = [event.pid for event in store.events(1)]
        assert [event.seq for event in store.events(1)] == list(range(1, 3 * APPENDS + 1))
        assert sorted(pids) == sorted([100, 101, 102] * APPENDS)
        assert check_store(store) == ([], 3 * APPENDS)


def _append_to_own_trace(place: str, writer: int) -> None:
    with open_store(place) as store:
        trace = store.create_trace(HEADER).trace
        for n in range(APPENDS):
            batch = [call(n * 20 + i, writer, f"call_{(n + i) % 50}_{writer}") for i in range(1, 21)]
            assert store.append(trace, batch, expected_version=n * 20, key=str(n)) == n * 20 + 20


def test_writers_of_traces_of_their_own(place: str) -> None:
    """They make the store, name their traces alike and give new numbers to names at the same time."""
    # the store is not there yet: all make it
    together(4, _append_to_own_trace, place)
    with open_store(place) as store:
        assert sorted(info.header.name for info in store.traces()) == ["app", "app-2", "app-3", "app-4"]
        for info in store.traces():
            found = list(store.events(info.trace))
            assert len(found) == info.events == APPENDS * 20
            assert len({event.pid for event in found}) == 1
            assert all(event.call.endswith(f"_{event.pid}") for event in found)
        assert check_store(store) == ([], 4 * APPENDS * 20)


def _append_with_keys(place: str, _: int) -> None:
    with open_store(place) as store:
        for n in range(APPENDS):
            assert store.append(1, [call(n + 1, 7)], key=f"batch {n}") == n + 1


def test_two_that_send_the_same_batches_store_them_once(place: str) -> None:
    """The key of a batch is looked up and stored in the transaction of its events."""
    with open_store(place) as store:
        store.create_trace(HEADER)
    together(2, _append_with_keys, place)
    with open_store(place) as store:
        assert check_store(store) == ([], APPENDS)


def test_numbers_given_in_a_failed_batch_are_forgotten(store: Store) -> None:
    """A call met first in a batch that was undone gets its number anew, also when another has it by now."""
    trace = store.create_trace(HEADER).trace
    with pytest.raises(ConcurrencyError):
        store.append(trace, [call(1, 7, "first_met"), call(3, 7)])
    with open_store(store.place) as other:
        other.append(trace, [call(1, 7, "another")])
    store.append(trace, [call(2, 7, "first_met")])
    assert [event.call for event in store.events(trace)] == ["another", "first_met"]
    assert check_store(store) == ([], 2)


def test_one_source_is_imported_by_one(store: Store) -> None:
    """The second to begin is told which trace it is."""
    store.create_trace(HEADER, source_key="abc")
    with pytest.raises(StoreError, match=r"app.log: it is trace app already"):
        store.create_trace(HEADER, source_key="abc")
