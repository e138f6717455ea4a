"""`vmastore db`: the store itself."""

from __future__ import annotations

import typer

from vmastore.cli.common import JsonOption, StoreOption, echo, echo_json, open_existing, store_place

db = typer.Typer(no_args_is_help=True, help="The store itself: its schema and its soundness.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(db, name="db")


@db.command()
def current(store: StoreOption = None) -> None:
    """The schema that the store has, and the one that this vmastore needs.

    Example: vmastore db current
    """
    from vmastore.store import migrate
    from vmastore.store.upgrade import schema_of

    echo(f"store: {schema_of(store_place(store)) or 'empty'}  needed: {migrate.head()}")


@db.command()
def upgrade(store: StoreOption = None) -> None:
    """Bring an older store up to date, after a backup copy beside it (NAME.REVISION.bak).

    One transaction: interrupted at any moment, the store is still the old one, and this may be run again.

    Example: vmastore db upgrade
    """
    from vmastore.store.upgrade import upgrade_store

    have, want, backup = upgrade_store(store_place(store))
    if have == want:
        echo(f"already at {want}")
    else:
        echo(f"upgraded from {have or 'empty'} to {want}" + (f"; the old one is {backup}" if backup else ""))


@db.command()
def check(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Verify the hash chain, gaps, foreign keys, the database's own integrity, and derived data against a replay.

    The first bad event of each trace is named. Exit status 1 if unsound. Derived data that another version
    made is stale, not unsound: `vmastore db rebuild` makes it again.

    Example: vmastore db check
    """
    from vmastore.replay.check import Checked, check_replays
    from vmastore.store.check import check_store

    with open_existing(store) as opened:
        problems, events = check_store(opened)
        derived = check_replays(opened) if not problems else Checked([], 0, [])  # no replay of unsound events
    problems += derived.problems
    if as_json:
        echo_json({"events": events, "problems": problems, "replays": derived.replays, "stale": derived.stale})
    else:
        for problem in problems:
            echo(problem)
        for stale in derived.stale:
            echo(f"stale: {stale}; `vmastore db rebuild` makes it again")
        echo(f"{events} events, {derived.replays} replays checked, {len(problems)} problems")
    if problems:
        raise typer.Exit(1)


@db.command()
def rebuild(store: StoreOption = None) -> None:
    """Make all derived data again from the events: replays, address spaces.

    Example: vmastore db rebuild
    """
    from vmastore.replay.rebuild import rebuild as run

    with open_existing(store) as opened:
        echo(f"{run(opened)} replays made again")
