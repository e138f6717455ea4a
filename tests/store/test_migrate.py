"""The schema is made by migrations alone, forwards and back, and is what the code says it is."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from vmastore.store import Store, migrate, open_store
from vmastore.store.engine import make_engine, to_url
from vmastore.store.schema import metadata
from vmastore.store.views import VIEWS


def test_models_and_migrations_agree(store: Store) -> None:
    """`alembic check` finds nothing to migrate."""
    with store.engine.begin() as connection:
        command.check(migrate.config(connection))


def test_the_head_is_the_newest_revision() -> None:
    """What the code takes for the newest schema is the last migration."""
    assert ScriptDirectory.from_config(migrate.config()).get_current_head() == migrate.head()


def test_down_and_up_again(store: Store) -> None:
    """Every revision can be undone, and made again."""
    with store.engine.begin() as connection:
        for view in VIEWS:
            connection.exec_driver_sql(f"DROP VIEW {view.name}")
        command.downgrade(migrate.config(connection), "base")
        left = set(inspect(connection).get_table_names())
        assert left <= {"alembic_version"}
    migrate.create(store.engine)
    with store.engine.begin() as connection:
        command.check(migrate.config(connection))


def test_upgrade_backs_up_first(tmp_path: Path) -> None:
    """An older store is copied before it is changed; a current one is left alone."""
    place = tmp_path / "s.db"
    open_store(place).close()
    engine = make_engine(to_url(place))
    assert migrate.upgrade(engine) == (migrate.head(), migrate.head(), None)


def test_every_table_view_and_column_has_a_comment() -> None:
    """The reference is made of them."""
    for table in metadata.sorted_tables:
        for column in table.columns:
            assert column.comment, f"{table.name}.{column.name}"
    for view in VIEWS:
        assert view.comment
        assert all(comment for _, _, comment in view.columns), view.name


def test_the_views_have_the_columns_that_are_promised(store: Store) -> None:
    """Names and order are public."""
    promised = {
        "traces": "trace, name, source, kernel, events, address_spaces, created_at, first_ts_ns, last_ts_ns",
        "address_spaces": "trace, mm, pid, parent_mm, origin, born_seq, died_seq",
        "events": "trace, seq, mm, pid, tid, ts_ns, call, start, length, result, errno, args, file, injected, site, "
        "source_line, source_offset",
        "skipped": "trace, tid, call, reason, source_line, count",
        "decisions": "trace, replay, seq, n, mm, api, action, vm_start, vm_end, case, reason_prev, reason_next, "
        "certainty",
        "outcomes": "trace, replay, seq, mm, kernel, merges, splits, cases, map_count, certainty, divergence",
        "vmas": "trace, replay, mm, vm_start, vm_end, perms, vm_flags, pgoff, path, name, born_seq, died_seq",
        "lost_merges": "trace, replay, mm, seq, left_start, boundary, right_end, reason",
    }
    with store.engine.connect() as connection:
        for view, columns in promised.items():
            found = [column["name"] for column in inspect(connection).get_columns(view)]
            assert ", ".join(found) == columns
