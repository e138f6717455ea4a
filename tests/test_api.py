"""The names that `import vmastore` offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vmastore

SAMPLE = Path(__file__).parent / "data" / "vmafuzz" / "all-6.1.jsonl.gz"


@pytest.mark.parametrize("name", vmastore.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each name of __all__ can be taken from the package."""
    assert getattr(vmastore, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as Python's own do."""
    with pytest.raises(AttributeError, match="open_stoer"):
        vmastore.open_stoer  # noqa: B018


def test_importing_the_package_loads_no_layer() -> None:
    """`import vmastore` imports neither SQLAlchemy nor typer nor any layer."""
    code = "import sys, vmastore; print(sorted(m for m in sys.modules if m.split('.')[0] in "
    code += "('vmastore', 'sqlalchemy', 'alembic', 'typer', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['vmastore', 'vmastore.version']\n"


def test_import_and_replay_through_the_api(tmp_path: Path) -> None:
    """Import a recording, fold its events, query the store: with the public names alone."""
    (reader,) = vmastore.open_traces(SAMPLE)
    with vmastore.open_store(tmp_path / "api.db") as store:
        info = store.import_events(store.create_trace(reader.header), reader)
        trace = vmastore.StoredTrace(store, info)
        world, outcome = trace.at(50, vmastore.resolve(str(trace.header.release), trace.header.version))
        assert outcome is not None and outcome.seq == 50 and world.mms
        columns, rows = vmastore.query(store, "SELECT count(*) AS n FROM events")
        assert columns == ["n"] and list(rows) == [(info.events,)]
