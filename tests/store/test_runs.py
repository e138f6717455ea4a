"""Where two replays part is found from what is kept of runs of events, wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import pytest

from vmastore.errors import StoreError
from vmastore.events import TraceHeader
from vmastore.store import Store
from vmastore.store.runs import RUN, first_unlike, packed

_COUNT = 3 * RUN + 70


@pytest.fixture
def stored(store: Store) -> Callable[[int, list[int]], None]:
    """Keeps marks of all events of a replay, as runs."""
    store.create_trace(TraceHeader("t", "s", "strace"))

    def keep(replay: int, marks: list[int], hashes: list[int] | None = None) -> None:
        digest = blake2b(digest_size=8)
        with store._write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO replay_t (replay, trace, kernel, options, engine, events) VALUES (?, 1, ?, '', '', 0)",
                (replay, str(replay)),
            )
            for at in range(0, len(marks), RUN):
                run = marks[at : at + RUN]
                digest.update(str((hashes or marks)[at : at + RUN]).encode())
                row = (replay, at + 1, packed(digest.digest(), run))
                connection.exec_driver_sql("INSERT INTO rolling_t VALUES (?, ?, ?)", row)

    return keep


def unlike(store: Store, last: int = _COUNT) -> int | None:
    with store._read() as connection:
        return first_unlike(connection, 1, 2, last)


@pytest.mark.parametrize("seq", [1, 2, RUN, RUN + 1, 2 * RUN, 3 * RUN, 3 * RUN + 1, _COUNT - 1, _COUNT])
def test_where_one_event_differs(store: Store, stored: Callable[..., None], seq: int) -> None:
    """In the first run, the last, at their edges; those behind may be the same again."""
    marks = [n % 7 for n in range(_COUNT)]
    stored(1, marks)
    marks[seq - 1] += 1 << 31
    stored(2, marks)
    assert unlike(store) == seq
    assert unlike(store, seq) == seq
    assert seq == 1 or unlike(store, seq - 1) is None


def test_the_same(store: Store, stored: Callable[..., None]) -> None:
    """Two replays that are the same, and of which one goes on."""
    marks = list(range(_COUNT))
    stored(1, marks)
    stored(2, [*marks, 1, 2, 3])
    assert unlike(store) is None


def test_marks_that_do_not_tell(store: Store, stored: Callable[..., None]) -> None:
    """The hash differs and no mark of its run: it is in that run, which is named by its first event."""
    marks = list(range(_COUNT))
    stored(1, marks)
    stored(2, marks, [*marks[: RUN + 9], 0, *marks[RUN + 10 :]])
    assert unlike(store) == RUN + 1


def test_runs_that_are_not_there(store: Store, stored: Callable[..., None]) -> None:
    """Missing, or as an older vmastore kept them: said, with what to do."""
    stored(1, list(range(_COUNT)))
    with pytest.raises(StoreError, match="replay 2 has no hash of its outcome"):
        unlike(store)
    stored(2, [])
    with store._write() as connection:
        for at in range(0, _COUNT, RUN):
            connection.exec_driver_sql("INSERT INTO rolling_t VALUES (2, ?, ?)", (at + 1, b"1234567"))
    with pytest.raises(StoreError, match="replay 2 has no hash of its outcome") as raised:
        unlike(store)
    assert raised.value.hint == "run `vmastore db rebuild`"
