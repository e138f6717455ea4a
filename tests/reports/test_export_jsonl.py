"""Export and import are inverse."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from vmastore.errors import InputError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.importers.detect import open_traces
from vmastore.importers.jsonl import JsonlReader
from vmastore.reports.export_jsonl import export_jsonl, open_output

DATA = Path(__file__).parents[1] / "data"
CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
SAMPLES = [
    DATA / "vmafuzz" / "all-6.1.jsonl.gz",
    DATA / "maprec" / "ls.maprec.jsonl.gz",
    DATA / "vectors" / "two-seeds-6.12.txt",
    DATA / "maps" / "cat.smaps",
    CORPUS / "programs" / "git.maprec.jsonl.gz",
    CORPUS / "programs" / "git.strace.gz",
    CORPUS / "fuzz" / "6.18" / "fork-1.jsonl.gz",
    CORPUS / "strace-logs" / "d15_k.log",
    CORPUS / "strace-logs" / "d19_inject.log",
]


@pytest.mark.parametrize("path", SAMPLES, ids=[path.name for path in SAMPLES])
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_exporting_and_importing_gives_the_same_trace(path: Path, suffix: str, tmp_path: Path) -> None:
    """Header, files, events and skips are identical after a round trip, streamed and packed."""
    if not path.exists():
        pytest.skip("the corpus is not there")
    for number, reader in enumerate(open_traces(path)):
        made = tmp_path / f"{number}.vmatrace.jsonl{suffix}"
        events: list[Event] = []
        streamed = (events.append(event) or event for event in reader.events())
        with open_output(made) as out:
            count = export_jsonl(reader.header, reader.files, streamed, out)
        again = JsonlReader(made)
        assert list(again.events()) == events and count == len(events)
        assert again.files == reader.files and again.skips() == []
        assert again.header._replace(note=None) == reader.header._replace(note=None)


def test_exporting_what_was_imported_gives_the_same_bytes() -> None:
    """The file of a trace does not depend on where the trace was read from."""
    path = DATA / "vmatrace" / "v1.vmatrace.jsonl"
    reader, out = JsonlReader(path), io.StringIO()
    events = list(reader.events())
    export_jsonl(reader.header, reader.files, events, out)
    assert out.getvalue() == path.read_text()


def test_a_description_is_written_before_the_event_that_names_it_and_again_if_it_changed() -> None:
    """A reader's table grows while its events are read."""
    files: list[FileInfo] = []

    def events() -> list[Event]:
        files.append(FileInfo(1, None, "regular"))
        return [Event(1, 1, 1, 1, None, "close", (3,), 0, 0, 1)]

    def stream() -> object:
        yield from events()
        files[0] = files[0]._replace(path="/x")

    out = io.StringIO()
    export_jsonl(TraceHeader("t", "s", "strace"), files, stream(), out)  # type: ignore[arg-type]
    keys = [next(iter(json.loads(line))) for line in out.getvalue().splitlines()]
    assert keys == ["vmatrace", "open_file", "seq", "open_file", "end"]


def test_a_place_that_cannot_be_written_is_an_error_by_name(tmp_path: Path) -> None:
    """A missing folder is said, not shown as a traceback."""
    with pytest.raises(InputError, match=r"none/t\.jsonl\.gz: cannot be written"):
        open_output(tmp_path / "none" / "t.jsonl.gz")
