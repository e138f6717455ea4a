"""The schema of a new SQLite store, as all migrations make it: run in one go, without Alembic.

`vmastore/data/schema.sql` is generated from the migrations (`make docs`), and a test holds it to them.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

FILE = Path(__file__).parent.parent / "data" / "schema.sql"
_BETWEEN = ";\n\n"


def make_tables(connection: Connection) -> None:
    """Make tables, indexes and triggers in an empty SQLite database, and name their revision."""
    for statement in FILE.read_text(encoding="utf-8").rstrip().removesuffix(";").split(_BETWEEN):
        connection.exec_driver_sql(statement)


def script(connection: Connection) -> str:
    """The statements that make what a SQLite database has in tables, indexes and triggers, and its revision."""
    made = connection.exec_driver_sql(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND type<>'view' ORDER BY rowid"
    )
    statements = [str(sql) for (sql,) in made]
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    statements.append(f"INSERT INTO alembic_version (version_num) VALUES ('{revision}')")
    return _BETWEEN.join(statements) + ";\n"
