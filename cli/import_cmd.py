"""`vmastore import`: logs and recordings into the store."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmastore.cli.common import JsonOption, StoreOption, echo, echo_json, store_place
from vmastore.cli.progress import CountedReader
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.intake.groups import Beside
    from vmastore.store import Store

_LOOK_S = 0.2  # between two looks at a log that has not grown

FORMATS = ("auto", "strace", "jsonl", "vmafuzz", "maprec", "vectors", "maps", "perf", "ftrace")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    paths: Annotated[list[str], typer.Argument(help="Files (.gz, .xz, .zst too), or - for standard input.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the trace; else from the file's.")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--maps", help="[PID=]FILE[@LINE|@TIME]: maps or smaps saved then, else before the log."),
    ] = None,
    exec_: Annotated[
        list[str] | None,
        typer.Option("--exec", help="Executable whose ELF headers show what exec mapped; `found`: each at its path."),
    ] = None,
    no_exec: Annotated[
        bool,
        typer.Option(
            "--no-exec",
            help="Take no mappings from programs at their paths here, as is done where the log"
            " shows that they are those that ran.",
        ),
    ] = False,
    faults_from: Annotated[
        str | None,
        typer.Option(
            "--faults-from",
            help="FILE[@SECONDS]: page faults of the same run (perf script, trace-cmd, perf.data), clock set by.",
        ),
    ] = None,
    format: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Fail at the first line that becomes no event.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on as the log grows, until all its processes have ended, or Ctrl-C.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import strace logs, JSON lines and recordings. The same file is imported once.

    Example: vmastore import app.strace.gz --name app

    Example: vmastore import app.log --faults-from perf.data

    Example: vmastore import attached.log --maps at-attach.smaps --maps later.maps@1795486301.5
    """
    from vmastore.intake.groups import Beside, groups
    from vmastore.store import open_store

    if format not in FORMATS:
        raise InputError(f"--format {format!r}: one of {', '.join(FORMATS)}")
    if no_exec and exec_:
        raise InputError("--no-exec and --exec exclude each other")
    beside = Beside(tuple(maps or ()), tuple(exec_ or ()), not no_exec, faults_from)
    sources = groups(paths)
    if beside.words and len(sources) > 1:
        raise InputError("--maps, --exec and --faults-from belong to one log, and several are named")
    if follow and (maps or faults_from or len(paths) > 1 or format not in ("auto", "strace")):
        raise InputError("--follow takes one strace log, and no --maps or --faults-from")
    done: list[dict[str, Any]] = []
    with open_store(store_place(store)) as opened:
        if follow:
            done.append(_follow(opened, paths[0], name, beside, strict))
        for group in [] if follow else sources:
            done += _import_group(opened, group, format, name, beside, strict)
    if as_json:
        echo_json(done)
        return
    for entry in done:
        _print(entry)


def _import_group(
    store: Store, paths: list[str], format: str, name: str | None, beside: Beside, strict: bool
) -> list[dict[str, Any]]:
    """Import what one file (one family of files) holds; one summary a trace."""
    from vmastore.intake.imported import import_group

    def shown(reader: Any) -> Any:
        return CountedReader(reader, f"importing {paths[0]}")

    done = import_group(store, paths, beside, format=format, name=name, strict=strict, shown=shown)
    return [{**_summary(one.info, store), "imported": one.new} for one in done]


def _follow(store: Store, path: str, name: str | None, beside: Beside, strict: bool) -> dict[str, Any]:
    """Import a log as it grows, each look at it in one transaction."""
    from vmastore.intake.groups import followed, followed_key

    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        reader, batches, read = followed(path, lambda: not stop.wait(_LOOK_S), beside, name, strict)
        key = followed_key(path, beside)
        info = store.by_source(key) or store.create_trace(reader.header, source_key=key)
        stored = store.import_batches(info, reader, batches, source_key=read)
    finally:
        signal.signal(signal.SIGINT, before)
    return {**_summary(stored, store), "imported": True}


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
