"""Writes docs/reference.md from --help, docs/schema.md from the comments of the schema, and the SQL of a new store.

`python docs/generate.py` writes them; `--check` fails if they are stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from typer.testing import CliRunner

from vmastore.cli.main import app
from vmastore.store.engine import make_engine, to_url
from vmastore.store.fresh import script
from vmastore.store.migrate import migrate_to_head, migrating
from vmastore.store.schema import metadata
from vmastore.store.views import VIEWS

ROOT = Path(__file__).parent.parent


def reference() -> str:
    """Every command's help."""
    parts = ["# Commands", "", "Generated from `vmastore COMMAND --help`.", ""]
    runner = CliRunner()
    for words in commands():
        result = runner.invoke(app, [*words, "--help"], env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})
        text = "\n".join(line.rstrip() for line in result.output.replace("root ", "vmastore ").strip().splitlines())
        parts += [f"## vmastore {' '.join(words)}", "", "```", text, "```", ""]
    return "\n".join(parts)


def commands() -> list[list[str]]:
    """The words of every command that does something, by name."""
    found = [[command.name or ""] for command in app.registered_commands]
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is not None:
            found += [
                [group.name or "", c.name or c.callback.__name__] for c in inner.registered_commands if c.callback
            ]
    return sorted(found)


def schema() -> str:
    """The public views, then the private tables."""
    parts = [
        "# The store",
        "",
        "Generated from the comments of the schema. Users query the views.",
        "",
        "## Views",
        "",
    ]
    for view in VIEWS:
        parts += [f"### {view.name}", "", view.comment, "", "| column | meaning |", "|---|---|"]
        parts += [f"| {column} | {comment} |" for column, _, comment in view.columns]
        parts.append("")
    parts += ["## Tables", "", "Private: they change without notice.", ""]
    for table in metadata.sorted_tables:
        parts += [f"### {table.name}", "", "| column | meaning |", "|---|---|"]
        parts += [f"| {column.name} | {column.comment} |" for column in table.columns]
        parts.append("")
    return "\n".join(parts)


def tables() -> str:
    """What the migrations make in an empty SQLite database."""
    engine = make_engine(to_url(":memory:"))
    with migrating(engine) as connection:
        migrate_to_head(connection)
        return script(connection)


PAGES = {"docs/reference.md": reference, "docs/schema.md": schema, "vmastore/data/schema.sql": tables}


def main() -> int:
    stale = []
    for name, make in PAGES.items():
        text = make().rstrip() + "\n"
        path = ROOT / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    for name in stale:
        print(f"{name} is stale: run `make docs`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
