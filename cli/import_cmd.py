"""`vmastore import`: logs and recordings into the store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from vmastore.cli.common import JsonOption, StoreOption, echo, echo_json, store_place
from vmastore.errors import InputError

FORMATS = ("auto", "strace", "jsonl", "vmafuzz", "maprec", "vectors", "maps")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    paths: Annotated[list[str], typer.Argument(help="Files (.gz, .xz, .zst too), or - for standard input.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the trace; else from the file's.")] = None,
    format: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Fail at the first line that becomes no event.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import strace logs, JSON lines and recordings. The same file is imported once.

    Example: vmastore import app.strace.gz --name app
    """
    from vmastore.importers.detect import open_traces
    from vmastore.store import open_store

    if format not in FORMATS:
        raise InputError(f"--format {format!r}: one of {', '.join(FORMATS)}")
    done: list[dict[str, Any]] = []
    with open_store(store_place(store)) as opened:
        for path in paths:
            digest = _digest(path)
            for n, reader in enumerate(open_traces(path, format, name)):
                key = None if digest is None else f"{digest}:{n}"
                known = opened.by_source(key) if key else None
                if known is not None and known.complete:
                    done.append({**_summary(known, opened), "imported": False})
                    continue
                info = known or opened.create_trace(reader.header, source_key=key)
                stored = opened.import_events(info, reader)
                skips = reader.skips()
                if strict and skips:
                    first = skips[0]
                    raise InputError(f"{path}:{first.source_line}: {first.reason}: no event (--strict)")
                done.append({**_summary(stored, opened), "imported": True})
    if as_json:
        echo_json(done)
        return
    for entry in done:
        _print(entry)


def _digest(path: str) -> str | None:
    if path == "-" or not Path(path).is_file():
        return None
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()[:32]


def _summary(info: Any, store: Any) -> dict[str, Any]:
    return {
        "trace": info.trace,
        "name": info.header.name,
        "format": info.header.format,
        "events": info.events,
        "address_spaces": len(store.address_spaces(info.trace)),
        "kernel": info.header.release,
        "faults": info.header.faults,
        "note": info.header.note,
        "skipped": [
            {"reason": s[2], "call": s[1], "tid": s[0], "line": s[3], "count": s[4]} for s in store.skips(info.trace)
        ],
    }


def _print(entry: dict[str, Any]) -> None:
    if not entry["imported"]:
        echo(f"{entry['name']}: already imported ({entry['events']} events), nothing added")
        return
    echo(f"{entry['name']}: {entry['events']} events, {entry['address_spaces']} address spaces ({entry['format']})")
    if entry["note"]:
        echo(f"  note: {entry['note']}")
    for reason in sorted({s["reason"] for s in entry["skipped"]}):
        count = sum(s["count"] for s in entry["skipped"] if s["reason"] == reason)
        echo(f"  skipped: {reason} {count}")
