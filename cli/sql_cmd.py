"""`vmastore sql`: read-only SQL on the views."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmastore.cli.common import (
    JsonOption,
    KernelOption,
    NlOption,
    StoreOption,
    echo,
    emit_rows,
    open_existing,
    store_place,
)
from vmastore.errors import InputError

if TYPE_CHECKING:
    from vmastore.store.moments import AsOf
    from vmastore.store.readable import Readable


_DERIVED = re.compile(r"\b(outcomes|decisions|vmas|lost_merges)\b", re.I)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sql")(sql)


def sql(
    query: Annotated[
        str | None, typer.Argument(help="A SELECT, the name of a saved query, or - for standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the query from a file.")] = None,
    param: Annotated[list[str] | None, typer.Option("-p", "--param", help="name=value for :name.")] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="TRACE@N: `vmas` shows the VMAs alive after event N alone.")
    ] = None,
    kernel: KernelOption = None,
    save: Annotated[str | None, typer.Option("--save", help="Keep the query under this name; run it by it.")] = None,
    forget: Annotated[str | None, typer.Option("--forget", help="Drop a query that was saved.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the saved queries, the shipped ones too.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the saved query instead of running it.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV.")] = False,
    tsv: Annotated[bool, typer.Option("--tsv", help="Tab-separated.")] = False,
    table: Annotated[bool, typer.Option("--table", help="A table, in a pipe too.")] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="No header line.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The first column of the first row, alone.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the views, their columns, the functions.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds after which the query stops.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    nl: NlOption = False,
) -> None:
    """Query the store: a table on a terminal, tab-separated in a pipe. Nothing can be written.

    Time travel: vmas_at(TRACE, N), vma_diff(TRACE, A, B), vma_history(TRACE, ADDR) and
    vmas_between(TRACE, LOW, HIGH, FIRST, LAST) stand for tables; --schema explains them. They, and
    --as-of, need a stored replay (`vmastore replay TRACE`).

    Example: vmastore sql "SELECT call, count(*) FROM events GROUP BY call"

    Example: vmastore sql who -p trace=app -p addr=0x7f0000001000
    """
    from vmastore.store import open_readable, saved
    from vmastore.store import query as run

    if schema:
        _schema()
        return
    if list_all:
        with open_readable(store_place(store)) as opened:
            rows = ((n, q.question, " ".join(q.parameters)) for n, q in saved.queries(opened).items())
            emit_rows(("name", "question", "parameters"), rows, as_json=as_json, nl=nl)
        return
    if forget is not None:
        with open_existing(store) as written:
            saved.forget(written, forget)
        return
    asked = _text(query, file), _params(param)
    if save is not None:
        with open_existing(store) as written:
            saved.save(written, save, _query(written, *asked)[0])
        return
    with open_readable(store_place(store)) as opened:
        text, params = _query(opened, *asked)
        if show:
            echo(text)
            return
        _warn(opened, text)
        columns, found = run(opened, text, params, timeout=timeout, as_of=_moment(as_of, kernel))
        if raw:
            for row in found:
                echo(_raw(row[0]))
                break
        elif as_csv or tsv:
            writer = csv.writer(sys.stdout, delimiter="\t" if tsv else ",", lineterminator="\n")
            if not no_headers:
                writer.writerow(columns)
            writer.writerows(_printable(found))
        elif no_headers and not (as_json or nl):
            for row in _printable(found):
                echo("\t".join("" if value is None else str(value) for value in row))
        else:
            emit_rows(columns, _printable(found), as_json=as_json, nl=nl, table=table)


def _query(store: Readable, text: str, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(the SELECT, its parameters) of a text that may be a saved query's name."""
    from vmastore.store import saved

    if not saved.is_name(text):
        return text, params
    found = saved.find(store, text)
    return found.sql, saved.complete(store, found, params)


def _warn(store: Readable, text: str) -> None:
    """Say what derived data of the store is stale, if the query may see it."""
    from vmastore.cli.common import note
    from vmastore.store.resolve import stale

    if _DERIVED.search(text):
        for trace, kernel, why in stale(store):
            note(f"the replay of {trace} under {kernel} is stale: {why} (`vmastore db rebuild` makes it again)")


def _moment(as_of: str | None, kernel: str | None) -> AsOf | None:
    from vmastore.cli.common import parse_target
    from vmastore.store.moments import AsOf

    if as_of is None:
        if kernel is not None:
            raise InputError("--kernel goes with --as-of", hint="in a query: WHERE replay = replay_of(TRACE, KERNEL)")
        return None
    target = parse_target(as_of)
    return AsOf(target.trace, -1 if target.at is None else target.at, kernel)


def _raw(value: Any) -> str:
    return "" if value is None else value.hex() if isinstance(value, bytes) else str(value)


def _printable(rows: Any) -> Any:
    for row in rows:
        yield tuple(value.hex() if isinstance(value, bytes) else value for value in row)


def _text(query: str | None, file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text()
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: byte {error.start}: not UTF-8 text") from None
    if query == "-":
        return sys.stdin.read()
    if query is None:
        raise InputError("no query", hint="give a SELECT, a saved query's name, -f FILE, --list or --schema")
    return query


def _params(params: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in params or ():
        name, sign, value = text.partition("=")
        if not sign:
            raise InputError(f"-p {text!r}: write name=value")
        try:
            number = int(value, 0)
        except ValueError:
            found[name] = value
            continue
        if not -(1 << 63) <= number < 1 << 64:
            raise InputError(f"-p {text!r}: the number does not fit 64 bits")
        found[name] = number - (1 << 64) if number >> 63 > 0 else number
    return found


def _schema() -> None:
    from vmastore.store.moments import FUNCTIONS, SCALARS
    from vmastore.store.views import VIEWS

    for view in VIEWS:
        echo(f"{view.name}: {view.comment}")
        for name, _, comment in view.columns:
            echo(f"    {name:<15} {comment}")
    echo("Tables that take arguments:")
    for name, function in FUNCTIONS.items():
        echo(f"    {name}({', '.join(function.arguments).replace('?', ' (may be left out)')}): {function.comment}")
    echo("Functions:")
    for name, comment in SCALARS.items():
        echo(f"    {name}: {comment}")
