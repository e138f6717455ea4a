"""Rows of a replay go in without look-ups of what they refer to, and yet never to a replay that is gone."""

from __future__ import annotations

from random import Random

import pytest
from behind import ask
from sqlalchemy.exc import IntegrityError

from vmastore.errors import StoreError
from vmastore.events import TraceHeader
from vmastore.store import Store, open_store
from vmastore.store.check import check_store
from vmastore.store.derived import ReplayWriter, _by_node, drop


def begun(store: Store) -> ReplayWriter:
    """The writer of a replay of a new trace."""
    trace = store.create_trace(TraceHeader("a", "a", "strace")).trace
    return ReplayWriter(store, trace, "6.1", "{}", engine="x", basis="")


def test_a_replay_deleted_meanwhile_takes_no_more_rows(place: str) -> None:
    """Another program deletes it between two batches: said, and nothing is left that belongs to no replay."""
    with open_store(place) as store, open_store(place) as other:
        with pytest.raises(StoreError, match="deleted while it was written"), begun(store) as writer:
            writer.outcomes += (1, 1, 0, 1)
            writer.flush()
            with other._write() as connection:
                drop(connection, writer.replay)
            writer.outcomes += (2, 1, 0, 1)
            writer.flush()
        assert ask(place, "SELECT count(*) FROM outcome_t") == [(0,)]
        assert check_store(store) == ([], 0)


def test_keys_hold_again_behind_it(place: str) -> None:
    """What is written in other transactions of the same connection is held against its keys."""
    with open_store(place) as store:
        with begun(store) as writer:
            writer.outcomes += (1, 1, 0, 1)
        with pytest.raises(IntegrityError), store.engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO rolling_t VALUES (99, 1, ?)", (b"",))


def test_pages_go_in_by_node() -> None:
    """However large the nodes are, and those of one node as they came."""
    random = Random(4)
    nodes = [random.choice((1, 7, (1 << 53) - 1, (1 << 53) - 2, random.randrange(1 << 53))) for _ in range(2000)]
    rows = [(node, random.randrange(9), n) for n, node in enumerate(nodes)]
    flat = _by_node([value for row in rows for value in row])
    assert list(zip(flat[0::3], flat[1::3], flat[2::3], strict=True)) == sorted(rows, key=lambda row: row[0])
