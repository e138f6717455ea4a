"""Where a predicate or a query begins to hold: every flip, against looking at each state anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from behind import Behind

from vmastore.errors import StoreError
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import RuleSet, resolve
from vmastore.replay.bisect import Flip, PredicateJudge, SqlJudge, flips, look
from vmastore.replay.bisect.judge import state_of
from vmastore.replay.derive import derive
from vmastore.replay.predicate import Moment, parse
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def trace(store: Store) -> StoredTrace:
    """A recording of random calls with forks."""
    (reader,) = open_traces(DATA / "vmafuzz/all-6.1.jsonl.gz")
    made = store.create_trace(reader.header)
    return StoredTrace(store, store.import_events(made, reader))


@pytest.fixture
def rules(trace: StoredTrace) -> RuleSet:
    return resolve(trace.header.release or "", trace.header.version)


def found(trace: StoredTrace, rules: RuleSet, text: str, mm: int | None = None) -> list[Flip]:
    return list(flips(trace.world(rules), trace.events(), PredicateJudge(parse(text), mm)))


def every_state(trace: StoredTrace, rules: RuleSet, text: str) -> list[tuple[int, int, bool]]:
    """The flips, by asking after every event in every address space that it belongs to."""
    predicate, world = parse(text), trace.world(rules)
    answers: dict[int, bool] = {}
    seen = []
    for event in trace.events():
        outcome = world.apply(event)
        for number, space in sorted(world.mms.items(), key=lambda item: item[0] == event.mm):
            if number == event.mm:
                holds = predicate(Moment(space, outcome))
            elif number in answers:
                continue  # the calls of the one do not touch the other
            else:
                holds = predicate(state_of(space, event.seq))
            if holds != answers.get(number, False):
                seen.append((event.seq, number, holds))
            answers[number] = holds
    return seen


@pytest.mark.parametrize(
    "text",
    [
        "map_count > 30",
        "lost_merges > 6 and largest_vma < 1T",
        "not mapped 0x100000000-0x100008000",
        "errno ENOMEM",
        "splits",
        "bytes writable > 100k or wx",
        "seq > 300 and seq < 310",
        "lost_merges(anon_vma) >= 2",
        "perms 0x100000000 rw",
    ],
)
def test_every_flip_is_found(trace: StoredTrace, rules: RuleSet, text: str) -> None:
    """States that no event changed are not asked again, and yet no flip is missed."""
    got = [(flip.event.seq, flip.mm, flip.holds) for flip in found(trace, rules, text)]
    assert got == every_state(trace, rules, text) and got


def test_one_address_space(trace: StoredTrace, rules: RuleSet) -> None:
    """With an address space named, only its events count."""
    everywhere = found(trace, rules, "map_count > 10")
    numbers = {flip.mm for flip in everywhere}
    assert len(numbers) > 1
    for number in numbers:
        assert found(trace, rules, "map_count > 10", number) == [f for f in everywhere if f.mm == number]


def test_sql_sees_the_view_as_of_the_event(trace: StoredTrace, rules: RuleSet) -> None:
    """The table that a query sees after an event is the stored view restricted to what lived then."""
    judge, world = SqlJudge("SELECT 1", trace.info.trace), trace.world(rules)
    derive(trace, rules)
    columns = "trace, mm, vm_start, vm_end, perms, vm_flags, pgoff, path, name, born_seq"
    judge.begin(world)
    with Behind(trace.store.place) as raw:
        for event in trace.events():
            judge.after(event, world.apply(event))
            if event.seq % 40 == 0 or event.seq > 590:
                alive = f"born_seq <= {event.seq} AND coalesce(died_seq, 1000000000) > {event.seq}"
                want = raw.run(f"SELECT {columns} FROM vmas WHERE {alive} ORDER BY mm, vm_start").fetchall()
                got = judge._db._db.execute(f"SELECT {columns} FROM vmas ORDER BY mm, vm_start").fetchall()
                assert got == want and got, event.seq


def test_sql_and_predicate_agree(trace: StoredTrace, rules: RuleSet) -> None:
    """The same question in both languages flips at the same events."""
    query = "SELECT count(*) > 25 FROM vmas WHERE mm = 2"
    judge = SqlJudge(query, trace.info.trace)
    by_sql = [(f.event.seq, f.holds) for f in flips(trace.world(rules), trace.events(), judge)]
    assert by_sql == [(f.event.seq, f.holds) for f in found(trace, rules, "map_count > 25", 2)]
    assert by_sql


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM vmas",
        "SELECT nothing FROM vmas",
        "",
        "ATTACH 'x' AS y",
        "SELECT 1; SELECT 2",
        "PRAGMA user_version=3",
    ],
)
def test_a_wrong_query_is_refused(query: str) -> None:
    """Only one reading statement, and it is tried before anything is replayed."""
    with pytest.raises(StoreError, match="--sql"):
        SqlJudge(query, 1)


def test_looking_at_one_event(trace: StoredTrace, rules: RuleSet) -> None:
    """`look` shows the VMAs that the event touched, whatever came before it."""
    seen = look(trace, 156, rules)
    assert seen.event.seq == 156 and seen.outcome.splits == 2
    assert len(seen.change.before) == 2 and len(seen.change.after) == 4
    assert seen.change.before[0].start == seen.change.after[0].start
