"""What the verbs of `vmastore bisect` share: the session, its marks, what is said after each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmastore.cli.bisect_show import event_text, show_found
from vmastore.cli.common import echo, open_existing, parse_target
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.mm.rules import RuleSet
    from vmastore.replay.bisect.steps import Mark, Step, Verdict
    from vmastore.replay.trace import StoredTrace
    from vmastore.store import Store
    from vmastore.store.sessions import Session, Sessions

_MOST = 20  # suspects that are listed


@dataclass
class Work:
    """A session that is going on, with its trace."""

    sessions: Sessions
    session: Session
    trace: StoredTrace
    rules: RuleSet
    marks: list[Mark]

    @property
    def name(self) -> str:
        return self.trace.header.name

    def term(self, verdict: Verdict) -> str:
        """The user's word for a verdict."""
        return {"old": self.session.old, "new": self.session.new, "skip": "skip"}[verdict]

    def step(self) -> Step:
        """What is to be done next."""
        from vmastore.replay.bisect.steps import next_step

        return next_step(self.marks)

    def position(self) -> int:
        """The state that a verb without an argument is about: the one to test, else the last."""
        return getattr(self.step(), "seq", self.session.last)

    def add(self, marks: list[Mark]) -> None:
        """Check and store marks."""
        from vmastore.replay.bisect.steps import check

        check([*self.marks, *marks], self.session.old, self.session.new)
        self.sessions.mark(self.session, [(m.verdict, m.first, m.last, m.source) for m in marks])
        self.marks += marks

    def event(self, text: str) -> int:
        """`12`, `TRACE@12`, `@12`, `@-1` as the number of a state. Raises InputError."""
        parsed = parse_target(text)
        at = parsed.at
        if at is None:
            try:
                at = int(text)
            except ValueError:
                raise InputError(f"{text!r} is no event: write 12, {self.name}@12 or @-1") from None
        elif parsed.trace not in ("", self.name, str(self.session.trace)):
            raise InputError(f"{text!r}: the bisection is of {self.name}")
        last = self.session.last
        at = at + last + 1 if at < 0 else at
        if not 0 <= at <= last:
            raise InputError(f"{text!r}: the bisection goes from 0 to event {last}")
        return at


@contextmanager
def work(store: str | None) -> Iterator[Work]:
    """The session of the store. Raises InputError if there is none."""
    from vmastore.store.sessions import Sessions

    with open_existing(store) as opened:
        sessions = Sessions(opened)
        session = sessions.current()
        if session is None:
            raise InputError("no bisection is going on", hint="`vmastore bisect start TRACE` begins one")
        yield resume(opened, sessions, session)


def resume(store: Store, sessions: Sessions, session: Session) -> Work:
    """A session with its trace, rules and marks."""
    from vmastore.replay.bisect.steps import Mark
    from vmastore.replay.rebuild import rules_named
    from vmastore.replay.trace import StoredTrace

    trace = StoredTrace(store, store.trace(session.trace))
    marks = [Mark(*mark) for mark in sessions.marks(session)]  # type: ignore[arg-type]
    return Work(sessions, session, trace, rules_named(session.kernel), marks)


def report(at: Work) -> int:
    """Say what the marks come to. Returns the exit status: 1 when it cannot be told."""
    from vmastore.replay.bisect import steps

    step = at.step()
    old, new = at.session.old, at.session.new
    if isinstance(step, steps.Waiting):
        known = f"; a {old} event is known" if step.old else f" and a {old} one"
        echo(f"status: waiting for a {new} event{known}")
    elif isinstance(step, steps.Ask):
        echo(f"Bisecting: {step.left} events left to test after this (roughly {step.steps} steps)")
        echo(state_text(at, step.seq))
    elif isinstance(step, steps.Back):
        echo(f"Bisecting: no {old} event is known, looking further back")
        echo(state_text(at, step.seq))
    elif isinstance(step, steps.Found):
        found(at, step.seq)
    elif isinstance(step, steps.Suspects):
        suspects(at, step.first, step.last)
        return 1
    else:
        where = f"after event {step.seq}, and all before is skipped" if step.seq else "before the first event"
        echo(f"{at.name} is {new} {where}: no event made it so")
        return 1
    return 0


def state_text(at: Work, seq: int) -> str:
    """The state after an event, told by that event."""
    if seq == 0:
        return f"[{at.name}@0] before the first event"
    (event,) = at.trace.events(seq, seq)
    head, _, call = event_text(at.name, event).partition(" ")
    return f"[{head}] {call}"


def found(at: Work, seq: int) -> None:
    """The first new event, and what it did."""
    from vmastore.replay.bisect import look

    echo(f"{at.name}@{seq} is the first {at.session.new} event  ({at.rules.name})")
    show_found(look(at.trace, seq, at.rules, **at.session.options))


def suspects(at: Work, first: int, last: int) -> None:
    """The events that it may be, when only skipped ones are left."""
    echo("There are only skipped events left to test.")
    echo(f"The first {at.session.new} event is one of these {last - first + 1}:")
    for seq in range(first, min(last, first + _MOST - 1) + 1):
        echo(state_text(at, seq))
    if last - first >= _MOST:
        echo(f"… up to {at.name}@{last}")
    echo("We cannot bisect more!")
