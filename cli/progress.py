"""A line that tells how far long work has come: on a terminal only, gone when the work is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

FROM = 2_000  # what takes fewer events shows nothing
_EVERY = 500


def shown() -> bool:
    """Whether there is somebody to see it: output and messages go to a terminal, neither to a pipe or file."""
    return sys.stdout.isatty() and sys.stderr.isatty()


@contextmanager
def meter(what: str, unit: str = "events", total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes how many are done (of `total`, if that is known)."""
    if not shown():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TextColumn("{task.description}"), *([BarColumn()] if total else []), MofNCompleteColumn()]
    bar = Progress(*columns, TextColumn(unit), TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=total, visible=FROM <= 0)

    def tick(done: int) -> None:
        bar.update(task, completed=done, visible=done >= FROM)

    with bar:
        yield tick


def counted(events: Iterable[Any], what: str, total: int | None = None) -> Iterable[Any]:
    """The same events, told as they pass."""
    return _told(events, what, total) if shown() else events


def _told(events: Iterable[Any], what: str, total: int | None) -> Iterator[Any]:
    with meter(what, total=total) as tick:
        for done, event in enumerate(events, 1):
            if done % _EVERY == 0 or done == FROM:
                tick(done)
            yield event


def _told_lists(batches: Iterable[Sequence[Any]], what: str) -> Iterator[Sequence[Any]]:
    done = 0
    with meter(what) as tick:
        for batch in batches:
            yield batch
            done += len(batch)
            tick(done)


class CountedReader:
    """A trace reader whose events are told as they are read."""

    def __init__(self, reader: Any, what: str) -> None:
        self._reader = reader
        self._what = what

    def events(self) -> Iterator[Any]:
        """The reader's events, in order."""
        return iter(counted(self._reader.events(), self._what))

    def batches(self) -> Iterator[Sequence[Any]]:
        """The same in lists."""
        from vmastore.importers.beside import lists

        batches = lists(self._reader)
        return _told_lists(batches, self._what) if shown() else batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)
