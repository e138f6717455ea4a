"""Derived data that is not what a replay gives is found, with its first event; stale data is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from behind import ask, behind

from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset
from vmastore.replay.check import check_replays
from vmastore.replay.derive import derive
from vmastore.replay.rebuild import rebuild
from vmastore.replay.snapshots import Spacing
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store, open_store
from vmastore.store.check import check_store

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def replayed(place: str) -> Store:
    """The sample of 60 events, replayed under two rule sets, with snapshots."""
    store = open_store(place)
    source = open_traces(str(DATA / "vmatrace" / "v1.vmatrace.jsonl"))[0]
    info = store.import_events(store.create_trace(source.header), source)
    trace = StoredTrace(store, info)
    derive(trace, preset("6.1"), spacing=Spacing(least=7, vmas_an_event=1000))
    derive(trace, preset("6.18"))
    return store


def change(store: Store, statement: str) -> None:
    assert behind(store.place, statement) > 0


def test_derived_data_is_what_a_replay_gives(replayed: Store) -> None:
    """Both replays are compared, snapshots where they were taken."""
    assert ask(replayed.place, "SELECT count(*) FROM snapshot_t")[0][0] > 3
    assert check_replays(replayed) == ([], 2, [])


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE outcome_t SET map_count = map_count + 1 WHERE replay = 1 AND seq = 24", ("outcome_t", 24)),
        ("UPDATE outcome_t SET kind = kind + 1 WHERE replay = 1 AND seq > 50", ("outcome_t", 51)),
        ("UPDATE outcome_kind_t SET certain = 1 - certain WHERE replay = 1", ("outcome_kind_t", 0)),
        ("UPDATE decision_kind_t SET reason_next = 'x' WHERE replay = 1", ("decision_kind_t", 0)),
        ("UPDATE rolling_t SET payload = x'00' WHERE replay = 1", ("rolling_t", 1)),
        ("DELETE FROM decision_t WHERE replay = 1 AND seq = (SELECT max(seq) FROM decision_t)", ("decision_t", 60)),
        ("UPDATE vma_t SET pgoff = pgoff + 1 WHERE replay = 1 AND died_seq IS NULL", ("vma_t", 1)),
        (
            "INSERT INTO vma_t SELECT replay, seq_node, n + 1000, mm, vm_start, vm_end, pgoff, kind, born_seq,"
            " died_seq FROM vma_t WHERE replay = 1 AND born_seq > 20 ORDER BY born_seq LIMIT 1",
            ("vma_t", 22),
        ),
        ("UPDATE vma_kind_t SET vm_flags = vm_flags + 1 WHERE replay = 1", ("vma_kind_t", 0)),
        ("DELETE FROM vma_page_t WHERE replay = 1 AND n = 3", ("vma_page_t", 0)),
        ("UPDATE lost_merge_t SET reason = 'x' WHERE replay = 1", ("lost_merge_t", 60)),
        ("UPDATE snapshot_t SET payload = x'00' WHERE seq = 14", ("snapshot_t", 14)),
    ],
    ids=[
        "outcome",
        "decision",
        "outcomes",
        "outcome-kind",
        "decision-kind",
        "rolling",
        "vma",
        "vma-twice",
        "vma-kind",
        "vma-page",
        "lost-merge",
        "snapshot",
    ],
)
def test_a_changed_row_is_found(replayed: Store, statement: str, says: tuple[str, int]) -> None:
    """In any table; the replay is named, and a rebuild mends it."""
    change(replayed, statement)
    checked = check_replays(replayed)
    assert checked.replays == 2 and len(checked.problems) == 1
    table, seq = says
    said = f"all-6.1: replay 1 (6.1): {table} is not what the events give"
    assert checked.problems == [said + (f", at event {seq} first" if seq else "")]
    assert rebuild(replayed) == 2
    assert check_replays(replayed) == ([], 2, [])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE replay_t SET engine = '0.0.1' WHERE replay = 1",
        "UPDATE replay_t SET events = 0 WHERE replay = 1",
        "UPDATE replay_t SET basis = NULL WHERE replay = 1",
    ],
    ids=["engine", "unfinished", "older"],
)
def test_stale_is_not_unsound(replayed: Store, statement: str) -> None:
    """What another engine made, or nobody finished, is named and not compared."""
    change(replayed, statement)
    assert check_replays(replayed) == ([], 1, ["all-6.1: replay 1 (6.1)"])
    rebuild(replayed)
    assert check_replays(replayed) == ([], 2, [])


def test_a_rebuild_mends_the_address_spaces(replayed: Store) -> None:
    """They are derived too."""
    change(replayed, "UPDATE address_space_t SET pid = 1")
    assert "address space 1" in check_store(replayed)[0][0]
    rebuild(replayed)
    assert check_store(replayed)[0] == []
