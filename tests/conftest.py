"""What several tests share: the corpus, small real samples, a store."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmastore.store import Store, open_store

sys.path.insert(0, str(Path(__file__).parent))
from postgres import new_store  # the tests are no package

DATA = Path(__file__).parent / "data"
CORPUS = Path(__file__).parent.parent.parent / "shared" / "corpus"

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # started in the background: what is ignored stays so in children
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def corpus() -> Path:
    """The recordings of real kernels; the test is skipped where they are absent."""
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real-kernel recordings is not beside the repository")
    return CORPUS


# The same tests on another database: VMASTORE_TEST_STORE=postgresql (make test-postgresql)
POSTGRESQL = os.environ.get("VMASTORE_TEST_STORE") == "postgresql"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL the tests that have a store are run; what is SQLite's own is skipped, saying what that is."""
    if not POSTGRESQL:
        return
    stored = [item for item in items if _has_store(item)]
    config.hook.pytest_deselected(items=[item for item in items if not _has_store(item)])
    items[:] = stored
    for item in items:
        mark = item.get_closest_marker("sqlite")
        if mark is not None:
            item.add_marker(pytest.mark.skip(reason=f"SQLite's own: {mark.args[0]}"))


def _has_store(item: pytest.Item) -> bool:
    """Whether a test asks for a store, or for PostgreSQL by the name of its file, or is marked as SQLite's."""
    asks = "new_place" in getattr(item, "fixturenames", ())
    return asks or "sqlite" in item.keywords or item.path.name.startswith(("test_pg_", "test_postgresql"))


@pytest.fixture(scope="session")
def new_place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Gives places where a store can be made: a path, or the URL of a database with an empty store."""
    return new_store if POSTGRESQL else lambda: str(tmp_path_factory.mktemp("place") / "store.db")


@pytest.fixture
def place(new_place: Callable[[], str]) -> str:
    """One of them."""
    return new_place()


@pytest.fixture
def served(place: str, no_store_of_the_user: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that name no store have a server's, where the tests are for that."""
    if "://" in place:
        monkeypatch.setenv("VMASTORE_STORE", place)


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    """An empty store."""
    with open_store(place) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_store_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never touch the store that the environment names."""
    monkeypatch.delenv("VMASTORE_STORE", raising=False)
