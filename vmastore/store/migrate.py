"""The store's schema version: made, read and upgraded by Alembic alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from vmastore.errors import StoreError
from vmastore.store.engine import APPLICATION_ID, reader
from vmastore.store.views import VIEWS

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0002"
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
    return HEAD


def current(engine: Engine) -> str | None:
    """The revision of a database, None for an empty one. Raises StoreError for a foreign one."""
    with reader(engine).connect() as connection:
        tables = inspect(connection).get_table_names()
        revision = None
        if "alembic_version" in tables:
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
        if revision is None and tables and tables != ["alembic_version"]:
            raise StoreError(f"{engine.url.database} is a database of another program")
    return None if revision is None else str(revision)


def check(engine: Engine) -> None:
    """Refuse an older or a newer schema, naming what to do. Raises StoreError."""
    have, want = current(engine), head()
    if have == want:
        return
    from alembic.script import ScriptDirectory

    place = engine.url.database
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if have in known:
        raise StoreError(
            f"{place} has schema {have}, this vmastore needs {want}",
            hint="run `vmastore db upgrade` (it backs up first)",
        )
    if engine.dialect.name == "sqlite":
        with reader(engine).connect() as connection:
            if connection.exec_driver_sql("PRAGMA application_id").scalar_one() != APPLICATION_ID:
                raise StoreError(f"{place} is a database of another program")
    raise StoreError(
        f"{place} has schema {have}, newer than this vmastore's {want}", hint="upgrade vmastore to open it"
    )


def create(engine: Engine) -> None:
    """Make the schema in an empty database."""
    from alembic import command

    with engine.begin() as connection:
        command.upgrade(config(connection), "head")
        if engine.dialect.name == "sqlite":
            connection.execute(text(f"PRAGMA application_id={APPLICATION_ID}"))
    make_views(engine)


def make_views(engine: Engine) -> None:
    """(Re)make the public views: they hold no data."""
    with engine.begin() as connection:
        for view in VIEWS:
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {view.name}")
            connection.exec_driver_sql(f"CREATE VIEW {view.name} AS {view.sql}")


def upgrade(engine: Engine) -> tuple[str | None, str, Path | None]:
    """Bring an older store up to date, after a backup copy. Returns (from, to, the backup)."""
    from alembic import command

    have, want = current(engine), head()
    backup = None
    if have != want and engine.dialect.name == "sqlite" and engine.url.database:
        place = Path(engine.url.database)
        backup = place.with_name(f"{place.name}.{have or 'empty'}.bak")
        with closing(sqlite3.connect(place)) as source, closing(sqlite3.connect(backup)) as copy:
            source.backup(copy)
    with engine.begin() as connection:
        command.upgrade(config(connection), "head")
    make_views(engine)
    return have, want, backup
