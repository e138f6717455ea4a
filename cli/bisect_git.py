"""`vmastore bisect start|good|bad|old|new|terms|skip|next|run|log|replay|visualize|view|reset`: git's habits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vmastore.cli import bisect_log
from vmastore.cli.bisect_session import Work, report, resume, state_text, work
from vmastore.cli.common import (
    FaultsOption,
    KernelOption,
    MaxMapOption,
    MmOption,
    RuleOption,
    StoreOption,
    check_faults,
    choose_rules,
    echo,
    note,
    open_existing,
    open_target,
    pick_mm,
)
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.replay.bisect.steps import Mark, Verdict
    from vmastore.replay.trace import StoredTrace

GOOD_BAD, OLD_NEW = ("good", "bad"), ("old", "new")
VERBS = ("start", "good", "bad", "old", "new", "terms", "skip", "next", "run", "log", "replay", "visualize", "view")
RESERVED = {*VERBS, "reset", "find", "mark", "help"}

EventsArgument = Annotated[
    list[str] | None, typer.Argument(help="Events (12, TRACE@12, @-1); else the one to be tested.")
]


class TermsGroup(TyperGroup):
    """The bisect group: a word that is no command is a term of the session's own."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            args = ["mark", *args]
        return super().resolve_command(ctx, args)


def register(bisect: typer.Typer) -> None:
    """Add the verbs."""
    bisect.command("start")(start)
    bisect.command("good")(good)
    bisect.command("bad")(bad)
    bisect.command("old")(old)
    bisect.command("new")(new)
    bisect.command("mark")(mark)
    bisect.command("terms")(terms)
    bisect.command("skip")(skip)
    bisect.command("next")(next_)
    passes_on = {"ignore_unknown_options": True, "allow_interspersed_args": False}
    bisect.command("run", context_settings=passes_on)(run)
    bisect.command("log")(bisect_log.log)
    bisect.command("replay")(bisect_log.replay)
    bisect.command("visualize")(visualize)
    bisect.command("view")(visualize)
    bisect.command("reset")(reset)


def start(
    target: Annotated[str, typer.Argument(help="TRACE, or TRACE@N to end there.")],
    events: Annotated[
        list[str] | None, typer.Argument(help="The bad event, then good ones, as far as they are known.")
    ] = None,
    term_old: Annotated[str, typer.Option("--term-old", "--term-good", help="Word for the state before.")] = "good",
    term_new: Annotated[str, typer.Option("--term-new", "--term-bad", help="Word for the state after.")] = "bad",
    mm: MmOption = None,
    kernel: KernelOption = None,
    rule: RuleOption = None,
    faults: FaultsOption = "recorded",
    max_map_count: MaxMapOption = None,
    store: StoreOption = None,
) -> None:
    """Begin a bisection; it is kept in the store, so that it goes on where it was interrupted.

    Without good events, `bisect run` and `bisect next` look back for one, further each time.

    Examples: vmastore bisect start app
              vmastore bisect start app 5000 0
              vmastore bisect start app --term-old small --term-new large
    """
    from vmastore.store.sessions import Sessions

    words = _check_terms(term_old, term_new)
    check_faults(faults)
    with open_existing(store) as opened:
        trace, at = open_target(opened, target)
        number = pick_mm(trace, mm, at)
        rules = choose_rules(trace.header, kernel, rule)
        sessions = Sessions(opened)
        before = sessions.current()
        options = {"faults": faults, "max_map_count": max_map_count}
        session = sessions.start(trace.info.trace, rules.name, options, number, _last(trace, number, at), words)
        begun = resume(opened, sessions, session)
        try:
            numbers = [begun.event(text) for text in events or ()]
            begun.add([_mark("old" if n else "new", seq) for n, seq in enumerate(numbers)])
        except InputError:
            sessions.reset()
            raise
        if before is not None:
            note("the bisection that was going on is forgotten")
        raise typer.Exit(report(begun))


def _check_terms(old_term: str, new_term: str) -> tuple[str, str]:
    for term in (old_term, new_term):
        usual = (old_term, new_term) in (GOOD_BAD, OLD_NEW)
        if not term or term.startswith("-") or any(c.isspace() for c in term) or (term in RESERVED and not usual):
            raise InputError(f"{term!r} cannot be a term", hint="any word that is not a command of bisect")
    if old_term == new_term:
        raise InputError(f"both terms are {old_term!r}: they must differ")
    return old_term, new_term


def _last(trace: StoredTrace, mm: int, at: int) -> int:
    """The last event up to `at` after which the address space is still there."""
    died = {row[0]: row[5] for row in trace.store.address_spaces(trace.info.trace)}.get(mm)
    return at if died is None or died > at else int(died) - 1


def _mark(verdict: Verdict, seq: int) -> Mark:
    from vmastore.replay.bisect.steps import Mark

    return Mark(verdict, seq, seq)


def good(events: EventsArgument = None, store: StoreOption = None) -> None:
    """The state after an event is good: the change comes later.

    Example: vmastore bisect good 120
    """
    _say("good", events, store)


def bad(events: EventsArgument = None, store: StoreOption = None) -> None:
    """The state after an event is bad: the change was made there or before.

    Example: vmastore bisect bad
    """
    _say("bad", events, store)


