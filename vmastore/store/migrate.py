"""The store's schema version: made, read and upgraded by Alembic alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, inspect, text

from vmastore.errors import StoreError
from vmastore.store import postgresql
from vmastore.store.backup import back_up
from vmastore.store.engine import named, reader
from vmastore.store.fresh import make_tables
from vmastore.store.pgfunctions import dropping, functions
from vmastore.store.schema import metadata
from vmastore.store.sqlite import APPLICATION_ID
from vmastore.store.views import VIEWS
from vmastore.version import SCHEMA, VERSION

if TYPE_CHECKING:
    from alembic.config import Config

# alembic is imported where it works: what only reads a store does not pay for it
_FOLDERS = ("_migrations", "../migrations")  # in a wheel, in a checkout


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, with a live connection to work on."""
    from alembic.config import Config

    made = Config()
    here = Path(__file__).parent.parent
    folder = next((here / f for f in _FOLDERS if (here / f / "env.py").exists()), here / _FOLDERS[0])
    made.set_main_option("script_location", str(folder))
    made.attributes["connection"] = connection
    return made


def head() -> str:
    """The newest revision that this vmastore knows (a test holds it to the migrations)."""
    return SCHEMA


def current(engine: Engine) -> str | None:
    """The revision of a database, None for an empty one. Raises StoreError for a foreign one."""
    with reader(engine).connect() as connection:
        tables = inspect(connection).get_table_names()
        revision = None
        if "alembic_version" in tables:
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
        if revision is None and tables and tables != ["alembic_version"]:
            raise StoreError(f"{named(engine)} is a database of another program")
    return None if revision is None else str(revision)


def check(engine: Engine) -> None:
    """Refuse an older or a newer schema, naming what to do. Raises StoreError."""
    have, want = current(engine), head()
    if have == want:
        return
    if have is None or have in _known():
        raise StoreError(
            f"{named(engine)} has schema {have}, this vmastore needs {want}",
            hint="run `vmastore db upgrade` (it backs up first)"
            if engine.dialect.name == "sqlite"
            else "run `vmastore db upgrade` after a pg_dump: it makes no copy of its own",
        )
    raise _newer(engine, have)


def _known() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}


def _newer(engine: Engine, have: str) -> StoreError:
    """What to say of a revision that this vmastore does not know."""
    place = named(engine)
    needs = None
    with reader(engine).connect() as connection:
        sqlite = engine.dialect.name == "sqlite"
        if sqlite and connection.exec_driver_sql("PRAGMA application_id").scalar_one() != APPLICATION_ID:
            return StoreError(f"{place} is a database of another program")
        if "about_t" in inspect(connection).get_table_names():
            needs = connection.exec_driver_sql("SELECT value FROM about_t WHERE key='needs'").scalar_one_or_none()
    return StoreError(
        f"{place} has schema {have}, newer than this vmastore's {head()}",
        hint="upgrade vmastore to open it" if needs is None else f"it needs vmastore {needs} or newer",
    )


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """One transaction for a whole migration, with the write lock from its beginning.

    Foreign keys are off in it: SQLite changes a table by making it anew, and would take the dropped one
    for the loss of all its rows. They are checked before the end. Raises StoreError.
    """
    with engine.connect() as connection:
        sqlite = engine.dialect.name == "sqlite"
        raw: Any = connection.connection.driver_connection
        if sqlite:
            raw.execute("PRAGMA foreign_keys=OFF")  # does nothing within a transaction
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchone() if sqlite else None
                if broken is not None:
                    raise StoreError(f"{named(engine)}: {broken[0]} would point to a missing {broken[2]}")
        finally:
            if sqlite:
                raw.execute("PRAGMA foreign_keys=ON")


def create(engine: Engine) -> None:
    """Make the schema in an empty database; that another process has just done so is no error."""
    with migrating(engine) as connection:
        sqlite = engine.dialect.name == "sqlite"
        if sqlite and not inspect(connection).get_table_names():
            make_tables(connection)
        else:
            migrate_to_head(connection)
        if sqlite:
            connection.execute(text(f"PRAGMA application_id={APPLICATION_ID}"))
        finish(connection)


def migrate_to_head(connection: Connection) -> None:
    """Run the migrations that a database lacks."""
    from alembic import command

    command.upgrade(config(connection), "head")


def finish(connection: Connection, others: Sequence[str] = ()) -> None:
    """What follows every migration: the views anew, and which vmastore the store now needs."""
    drop_views(connection)
    dialect = connection.dialect.name
    statements = [*(f"CREATE VIEW {view.name} AS {view.select(dialect)}" for view in VIEWS), *others]
    if dialect == "postgresql":
        statements = [*functions(), *statements, *postgresql.comments(metadata.sorted_tables, VIEWS)]
    for sql in statements:
        connection.exec_driver_sql(sql)
    connection.exec_driver_sql("DELETE FROM about_t WHERE key='needs'")
    connection.execute(text("INSERT INTO about_t (key, value) VALUES ('needs', :needs)"), {"needs": VERSION})


def drop_views(connection: Connection) -> list[str]:
    """Drop the views: SQLite remakes no table that a view reads. Returns how to make those that are not ours.

    In PostgreSQL the functions too, and what is returned gives others their rights on the views back.
    """
    ours = {view.name for view in VIEWS}
    if connection.dialect.name == "postgresql":
        drops, remakes = postgresql.others(connection, ours)
        for sql in (*drops, *dropping(), *(f"DROP VIEW IF EXISTS {name}" for name in ours)):
            connection.exec_driver_sql(sql)
        return remakes
    views = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type='view'").fetchall()
    others = {name: sql for name, sql in views if name not in ours}
    for name in (*ours, *others):
        connection.exec_driver_sql(f'DROP VIEW IF EXISTS "{name}"')
    return list(others.values())


def upgrade(
    engine: Engine, progress: Callable[[str, int, int], None] | None = None
) -> tuple[str | None, str, Path | None]:
    """Bring an older store up to date, after a backup copy. Returns (from, to, the backup).

    progress: called with ("backup", pages copied, pages) and ("migrate", 0, 0). All of it is one
    transaction: a process that is killed on the way leaves the store as it was. Raises StoreError
    (foreign, newer, locked, no place for the copy).
    """
    have, want = current(engine), head()
    if have == want:
        return have, want, None
    if have is not None and have not in _known():
        raise _newer(engine, have)
    copy = None
    with migrating(engine) as connection:
        if have is not None and engine.dialect.name == "sqlite" and engine.url.database:
            copy = back_up(Path(engine.url.database), f"{have}.bak", progress)
        if progress is not None:
            progress("migrate", 0, 0)
        others = drop_views(connection)
        migrate_to_head(connection)
        if engine.dialect.name == "sqlite":
            connection.execute(text(f"PRAGMA application_id={APPLICATION_ID}"))
        finish(connection, others)
    return have, want, copy
