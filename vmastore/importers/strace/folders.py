"""The folder that each process is in, as far as a log shows it: what the relative path of a program begins at."""

from __future__ import annotations

import os
from pathlib import Path

from vmastore.importers.strace.constants import CLONE_FS
from vmastore.importers.strace.tokens import decoration

_LONGEST = 4096  # PATH_MAX


class Folders:
    """Those of one trace. A folder is None where the log has shown none, "" where it is one that is not shown."""

    def __init__(self) -> None:
        self._of: dict[int, str] = {}  # by pid
        self._tokens: dict[int, bytes] = {}  # as -y showed it last, by pid
        self.at_exec: dict[int, str | None] = {}  # by the mm that an exec of a relative path made
        self._open: set[int] = set()  # of these, those whose folder what follows may show

    def shown(self, pid: int, mm: int, token: bytes) -> None:
        """A call names the current folder: AT_FDCWD</folder>."""
        if self._tokens.get(pid) == token:
            return
        path = decoration(token)
        if path:
            self._tokens[pid] = token
            self._of[pid] = path
            if mm in self._open:
                self._open.discard(mm)
                self.at_exec[mm] = path

    def changed(self, pid: int, mm: int, path: str | None) -> None:
        """chdir and fchdir, to a path if it is known."""
        self._tokens.pop(pid, None)
        self._open.discard(mm)
        self._of[pid] = _joined(self._of.get(pid), path)

    def forked(self, parent: int, child: int, flags: int) -> None:
        """The child begins where its parent is; which of two that share a folder changed it is not followed."""
        if parent == child:
            return
        self._tokens.pop(child, None)
        self._of.pop(child, None)
        if parent in self._of:
            self._of[child] = "" if flags & CLONE_FS else self._of[parent]

    def executed(self, pid: int, mm: int, path: str, base: str | None) -> None:
        """A program runs. base: what the path begins at where it is not the current folder (execveat)."""
        if path.startswith("/"):
            return
        self.at_exec[mm] = self._of.get(pid) if base is None else base
        if not self.at_exec[mm] and base is None:
            self._open.add(mm)


def _joined(folder: str | None, path: str | None) -> str:
    if not path or not (path.startswith("/") or folder):
        return ""
    joined = os.path.join(folder or "", path)
    return joined if len(joined) <= _LONGEST else ""


def places(folder: str | None, path: str, logs: list[str]) -> list[str]:
    """Where the program of a relative path may lie.

    In the folder that is known; where none is, beside the log or in the current one, if there is such a file.
    Two names of one file are one place.
    """
    if folder is not None:
        return [os.path.join(folder, path).removesuffix("/")] if folder else []
    found: dict[tuple[int, int], str] = {}
    for place in (*(Path(log).parent for log in logs if Path(log).is_file()), Path()):
        try:
            program = (place / path).absolute()
            stat = program.stat()
        except (OSError, ValueError):
            continue
        found.setdefault((stat.st_dev, stat.st_ino), str(program))
    return list(found.values())
