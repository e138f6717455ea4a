"""`vmastore sql`: read-only SQL on the views."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vmastore.cli.common import JsonOption, NlOption, StoreOption, echo, emit_rows, open_existing
from vmastore.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sql")(sql)


def sql(
    query: Annotated[str | None, typer.Argument(help="A SELECT, or - for standard input.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the query from a file.")] = None,
    param: Annotated[list[str] | None, typer.Option("-p", "--param", help="name=value for :name.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV.")] = False,
    tsv: Annotated[bool, typer.Option("--tsv", help="Tab-separated.")] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="No header line.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The first column of the first row, alone.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the views and their columns.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds after which the query stops.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    nl: NlOption = False,
) -> None:
    """Query the store: a table on a terminal, tab-separated in a pipe. Nothing can be written.

    Example: vmastore sql "SELECT call, count(*) FROM events GROUP BY call"
    """
    from vmastore.store import query as run

    if schema:
        _schema()
        return
    text = _text(query, file)
    with open_existing(store) as opened:
        columns, rows = run(opened, text, _params(param), timeout=timeout)
        if raw:
            for row in rows:
                echo("" if row[0] is None else str(row[0]))
                break
        elif as_csv or tsv:
            writer = csv.writer(sys.stdout, delimiter="\t" if tsv else ",", lineterminator="\n")
            if not no_headers:
                writer.writerow(columns)
            writer.writerows(rows)
        elif no_headers and not (as_json or nl):
            for row in rows:
                echo("\t".join("" if value is None else str(value) for value in row))
        else:
            emit_rows(columns, _printable(rows), as_json=as_json, nl=nl)


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
        raise InputError("no query", hint="give a SELECT, -f FILE, or --schema")
    return query


def _params(params: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in params or ():
        name, sign, value = text.partition("=")
        if not sign:
            raise InputError(f"-p {text!r}: write name=value")
        try:
            number = int(value, 0)
            found[name] = number - (1 << 64) if number >> 63 else number
        except ValueError:
            found[name] = value
    return found


def _schema() -> None:
    from vmastore.store.views import VIEWS

    for view in VIEWS:
        echo(f"{view.name}: {view.comment}")
        for name, _, comment in view.columns:
            echo(f"    {name:<15} {comment}")
