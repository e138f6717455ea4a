"""Files into the store: each once, and an import that was interrupted goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vmastore.errors import InputError
from vmastore.intake.groups import Beside, open_group, source_key

if TYPE_CHECKING:
    from vmastore.importers.base import TraceReader
    from vmastore.store import Store, TraceInfo


class Imported(NamedTuple):
    """A trace of an import. new: something was added; else it had been imported before."""

    info: TraceInfo
    new: bool


def import_group(
    store: Store,
    paths: Sequence[str],
    beside: Beside,
    *,
    format: str = "auto",
    name: str | None = None,
    strict: bool = False,
    shown: Callable[[TraceReader], TraceReader] = lambda reader: reader,
) -> list[Imported]:
    """Import what one file (one family of files) holds; one entry a trace.

    strict: what becomes no event is an error. shown: passes a reader on, to tell somebody of its events.
    Raises InputError.
    """
    digest = source_key(paths, beside)
    done = []
    for n, reader in enumerate(open_group(paths, format, name, beside, strict)):
        key = None if digest is None else f"{digest}:{n}"
        known = store.by_source(key) if key else None
        if known is not None and known.complete:
            done.append(Imported(known, False))
            continue
        info = known or store.create_trace(reader.header, source_key=key)
        stored = store.import_events(info, shown(reader))
        skips = reader.skips()
        if strict and skips:
            first = skips[0]
            raise InputError(f"{paths[0]}:{first.source_line}: {first.reason}: no event (--strict)")
        done.append(Imported(stored, True))
    return done
