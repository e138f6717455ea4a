"""Long traces: points in time, shipped queries and bisection, beside the linear replay.

A stream of memory calls on `live` mappings, with two late events of its own: one maps a page elsewhere, the
other asks for MAP_STACK, which a rule switch decides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.engine import HEADER, RULES
from benchmarks.measure import BUILD, cpu, percentile
from benchmarks.rows import Goal, Row
from benchmarks.stream import BASE, SLOT, calls
from vmastore.events import Event
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import open_store, query
from vmastore.store.library import LIBRARY
from vmastore.store.saved import complete
from vmastore.store.snapshots import places

PLACE = 0x600000000000
FOR_65K = 38_500  # mappings: what is done to them in a million events makes about 65,000 VMAs of them
_BATCH = 50_000
_LINEAR = 3  # moments at which the baseline is measured: each costs a whole replay


def planted(count: int) -> tuple[int, int]:
    """(the event that maps PLACE, the one that asks for MAP_STACK) of a stream of `count`."""
    return count * 7 // 10, count * 8 // 10


def stream(count: int, live: int) -> Iterator[Event]:
    """`count` events of one address space, the first `live` of them its mappings."""
    mapped, stack = planted(count)
    own = {mapped: (0x32, PLACE), stack: (0x20032, PLACE + (1 << 30))}
    for seq, (name, args, result) in enumerate(islice(calls(count, live), count), 1):
        if seq in own:
            flags, addr = own[seq]
            yield Event(seq, 1, 7, 7, None, "mmap", (addr, 4096, 3, flags, -1, 0), addr, 0)
            continue
        shown: tuple[Any, ...] = (*args, "w", None, "user") if name == "fault" else args
        yield Event(seq, 1, 7, 7, None, name, shown, result, 0)


def filled(path: Path, count: int, live: int) -> StoredTrace:
    """A store with one trace of `stream`."""
    store = open_store(path)
    info = store.create_trace(HEADER)
    events = stream(count, live)
    while batch := list(islice(events, _BATCH)):
        store.append(info.trace, batch)
    return StoredTrace(store, store.trace(info.trace))


def rows(trace: StoredTrace, live: int, probes: int) -> list[Row]:
    """Random moments, the linear replay to some of them first (before there are snapshots), then the queries."""
    count = trace.info.events
    rng = random.Random(live)
    seqs = [rng.randrange(live, count) + 1 for _ in range(probes)]
    linear = [_ms(trace, seq) for seq in seqs[:_LINEAR]]
    world, summary = derive(trace, RULES)
    found = [_ms(trace, seq) for seq in seqs]
    kept = places(trace.store, summary.replay)
    more = {f"p{percent}_ms": round(percentile(found, percent), 2) for percent in (50, 95, 99)}
    more |= {"linear_ms": [round(ms, 1) for ms in linear], "events": count, "vmas": world.mms[1].map_count}
    more |= {"probes": probes, "snapshots": len(kept), "snapshot_MiB": round(sum(s for _, s in kept) / (1 << 20), 1)}
    middle = percentile(linear, 50)
    size = "1 k" if live < 10_000 else "65 k"
    p95 = percentile(found, 95)
    point = Row(
        f"point-{size.replace(' ', '')}", f"point in time, {count:,} events, {size} live, p95", "ms", round(p95, 1),
        round(middle, 1), "linear replay", round(middle / p95, 1), [Goal("ours", most=50 if live < 10_000 else 200)],
        BUILD, more,
    )  # fmt: skip
    return [point, _queries(trace, size)]


def _ms(trace: StoredTrace, seq: int) -> float:
    return cpu(lambda: trace.at(seq, RULES)[0].close()) * 1000


def _queries(trace: StoredTrace, size: str) -> Row:
    """The slowest shipped query, at addresses and moments in the middle of the trace."""
    middle, last = trace.info.events // 2, trace.info.events
    given: dict[str, object] = {
        "addr": BASE, "low": BASE, "high": BASE + 8 * SLOT, "first": middle, "last": min(middle + 20_000, last),
        "flag": "ac", "a": middle, "b": -1, "kernel": RULES.name, "against": RULES.name,
    }  # fmt: skip
    found = {}
    for name, asked in LIBRARY.items():
        params = {key: value for key, value in given.items() if key in asked.parameters}

        def ask() -> None:
            _, answer = query(trace.store, asked.sql, complete(trace.store, asked, params))  # noqa: B023
            for _ in answer:
                pass

        found[name] = round(cpu(ask) * 1000, 1)
    slowest = max(found, key=lambda name: found[name])
    return Row(
        f"queries-{size.replace(' ', '')}", f"slowest of {len(found)} shipped queries ({slowest}), {size} live", "ms",
        found[slowest], goals=[Goal("ours", most=1000)], build=BUILD, more={"queries_ms": found},
    )  # fmt: skip
