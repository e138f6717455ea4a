"""Bisection sessions: one at a time, with marks in order, gone after a reset."""

from __future__ import annotations

from vmastore.events import TraceHeader
from vmastore.store import Store
from vmastore.store.sessions import Session, Sessions

OPTIONS = {"faults": "recorded", "max_map_count": None}


def begun(store: Store, terms: tuple[str, str] = ("good", "bad")) -> tuple[Sessions, Session]:
    sessions = Sessions(store)
    trace = store.create_trace(TraceHeader("app", "app.log", "strace")).trace
    return sessions, sessions.start(trace, "6.18 mseal=off", OPTIONS, 2, 90, terms)


def test_a_session_is_kept(store: Store) -> None:
    """What it was begun with comes back, from another object over the same store too."""
    sessions, session = begun(store)
    assert session[1:] == (1, "6.18 mseal=off", OPTIONS, 2, 90, "good", "bad")
    assert Sessions(store).current() == session == sessions.current()
    renamed = sessions.set_terms(session, ("old", "new"))
    assert renamed == session._replace(old="old", new="new") == Sessions(store).current()


def test_marks_keep_their_order(store: Store) -> None:
    """Batch after batch, none for an empty one."""
    sessions, session = begun(store)
    marks = [("new", 90, 90, "user"), ("skip", 5, 9, "user"), ("old", 1, 1, "run")]
    sessions.mark(session, marks[:2])
    sessions.mark(session, [])
    sessions.mark(session, marks[2:])
    assert Sessions(store).marks(session) == marks


def test_another_start_forgets_the_first(store: Store) -> None:
    """There is one session, and after a reset there is none."""
    sessions, first = begun(store)
    sessions.mark(first, [("new", 90, 90, "user")])
    second = sessions.start(first.trace, "6.12", OPTIONS, 1, 50, ("few", "many"))
    assert sessions.current() == second and sessions.marks(second) == []
    sessions.reset()
    assert sessions.current() is None and sessions.marks(second) == []
