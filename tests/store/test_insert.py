"""Rows inserted in blocks are the rows inserted one by one, hashes included."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.store import open_store
from vmastore.store.check import check_store
from vmastore.store.insert import _BLOCK

HEADER = TraceHeader("app", "app.log", "strace", None, None, {}, "none")


def mixed(count: int, odd: float, seed: int) -> list[Event]:
    """Events of which a share of `odd` has what most events leave empty: errno, file, injection, call site."""
    rng = random.Random(seed)
    found = []
    for seq in range(1, count + 1):
        errno, file, injected, site = 0, None, False, None
        if rng.random() < odd:
            errno, file = rng.choice(((12, None), (0, 3), (0, None)))
            injected, site = rng.random() < 0.3, rng.choice((None, "libc.so.6(mmap+0x13) [0x7f]"))
        args = (rng.randrange(1 << 64), 4096, 3, 0x22, -1, 0)
        result = None if errno else rng.randrange(1 << 64)
        ts_ns, line = (seq * 1000, seq) if rng.random() < 0.5 else (None, None)
        found.append(Event(seq, 1, 7, 7, ts_ns, "mmap", args, result, errno, file, injected, site, line, line))
    return found


@pytest.mark.parametrize("odd", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, _BLOCK - 1, _BLOCK, 3 * _BLOCK + 7])
def test_blocks(count: int, odd: float, tmp_path: Path) -> None:
    """Whatever the mix of rows, a batch at once gives the events and the head of single appends."""
    events = mixed(count, odd, seed=count)
    with open_store(tmp_path / "s.db") as store:
        at_once, one_by_one = store.create_trace(HEADER).trace, store.create_trace(HEADER).trace
        store.append(at_once, events)
        for event in events:
            store.append(one_by_one, [event])
        assert list(store.events(at_once)) == list(store.events(one_by_one)) == events
        with store._read() as connection:
            heads = connection.exec_driver_sql("SELECT head_seq, head_hash FROM trace_t").fetchall()
        assert heads[0] == heads[1]
        assert check_store(store) == ([], 2 * count)
