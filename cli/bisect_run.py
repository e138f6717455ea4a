"""`bisect run CMD`, and `bisect find --command`: a command says of each state whether it is good or bad."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vmastore.cli.common import echo
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.cli.bisect_session import Work
    from vmastore.mm.rules import RuleSet
    from vmastore.replay.bisect.steps import Mark, Step, Verdict
    from vmastore.replay.trace import StoredTrace

SKIP = 125  # exit statuses, as `git bisect run` has them: 0 good, 125 skip, other 1 to 127 bad
NOT_EXECUTABLE, NOT_FOUND = 126, 127
ABORT = 128  # from here on (and a signal) the search stops


@dataclass
class Command:
    """Asks a command about states.

    It gets the state as maps on its standard input and in the file $VMASTORE_MAPS; $VMASTORE_SEQ is
    the event, $VMASTORE_TRACE the trace. An address space that is not born yet has empty maps.
    """

    argv: Sequence[str]
    trace: StoredTrace
    rules: RuleSet
    options: dict[str, Any]
    mm: int

    @property
    def text(self) -> str:
        return shlex.join(self.argv)

    def status(self, seq: int) -> int:
        """The exit status for the state after event `seq`. Raises InputError if the command cannot be started."""
        maps = self._maps(seq).encode("utf-8", "surrogateescape")
        with tempfile.NamedTemporaryFile(prefix="vmastore-maps-") as file:
            file.write(maps)
            file.flush()
            env = {
                **os.environ,
                "VMASTORE_MAPS": file.name,
                "VMASTORE_SEQ": str(seq),
                "VMASTORE_TRACE": self.trace.header.name,
            }
            sys.stdout.flush()  # the command writes there, too
            try:
                done = subprocess.run(self.argv, input=maps, env=env, check=False)
            except OSError as error:
                raise InputError(f"cannot run {self.argv[0]}: {error.strerror}") from None
        return done.returncode if done.returncode >= 0 else ABORT - done.returncode

    def _maps(self, seq: int) -> str:
        from vmastore.replay.maps import observed
        from vmastore.replay.maps_text import maps_lines

        world, _ = self.trace.at(seq, self.rules, **self.options)
        space = world.mms.get(self.mm)
        text = "" if space is None else maps_lines(observed(space))
        world.close()
        return text

    def verdict(self, seq: int) -> Verdict:
        """What the command says of a state. Raises InputError where it stops the search."""
        status = self.status(seq)
        if status >= ABORT:
            raise InputError(
                f"bisect run stops: {self.text} exited with {status} at event {seq}",
                hint="0 is good, 125 skip, other 1 to 127 bad; what was marked so far is kept",
            )
        return "old" if status == 0 else "skip" if status == SKIP else "new"

    def verify(self, seq: int, verdict: Verdict, term: str) -> None:
        """Raise InputError if a boundary is not what it is said to be."""
        status = self.status(seq)
        if verdict == "old" and status in (NOT_EXECUTABLE, NOT_FOUND):
            raise InputError(
                f"{self.text} exited with {status} at the {term} event {seq}: the shell did not find the command",
                hint="give its path, and make it executable",
            )
        got = "old" if status == 0 else "new" if 0 < status < ABORT and status != SKIP else None
        if got != verdict:
            raise InputError(
                f"the boundary is wrong: {self.text} exited with {status} at event {seq}, which is marked {term}",
                hint="0 is good, 125 skip, other 1 to 127 bad",
            )


def run_session(at: Work, argv: Sequence[str]) -> None:
    """Verify the boundaries, then mark until there is nothing left to test."""
    from vmastore.replay.bisect import steps

    command = Command(argv, at.trace, at.rules, at.session.options, at.session.mm)
    if isinstance(at.step(), steps.Waiting):
        raise InputError(
            f"bisect run needs a {at.session.new} event",
            hint=f"`vmastore bisect {at.session.new}` marks the last one",
        )
    for mark in boundaries(at.marks):
        echo(f"running {command.text} at the {at.term(mark.verdict)} event {mark.first}")
        command.verify(mark.first, mark.verdict, at.term(mark.verdict))
        at.add([mark._replace(source="run")])
    while isinstance(step := at.step(), steps.Ask | steps.Back):
        at.add([_ask(command, step, at.term)])


def boundaries(marks: list[Mark]) -> list[Mark]:
    """The last old and the first new mark, unless a command has made or verified them."""
    from vmastore.replay.bisect.steps import bounds

    found = []
    for verdict, seq in zip(("old", "new"), bounds(marks), strict=True):
        here = [m for m in marks if m.verdict == verdict and m.first == seq]
        if here and all(m.source == "user" for m in here):
            found.append(here[0])
    return found


def _ask(command: Command, step: Any, term: Any) -> Mark:
    from vmastore.replay.bisect.steps import Mark

    echo(f"running {command.text} at event {step.seq}")
    verdict = command.verdict(step.seq)
    echo(f"event {step.seq}: {term(verdict)}")
    return Mark(verdict, step.seq, step.seq, "run")


def search(command: Command, last: int) -> tuple[Step, int]:
    """The first event after which the command says bad, asking of as few states as will do.

    State 0 must be good and state `last` bad: both are verified. Returns the result and how many
    states were asked about.
    """
    from vmastore.replay.bisect import steps

    command.verify(0, "old", "good")
    command.verify(last, "new", "bad")
    marks, asked = [steps.Mark("old", 0, 0), steps.Mark("new", last, last)], 2
    while isinstance(step := steps.next_step(marks), steps.Ask):
        marks.append(steps.Mark(command.verdict(step.seq), step.seq, step.seq))
        asked += 1
    return step, asked
