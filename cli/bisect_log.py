"""`vmastore bisect log` and `bisect replay`: what was done, as commands, and doing it again."""

from __future__ import annotations

import contextlib
import io
import shlex
from pathlib import Path
from typing import Annotated

import typer

from vmastore.cli.bisect_session import Work, report, state_text, work
from vmastore.cli.common import StoreOption, echo, open_existing
from vmastore.errors import InputError


def log(store: StoreOption = None) -> None:
    """What was done so far, as `bisect replay` reads it.

    Example: vmastore bisect log > bisect.log
    """
    with work(store) as at:
        for line in log_lines(at):
            echo(line)


def log_lines(at: Work) -> list[str]:
    """The commands that lead to the session as it is, each after a remark."""
    kernel, *flips = at.session.kernel.split(" ")
    words = ["start", f"{at.name}@{at.session.last}", "--kernel", kernel, "--mm", str(at.session.mm)]
    words += [word for flip in flips for word in ("--rule", flip)]
    words += ["--faults", at.session.options["faults"]]
    if at.session.options["max_map_count"] is not None:
        words += ["--max-map-count", str(at.session.options["max_map_count"])]
    words += ["--term-old", at.session.old, "--term-new", at.session.new]
    lines = [_command(words)]
    for each in at.marks:
        lines.append(f"# {at.term(each.verdict)}: {state_text(at, each.last)}")
        event = f"{each.first - 1}..{each.last}" if each.first < each.last else str(each.first)
        lines.append(_command([at.term(each.verdict), event]))
    return lines


def _command(words: list[str]) -> str:
    return "vmastore bisect " + shlex.join(words)


def replay(
    file: Annotated[Path, typer.Argument(help="What `bisect log` printed; lines may be taken out.")],
    store: StoreOption = None,
) -> None:
    """Do again what a log says, in place of the bisection that is going on.

    Example: vmastore bisect replay bisect.log
    """
    from vmastore.store.sessions import Sessions

    commands = _read_log(file)
    with open_existing(store) as opened:
        sessions = Sessions(opened)
        before = sessions.current()
        kept = [] if before is None else sessions.marks(before)
    place = ["--store", store] if store else []
    try:
        for number, words in commands:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                _again(file, number, [*words, *place])
    except BaseException:
        with open_existing(store) as opened:  # nothing is lost: what was going on goes on
            sessions = Sessions(opened)
            sessions.reset()
            if before is not None:
                sessions.mark(sessions.start(*before[1:6], (before.old, before.new)), kept)
        raise
    with work(store) as at:
        raise typer.Exit(report(at))


def _read_log(file: Path) -> list[tuple[int, list[str]]]:
    """(line, words after `bisect`) of each command. Raises InputError."""
    found: list[tuple[int, list[str]]] = []
    text = file.read_bytes().decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise InputError(f"{file}, line {number}: {error}") from None
        words = words[1:] if words[0] == "vmastore" else words
        if len(words) < 2 or words[0] != "bisect" or words[1] in ("run", "replay", "reset", "find"):
            raise InputError(f"{file}, line {number}: not a line of `vmastore bisect log`")
        found.append((number, words[1:]))
    if not found or found[0][1][0] != "start":
        raise InputError(f"{file}: the first command is not `vmastore bisect start`")
    return found


def _again(file: Path, number: int, words: list[str]) -> None:
    from vmastore.cli.bisect_cmd import bisect
    from vmastore.cli.errors import USAGE_ERROR

    command = typer.main.get_command(bisect)
    try:
        command.main(words, prog_name="vmastore bisect", standalone_mode=False)
    except USAGE_ERROR as error:
        raise InputError(f"{file}, line {number}: {error}") from None
    except InputError as error:
        raise InputError(f"{file}, line {number}: {error.message}", hint=error.hint) from None