def old(events: EventsArgument = None, store: StoreOption = None) -> None:
    """As good, where old and new are the better words.

    Example: vmastore bisect old 120
    """
    _say("old", events, store)


def new(events: EventsArgument = None, store: StoreOption = None) -> None:
    """As bad, where old and new are the better words.

    Example: vmastore bisect new
    """
    _say("new", events, store)


def mark(
    term: Annotated[str, typer.Argument(help="A term of `bisect start --term-old --term-new`.")],
    events: EventsArgument = None,
    store: StoreOption = None,
) -> None:
    """As good and bad, with terms of your own; `bisect TERM` is the same.

    Example: vmastore bisect mark large @-1
    """
    _say(term, events, store)


def _say(term: str, events: list[str] | None, store: str | None) -> None:
    with work(store) as at:
        verdict = _verdict(at, term)
        numbers = [at.event(text) for text in events] if events else [at.position()]
        at.add([_mark(verdict, seq) for seq in numbers])
        raise typer.Exit(report(at))


def _verdict(at: Work, term: str) -> Verdict:
    """What a term means in the session; old and new take the place of good and bad while nothing is marked."""
    words = (at.session.old, at.session.new)
    if term in OLD_NEW and words == GOOD_BAD and not at.marks:
        at.session = at.sessions.set_terms(at.session, OLD_NEW)
        words = OLD_NEW
    if term not in words:
        raise InputError(
            f"{term!r} is no word of this bisection: its terms are {words[0]} and {words[1]}",
            hint="`vmastore bisect --help` lists the commands",
        )
    return "old" if term == words[0] else "new"


def terms(
    old_only: Annotated[bool, typer.Option("--term-old", "--term-good", help="Only the word for before.")] = False,
    new_only: Annotated[bool, typer.Option("--term-new", "--term-bad", help="Only the word for after.")] = False,
    store: StoreOption = None,
) -> None:
    """The words for the two states.

    Example: vmastore bisect terms
    """
    with work(store) as at:
        if old_only or new_only:
            echo(at.session.old if old_only else at.session.new)
            return
        echo(f"Your current terms are {at.session.old} for the old state")
        echo(f"and {at.session.new} for the new state.")


def skip(
    events: Annotated[
        list[str] | None, typer.Argument(help="Events, or ranges A..B (after A, up to and with B); else the current.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """States that cannot be tested.

    Example: vmastore bisect skip 100..140
    """
    from vmastore.replay.bisect.steps import Mark

    with work(store) as at:
        marks = []
        for text in events or [str(at.position())]:
            first, dots, last = text.partition("..")
            low, high = (at.event(first) + 1, at.event(last)) if dots else (at.event(text), at.event(text))
            if low > high:
                raise InputError(f"{text!r}: an empty range", hint="A..B is what comes after A, up to and with B")
            marks.append(Mark("skip", low, high))
        at.add(marks)
        raise typer.Exit(report(at))


def next_(store: StoreOption = None) -> None:
    """What is to be tested next, or the result.

    Example: vmastore bisect next
    """
    with work(store) as at:
        raise typer.Exit(report(at))


def run(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.")], store: StoreOption = None
) -> None:
    """Let a command say of each state whether it is good: exit 0 good, 125 skip, other 1 to 127 bad, more stops.

    It gets the state as /proc/PID/maps on stdin and in the file $VMASTORE_MAPS, and the event's number
    in $VMASTORE_SEQ. The good and the bad event that were named are verified first. Every answer is
    stored at once: an interrupted run goes on where it was.

    Example: vmastore bisect run sh -c 'test $(wc -l < $VMASTORE_MAPS) -lt 1000'
    """
    from vmastore.cli.bisect_run import run_session

    with work(store) as at:
        run_session(at, command)
        raise typer.Exit(report(at))


def visualize(
    last: Annotated[int, typer.Option("-n", "--most", help="List at most so many events.")] = 50,
    store: StoreOption = None,
) -> None:
    """The events that are still suspect.

    Example: vmastore bisect view
    """
    from vmastore.replay.bisect.steps import bounds

    with work(store) as at:
        old_seq, new_seq = bounds(at.marks)
        low, high = 0 if old_seq is None else old_seq, at.session.last if new_seq is None else new_seq
        skipped = [(m.first, m.last) for m in at.marks if m.verdict == "skip"]
        echo(f"{high - low} suspects: after {at.name}@{low}, up to {at.name}@{high}")
        for seq in range(low + 1, min(high, low + last) + 1):
            sign = "skip" if any(a <= seq <= b for a, b in skipped) else at.session.new if seq == new_seq else ""
            echo(f"{sign:>5} {state_text(at, seq)}".rstrip())
        if high - low > last:
            echo(f"      … {high - low - last} more")


def reset(store: StoreOption = None) -> None:
    """End the bisection and forget its marks.

    Example: vmastore bisect reset
    """
    from vmastore.store.sessions import Sessions

    with open_existing(store) as opened:
        sessions = Sessions(opened)
        session = sessions.current()
        if session is None:
            echo("We are not bisecting.")
            return
        name = opened.trace(session.trace).header.name
        sessions.reset()
    echo(f"The bisection of {name} is forgotten.")
