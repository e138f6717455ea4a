"""What is PostgreSQL's own: its driver, how its transactions begin, where its comments go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL

from vmastore.errors import StoreError
from vmastore.store.sqlite import BUSY_SECONDS
from vmastore.store.views import View

_LOCK = 0x766D6173  # of the writers, within the database


def make_engine(url: URL) -> Engine:
    """An engine that takes the store's SQL as it is written for SQLite. Raises StoreError: no driver.

    Writers take turns, as they do in SQLite: a lock from the beginning of a writing transaction to its
    end keeps `seq` free of gaps. Readers see the database as of their first look, and cannot write.
    """
    try:
        engine = create_engine(url, isolation_level="READ COMMITTED")
    except ImportError:
        raise StoreError(
            f"{url.render_as_string(hide_password=True)}: the driver of PostgreSQL is not installed",
            hint="pip install 'vmastore[postgresql]'",
        ) from None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("reading"):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        else:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(BUSY_SECONDS * 1000)}")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def _placeholders(
        _connection: Connection, _cursor: Any, statement: str, parameters: Any, context: Any, _many: bool
    ) -> tuple[str, Any]:
        if context is not None and context.compiled is None and not context.execution_options.get("native"):
            statement = statement.replace("%", "%%")
            statement = statement.replace("?", "%s") if parameters else statement
        return statement, parameters

    return engine


def analyze(connection: Connection, tables: Iterable[str]) -> None:
    """Have the planner look at tables that have just been filled: without, it finds no lifetimes by their nodes."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {', '.join(tables)}")


def others(connection: Connection, ours: Iterable[str]) -> tuple[list[str], list[str]]:
    """Views of somebody's own, and rights on all views: (statements that drop the views, that make both again).

    ours: the names of the public views, which a migration makes anew; what stands on them goes first.
    """
    views = connection.exec_driver_sql(
        "SELECT quote_ident(c.relname), pg_get_viewdef(c.oid) FROM pg_class c"
        " WHERE c.relkind = 'v' AND c.relnamespace = current_schema()::regnamespace AND c.relname <> ALL (?)"
        " ORDER BY c.oid",  # a view is younger than what it reads
        (list(ours),),
    ).fetchall()
    rights = connection.exec_driver_sql(
        "SELECT format('GRANT %s ON %I.%I TO %s', privilege_type, table_schema, table_name,"
        " CASE grantee WHEN 'PUBLIC' THEN 'PUBLIC' ELSE quote_ident(grantee) END)"
        " FROM information_schema.role_table_grants"
        " JOIN pg_views ON schemaname = table_schema AND viewname = table_name"
        " WHERE table_schema = current_schema() AND grantee <> current_user"
    ).scalars()
    made = [f"CREATE VIEW {name} AS {text}" for name, text in views]
    return [f"DROP VIEW {name}" for name, _ in reversed(views)], [*made, *rights]


def read_only(engine: Engine) -> bool:
    """Whether this account may not write the store, or nobody may: a standby."""
    with engine.execution_options(reading=True).connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT pg_is_in_recovery() OR NOT has_table_privilege('replay_t', 'INSERT')"
        )
        return bool(found.scalar_one())


def comments(tables: Iterable[Table], views: Iterable[View]) -> list[str]:
    """Statements that put the schema's comments where the server's own clients show them."""
    found = {}
    for view in views:
        found[f"VIEW {view.name}"] = view.comment
        found.update({f'COLUMN {view.name}."{name}"': comment for name, _, comment in view.columns})
    for table in tables:
        found.update({f'COLUMN {table.name}."{column.name}"': column.comment or "" for column in table.columns})
    return [f"COMMENT ON {what} IS '{text.replace(chr(39), chr(39) * 2)}'" for what, text in found.items()]
