"""Saved queries: the store's own and the shipped ones, each of which runs and answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from vmastore.errors import StoreError
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset, resolve
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store, open_store, query, saved
from vmastore.store.library import LIBRARY

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def filled(new_place: Callable[[], str]) -> Store:
    """The recording of a Python program, under two kernels."""
    store = open_store(new_place())
    reader = open_traces(ROOT / "docs" / "data" / "python-imports.vmatrace.jsonl.gz")[0]
    trace = StoredTrace(store, store.import_events(store.create_trace(reader.header._replace(name="py")), reader))
    for rules in (preset("6.1"), resolve(trace.header.release or "", trace.header.version)):
        derive(trace, rules)
    return store


def answer(store: Store, name: str, **params: object) -> tuple[list[str], list[tuple[object, ...]]]:
    """(columns, rows) of a saved query."""
    found = saved.find(store, name)
    columns, rows = query(store, found.sql, saved.complete(store, found, params))
    return columns, list(rows)


_VIEWS = {"events", "outcomes", "vmas", "decisions"}
# what each query needs besides its defaults, and whether this recording has an answer
ASKED: dict[str, tuple[dict[str, object], bool]] = {
    "flagged": ({"flag": "ac"}, True),
    "who": ({"addr": 0x7FE400C85000}, True),
    "between": ({"low": 0, "high": 1 << 47, "first": 10, "last": 20}, True),
    "kernels-differ": ({"kernel": "6.18", "against": "6.1"}, False),
    "first-failure": ({"errno": "ENOENT"}, True),
    "near-limit": ({"limit": 80}, True),
    "changes": ({"a": 10, "b": 20}, True),
    "doubts": ({}, False),
    "left-out": ({}, False),
}


# the tables that a query reads all of a trace or a replay of, because its question is about all of it
WHOLE: dict[str, set[str]] = {
    "first-failure": {"event_t"},
    "failures": {"event_t"},
    "calls": {"event_t"},
    "peak": {"outcome_t"},
    "growth": {"outcome_t"},
    "near-limit": {"outcome_t"},
    "splits": {"outcome_t"},
    "cases": {"outcome_t"},
    "doubts": {"outcome_t"},
    "kernels-differ": {"outcome_t"},
    "refused": {"decision_t"},
    "short-lived": {"vma_t"},
}
_BIG = {"e": "event_t", "o": "outcome_t", "d": "decision_t", "v": "vma_t"}
_STEP = re.compile(r"(SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?(?:PRIMARY KEY|INDEX (\w+))(?: \((.*)\))?)?")


@pytest.mark.sqlite("EXPLAIN QUERY PLAN")
@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_no_shipped_query_reads_more_than_it_asks_about(filled: Store, name: str) -> None:
    """Its plan finds events, outcomes, decisions and lifetimes by a key, but where it asks about all of them."""
    found = saved.find(filled, name)
    params = saved.complete(filled, found, ASKED.get(name, ({}, True))[0])
    whole, by_key = set(), set()
    for row in query(filled, f"EXPLAIN QUERY PLAN {found.sql}", params)[1]:
        step = _STEP.match(row[3])
        table = _BIG.get(step[2]) if step else None
        if step is None or table is None:
            continue
        assert step[1] == "SEARCH", row[3]
        (by_key if step[4].count("?") > 1 else whole).add(table)
    assert whole == WHOLE.get(name, set())
    assert whole or by_key or name in ("left-out", "lost", "lost-pairs"), "the plan names no table that is known"


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_every_shipped_query_answers(filled: Store, name: str) -> None:
    """It runs with its defaults, and has rows where the recording has something to say."""
    params, answers = ASKED.get(name, ({}, True))
    columns, rows = answer(filled, name, **params)
    assert len(set(columns)) == len(columns) and all(c.isidentifier() for c in columns)
    assert bool(rows) == answers, rows[:3]
    assert LIBRARY[name].question.endswith("?")


@pytest.mark.sqlite("its query plans")
@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_no_shipped_query_makes_a_whole_view(filled: Store, name: str) -> None:
    """None builds a table of all events or all outcomes before it begins, whatever it asks for."""
    plain = LIBRARY[name]
    params = {**dict.fromkeys(plain.parameters, 1), "trace": "py", **plain.defaults}
    _, rows = query(filled, f"EXPLAIN QUERY PLAN {plain.sql}", params)
    plan = [str(row[3]) for row in rows]
    whole = [line for line in plan if line.startswith("MATERIALIZE") and line.split()[1] in _VIEWS]
    assert plan and not whole, plan


@pytest.mark.sqlite("its query plans")
@pytest.mark.parametrize("name", ["causes", "sites", "flagged", "who"])
def test_events_are_looked_up_one_by_one(filled: Store, name: str) -> None:
    """The VMAs lead and each asks for its event: the other way round every event would ask for the VMAs."""
    plain = LIBRARY[name]
    params = {**dict.fromkeys(plain.parameters, 1), "trace": "py", **plain.defaults}
    _, rows = query(filled, f"EXPLAIN QUERY PLAN {plain.sql}", params)
    looks = [str(row[3]) for row in rows if str(row[3]).split()[1:2] in (["e"], ["b"])]
    assert looks and all("(trace=? AND seq=?)" in line for line in looks), looks


def test_the_answers_are_right(filled: Store) -> None:
    """A few of them against other ways of asking."""
    _, peak = answer(filled, "peak")
    top = max(r[0] for r in query(filled, "SELECT max(map_count) FROM outcomes WHERE replay = replay_of('py')")[1])
    assert peak[0][1] == top
    _, layout = answer(filled, "layout")
    assert len(layout) == top
    _, causes = answer(filled, "causes")
    assert sum(row[1] for row in causes) == top  # type: ignore[misc]
    _, lost = answer(filled, "lost")
    _, pairs = answer(filled, "lost-pairs", limit=1000)
    assert sum(row[1] for row in lost) == len(pairs) > 0  # type: ignore[misc]
    _, calls = answer(filled, "calls")
    assert sum(row[1] for row in calls) == filled.trace("py").events  # type: ignore[misc]


def test_every_shipped_query_is_documented() -> None:
    """docs/sql.md has each by name, with its question."""
    text = (ROOT / "docs" / "sql.md").read_text()
    for name, found in LIBRARY.items():
        assert f"| `{name}` | {found.question} |" in text, name


def test_save_run_and_forget(filled: Store) -> None:
    """A store's own query goes before a shipped one of the same name."""
    saved.save(filled, "peak", "SELECT :x + 1 AS y")
    assert answer(filled, "peak", x=2) == (["y"], [(3,)])
    assert next(iter(saved.queries(filled))) == "peak"
    saved.forget(filled, "peak")
    assert answer(filled, "peak")[0] == ["mm", "map_count", "seq"]
    with pytest.raises(StoreError, match="no query"):
        saved.forget(filled, "peak")


@pytest.mark.parametrize(
    "sql", ["SELECT nothing FROM nowhere", "DELETE FROM event_t", "", "SELECT * FROM vmas_at(1)"]
)
def test_what_cannot_run_is_not_saved(filled: Store, sql: str) -> None:
    """Wrong SQL is refused when it is saved, not when it is wanted."""
    with pytest.raises(StoreError):
        saved.save(filled, "bad", sql)
    with pytest.raises(StoreError, match="no saved query"):
        saved.find(filled, "bad")


def test_what_is_missing_is_asked_for(filled: Store, store: Store) -> None:
    """A parameter without a default is named with its meaning; so is the trace where there are several, or none."""
    with pytest.raises(StoreError, match=r"-p addr=… \(the address\)"):
        answer(filled, "who")
    with pytest.raises(StoreError, match="which trace"):
        answer(store, "peak")
