"""Tracepoints looked up where tracefs is mounted, where it is not, and where it may not be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmastore.recorder import tracefs

FORMAT = """name: page_fault_user
ID: 190
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:unsigned long address;\toffset:8;\tsize:8;\tsigned:0;
"""


def mounted(place: Path, number: str = "190") -> None:
    folder = place / "events" / "exceptions" / "page_fault_user"
    folder.mkdir(parents=True)
    (folder / "id").write_text(number + "\n")
    (folder / "format").write_text(FORMAT)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """Two places for tracefs with nothing there."""
    found = (tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(tracefs, "_PLACES", tuple(map(str, found)))
    return found


def refuse(number: int, *args: int | bytes | None) -> int:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("which", [0, 1])
def test_number_and_fields_come_from_where_it_is_mounted(places: tuple[Path, Path], which: int) -> None:
    """At either place; the offsets and sizes of all fields are known."""
    mounted(places[which])
    found = tracefs.tracepoint("exceptions", "page_fault_user")
    assert found == (190, {"common_type": (0, 2), "address": (8, 8)})


def test_what_is_not_there_is_said(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is mounted: that it has none of the name; where it is not and may not be: how to mount it."""
    monkeypatch.setattr(tracefs, "raw_call", refuse)
    with pytest.raises(FileNotFoundError, match="mount -t tracefs"):
        tracefs.tracepoint("sched", "no_such")
    (places[1] / "events").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no tracepoint sched:no_such"):
        tracefs.tracepoint("sched", "no_such")


def test_root_needs_no_mount(places: tuple[Path, Path]) -> None:
    """The kernel's own numbers without a place in the file system, and no descriptor or mount is left."""
    if os.geteuid():
        pytest.skip("only root may mount tracefs")
    before = os.listdir("/proc/self/fd"), Path("/proc/self/mounts").read_text()
    try:
        found = tracefs.tracepoint("exceptions", "page_fault_user")
    except FileNotFoundError as error:
        pytest.skip(f"no tracefs: {error}")
    assert found.id > 0 and found.fields["address"][1] == 8
    with pytest.raises(FileNotFoundError, match="no tracepoint exceptions:no_such"):
        tracefs.tracepoint("exceptions", "no_such")
    assert (os.listdir("/proc/self/fd"), Path("/proc/self/mounts").read_text()) == before
