"""What several tests share: the corpus, small real samples, a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmastore.store import Store, open_store

DATA = Path(__file__).parent / "data"
CORPUS = Path(__file__).parent.parent.parent / "shared" / "corpus"


@pytest.fixture
def corpus() -> Path:
    """The recordings of real kernels; the test is skipped where they are absent."""
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real-kernel recordings is not beside the repository")
    return CORPUS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(tmp_path / "store.db")


@pytest.fixture(autouse=True)
def no_store_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never touch the store that the environment names."""
    monkeypatch.delenv("VMASTORE_STORE", raising=False)
