"""What the user sees when something cannot be done: `Error:`, `Hint:`, an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

import typer

from vmastore.errors import VmastoreError

BAD_INPUT = 2  # bad usage or input
DEFECT = 70  # EX_SOFTWARE: an error that no layer foresaw
INTERRUPTED = 130  # Ctrl-C, as a shell reports it

# The base class of usage errors has moved between typer's releases (click.exceptions, then a
# copy of its own): it is found by name among the ancestors of one that typer does export.
USAGE_ERROR: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def guarded(action: Callable[[], int]) -> int:
    """Run `action` and return its exit status; what it raises becomes a message and a status."""
    try:
        status = action()
        sys.stdout.flush()
        return status
    except VmastoreError as error:
        return _say(error.message, error.hint)
    except USAGE_ERROR as error:
        return _usage(error)
    except (typer.Abort, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        reason = error.strerror or str(error)
        return _say(f"{error.filename}: {reason}" if error.filename else reason)
    except Exception as error:
        return _defect(error)


def _say(message: str, hint: str | None = None) -> int:
    print(f"Error: {message}", file=sys.stderr)
    if hint:
        print(f"Hint: {hint}", file=sys.stderr)
    return BAD_INPUT


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help(), file=sys.stderr)
        return BAD_INPUT
    format_message = getattr(error, "format_message", error.__str__)
    where = context.command_path if context is not None else "vmastore"
    return _say(" ".join(format_message().split()), f"see `{where} --help`")


def _reader_gone() -> int:
    """A reader that went away (head, less) is no error."""
    # What is still buffered has nowhere to go, and the interpreter flushes once more at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _defect(error: Exception) -> int:
    """An error of ours: one line for the user, all of it for who mends it."""
    if os.environ.get("VMASTORE_DEBUG"):
        traceback.print_exc()
    _say(
        f"unexpected {type(error).__name__}: {error}",
        "this is a defect of vmastore; VMASTORE_DEBUG=1 shows where it happened",
    )
    return DEFECT
