"""The schema of a store that may be an older one: asked for, and brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from vmastore.errors import StoreError
from vmastore.store import migrate
from vmastore.store.engine import make_engine, to_url
from vmastore.store.guard import explain
from vmastore.store.sqlite import check_file


def schema_of(place: str | Path) -> str | None:
    """The schema revision of the store at a path or URL, None for an empty database. Raises StoreError."""
    engine = _existing(place)
    try:
        return migrate.current(engine)
    except DatabaseError as error:
        raise explain(engine, error) from None
    finally:
        engine.dispose()


def upgrade_store(
    place: str | Path, progress: Callable[[str, int, int], None] | None = None
) -> tuple[str | None, str, Path | None]:
    """Bring the store at a path or URL up to date (see migrate.upgrade): (from, to, the backup copy).

    Raises StoreError (missing, foreign, newer, locked, no place for the copy); the store is then as it was.
    """
    engine = _existing(place)
    try:
        return migrate.upgrade(engine, progress)
    except DatabaseError as error:
        raise explain(engine, error) from None
    finally:
        engine.dispose()


def _existing(place: str | Path) -> Engine:
    """An engine on a database that is there already. Raises StoreError."""
    url = to_url(place)
    if url.get_backend_name() == "sqlite" and url.database:
        check_file(url.database)
        if not Path(url.database).exists():
            raise StoreError(f"{url.database}: no such store")
    return make_engine(url)
