"""Bisection over stored replays: the same answer as a linear pass, for a number of steps that grows as log n."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest
from planting import HEADER, program, run

from vmastore.events import Event
from vmastore.mm.rules import preset
from vmastore.replay.bisect import PredicateJudge, Side, SqlJudge, differences, first_parted, flips, look, search
from vmastore.replay.bisect.stored import States, replay_of
from vmastore.replay.derive import derive
from vmastore.replay.predicate import parse
from vmastore.replay.snapshots import Spacing
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store, open_store
from vmastore.store.snapshots import births

COUNT, EVERY = 3_000, 100  # events, events between snapshots
PLACE = 0x600000000000
ONE = Side(preset("6.18"))
TWO = Side(preset("6.18").with_rule("map-stack-nohugepage", False))


def events() -> list[Event]:
    """A program, with a mapping of its own late, and one that the switch decides later still."""
    found = run(program(random.Random(3), COUNT), 1, preset("6.18"))
    found = [
        e if e.call != "mmap" else e._replace(args=(*e.args[:3], e.args[3] & ~0x20000, *e.args[4:])) for e in found
    ]
    for seq, flags, addr in ((2_150, 0x32, PLACE), (2_701, 0x20032, PLACE + (1 << 30))):
        found[seq - 1] = Event(seq, 1, 1, 1, None, "mmap", (addr, 4096, 3, flags, -1, 0), addr, 0)
    return found


@pytest.fixture(scope="module")
def trace(new_place: Callable[[], str]) -> StoredTrace:
    """Stored, with both replays and snapshots of the first."""
    store = open_store(new_place())
    made = store.create_trace(HEADER)
    store.append(made.trace, events())
    stored = StoredTrace(store, store.trace(made.trace))
    derive(stored, ONE.rules, spacing=Spacing(EVERY, 1 << 30))
    derive(stored, TWO.rules)
    return stored


@pytest.mark.parametrize(
    "text",
    [f"mapped {PLACE:#x}", f"split_at {PLACE:#x} or mapped {PLACE:#x}", "seq >= 1999", "seq > 100", "seq > 2999"],
)
@pytest.mark.parametrize("last", [COUNT, 2_999, 2_950])
def test_a_property_is_found_in_few_steps(trace: StoredTrace, text: str, last: int) -> None:
    """The event of the linear pass, for log2(n/spacing) states and one pass shorter than the spacing."""
    judge = PredicateJudge(parse(text))
    linear = list(flips(ONE.world(trace), trace.events(1, last), judge))
    found = search(trace, ONE, judge, last)
    if not linear:
        assert found is None
        return
    assert found is not None and [found.flip] == linear
    assert found.states <= 3 + (COUNT // EVERY).bit_length() and found.passed <= EVERY
    assert look(trace, found.flip.event.seq, ONE.rules).event == found.flip.event


def test_sql_too(trace: StoredTrace) -> None:
    """The same with a query."""
    query = f"SELECT count(*) FROM vmas WHERE vm_start = {PLACE}"
    found = search(trace, ONE, SqlJudge(query, trace.info.trace), COUNT)
    assert found is not None and found.flip.event.seq == 2_150 and found.passed <= EVERY


@pytest.mark.parametrize("seed", range(4))
def test_births_are_those_of_the_linear_pass(store: Store, seed: int) -> None:
    """A query on born_seq names the event of the linear pass on random traces, and sees the same births before it."""
    rng = random.Random(seed)
    made = store.create_trace(HEADER)
    store.append(made.trace, run(program(rng, 1_200), 1, preset("6.18")))
    trace = StoredTrace(store, store.trace(made.trace))
    derive(trace, ONE.rules, spacing=Spacing(40, 1 << 30))
    last = trace.info.events
    asked = 0
    for born in (rng.randrange(200, 1_000) for _ in range(12)):
        query = f"SELECT count(*) FROM vmas WHERE born_seq >= {born}"  # once true, it may cease
        linear = [f.event.seq for f in flips(ONE.world(trace), trace.events(), SqlJudge(query, 1)) if f.holds]
        found = search(trace, ONE, SqlJudge(query, 1), last)
        assert found is None or found.flip.event.seq in linear
        asked += found is not None
        total = f"SELECT sum(born_seq) > {born * 20} FROM vmas"
        linear = [f.event.seq for f in flips(ONE.world(trace), trace.events(), SqlJudge(total, 1)) if f.holds]
        found = search(trace, ONE, SqlJudge(total, 1), last)
        assert found is None or found.flip.event.seq in linear
        asked += found is not None
        stop = rng.randrange(50, last)
        by_pass, by_state = (SqlJudge("SELECT sum(born_seq) FROM vmas", 1) for _ in range(2))
        list(flips(ONE.world(trace), trace.events(1, stop), by_pass))
        by_state.births = partial(births, store, replay_of(trace, ONE) or 0)
        by_state.holds(States(trace, ONE).at(stop), stop)
        rows = [list(j._db._db.execute("SELECT * FROM vmas ORDER BY mm, vm_start")) for j in (by_pass, by_state)]
        assert rows[0] == rows[1]
    assert asked > 5


def test_a_property_that_comes_and_goes(trace: StoredTrace) -> None:
    """What is named is a flip all the same: it holds there, and not before."""
    judge = PredicateJudge(parse("map_count > 100"))
    linear = [flip for flip in flips(ONE.world(trace), trace.events(), judge) if flip.holds]
    assert len(linear) >= 2
    last = next(f.event.seq for f in reversed(linear))
    found = search(trace, ONE, judge, last)
    assert found is not None and found.flip in linear


@pytest.mark.parametrize("text", ["errno ENOMEM", "merges > 0", "map_count > 100000", "map_count >= 0 and seq < 9"])
def test_where_states_do_not_tell(trace: StoredTrace, text: str) -> None:
    """Of the event itself, never, or no longer at the end: left to the linear pass."""
    assert search(trace, ONE, PredicateJudge(parse(text)), COUNT) is None


def test_without_snapshots(trace: StoredTrace) -> None:
    """Another rule set or option has none: nothing is made up."""
    judge = PredicateJudge(parse(f"mapped {PLACE:#x}"))
    assert search(trace, Side(preset("6.12")), judge, COUNT) is None
    assert search(trace, Side(preset("6.18"), max_map_count=500), judge, COUNT) is None


def test_stored_outcomes(trace: StoredTrace) -> None:
    """The rolling hash names the event that the replay of both sides names; without it, that is said."""
    linear = next(differences(ONE.world(trace), TWO.world(trace), trace.events()))
    assert first_parted(trace, ONE, TWO) == (True, linear.event.seq) == (True, 2_701)
    assert first_parted(trace, ONE, ONE) == (True, None)
    assert first_parted(trace, ONE, Side(preset("6.12"))) == (False, None)


def test_a_replay_of_fewer_events_is_not_used(store: Store) -> None:
    """Events that were appended since have no outcome: the stored replay does not answer for them."""
    made = store.create_trace(HEADER)
    some = events()
    store.append(made.trace, some[:1_000])
    half = StoredTrace(store, store.trace(made.trace))
    for side in (ONE, TWO):
        derive(half, side.rules)
    assert first_parted(half, ONE, TWO) == (True, None)
    store.append(made.trace, some[1_000:])
    whole = StoredTrace(store, store.trace(made.trace))
    assert first_parted(whole, ONE, TWO) == (False, None)
