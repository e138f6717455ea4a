"""Events, files and headers as JSON objects, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmastore.events import CALLS, Event, FileInfo, TraceHeader
from vmastore.events.jsoncodec import (
    FORMAT,
    event_from_json,
    event_json,
    file_from_json,
    file_json,
    header_from_json,
    header_json,
    upcast,
)

MMAP = Event(1, 1, 7, 8, 99, "mmap", (0x7F0000000000, 4096, 3, 0x22, -1, 0), 0x7F0000000000, 0)
LINE = [0x1000, 0x2000, "rw-p", 0, "00:00", 0, "", "rd wr", True]


def _again(event: Event) -> Event:
    return event_from_json(json.loads(json.dumps(event_json(event))))


EVENTS = [
    MMAP,
    MMAP._replace(result=None, errno=12, file=3, injected=True, site="a\nb", source_line=4, source_offset=0),
    MMAP._replace(ts_ns=None, args=(0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFF000, 0, 0, -100, 1 << 63)),
    Event(2, 1, 1, 1, None, "prctl", (0x53564D41, 0, 4096, 4096, None, "näme\udc80"), 0, 0),
    Event(3, 1, 1, 1, None, "process_madvise", (5, [[4096, 8192]], 1, 4, 0), 8192, 0),
    Event(4, 1, 1, 1, None, "maps", ("check", 1, [4096], [LINE]), None, 0),
    Event(5, 1, 1, 1, None, "maps", ("baseline", 0, None, []), None, 0),
    Event(6, 1, 1, 1, None, "munlockall", (), 0, 0),
    Event(7, 1, 1, 1, None, "arch_prctl", (0x1002, 5), 0, 0),
    Event(8, 1, 1, 1, None, "note", ("limit", {"max_map_count": 5}), 0, 0),
    Event(9, 1, 1, 1, None, "munmap", (4096, 4096, 0, 0, 0, 7), 0, 0),  # registers printed beyond its own
    Event(10, 0, 0, 0, None, "exit", (None, 9, 1), 0, 0),
]


@pytest.mark.parametrize("event", EVENTS, ids=[f"{event.seq}-{event.call}" for event in EVENTS])
def test_an_event_survives_json(event: Event) -> None:
    """What is written reads back identical, value by value and type by type."""
    assert _again(event) == event
    assert [type(arg) for arg in _again(event).args] == [type(arg) for arg in event.args]


values = (
    st.none() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=9) | st.lists(st.integers(), max_size=3)
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*sorted(set(CALLS) - {"maps"}), "some_new_call"]),
    st.lists(values, max_size=7),
    st.none() | st.integers(-(1 << 63), (1 << 64) - 1),
    st.integers(0, 4095),
)
def test_any_event_survives_or_is_refused_for_its_arguments(
    call: str, args: list[Any], result: int | None, errno: int
) -> None:
    """Encoding never fails; decoding gives the same event, or says which argument does not fit."""
    event = Event(1, 1, 1, 1, None, call, tuple(args), result, errno)
    try:
        again = _again(event)
    except ValueError as error:
        assert call in str(error)
    else:
        assert again == event


def test_defaults_are_left_out() -> None:
    """A line holds what there is to say."""
    assert event_json(MMAP._replace(ts_ns=None, result=None)) == {
        "seq": 1,
        "mm": 1,
        "pid": 7,
        "tid": 8,
        "call": "mmap",
        "args": {"addr": 0x7F0000000000, "length": 4096, "prot": 3, "flags": 0x22, "fd": -1, "offset": 0},
    }


def test_arguments_may_come_in_any_order() -> None:
    """They are known by name; null stands for one left out in the middle."""
    data = {"seq": 1, "mm": 1, "pid": 1, "tid": 1, "call": "shmat", "args": {"size": 5, "shmflg": 0, "shmid": 3}}
    assert event_from_json(data).args == (3, None, 0, 5)


def _event(**changes: Any) -> dict[str, Any]:
    return {**event_json(MMAP), **changes}


BAD_EVENTS = [
    (_event(seq=0), "seq"),
    (_event(seq="1"), "seq is '1'"),
    (_event(seq=True), "seq is True"),
    (_event(call=5), "call"),
    (_event(args=[]), "args is not an object"),
    (_event(args={"addr": 0}), "mmap lacks its argument 'length'"),
    (_event(args={**event_json(MMAP)["args"], "addr": "0"}), "mmap: addr is '0'"),
    (_event(args={**event_json(MMAP)["args"], "fd": None}), "mmap: fd is None"),
    (_event(args={"address": 0}), "no argument 'address'"),
    (_event(errno=-12), "errno"),
    (_event(errno=None), "errno"),
    (_event(result="0"), "result"),
    (_event(injected=1), "injected"),
    (_event(sequence=1), "unknown key 'sequence'"),
    (_event(call="maps", args={"kind": "check", "count": 1, "removed": 5, "added": []}), "removed"),
    (_event(call="maps", args={"kind": "check", "count": 1, "added": 5}), "added"),
    (_event(call="maps", args={"kind": "check", "count": 1, "added": [[1, 2, "rw-p"]]}), "not a VMA"),
    (_event(call="maps", args={"kind": "check", "count": 1, "added": [[2, 2, *LINE[2:]]]}), "not a VMA"),
    (_event(call="maps", args={"kind": "check", "count": 1, "added": [[1, 2, "rw-q", *LINE[3:]]]}), "not a VMA"),
    (_event(call="process_madvise", args={"pidfd": 1, "iov": [[1]], "vlen": 1, "advice": 1, "flags": 0}), "iov"),
    (_event(call="fault", args={"addr": 1, "length": 1, "access": 1, "outcome": ".", "source": "user"}), "access"),
]


@pytest.mark.parametrize(("data", "what"), BAD_EVENTS, ids=[what for _, what in BAD_EVENTS])
def test_what_does_not_fit_is_named(data: dict[str, Any], what: str) -> None:
    """One ValueError whose sentence has the key."""
    with pytest.raises(ValueError, match=what):
        event_from_json(data)


def test_a_short_line_of_maps_is_filled_up() -> None:
    """VmFlags and `written` may be left out."""
    data = _event(call="maps", args={"kind": "check", "count": 1, "added": [LINE[:7]]})
    assert event_from_json(data).args == ("check", 1, None, [[*LINE[:7], None, None]])


@pytest.mark.parametrize(
    "info",
    [
        FileInfo(1, "/lib/x", "regular", True, False, "fe:00", 5, 4096, "open", 0o2000000),
        FileInfo(2, None, "unknown"),
    ],
)
def test_a_file_survives_json(info: FileInfo) -> None:
    """What is unknown is left out and comes back unknown."""
    assert file_from_json(json.loads(json.dumps(file_json(info)))) == info


@pytest.mark.parametrize(
    "data",
    [
        {"open_file": 0, "kind": "regular"},
        {"open_file": "1", "kind": "regular"},
        {"open_file": 1},
        {"open_file": 1, "kind": "regular", "inode": "5"},
        {"open_file": 1, "kind": "regular", "writable": 1},
        {"open_file": 1, "kind": "regular", "name": "x"},
    ],
)
def test_a_file_that_is_none_is_refused(data: dict[str, Any]) -> None:
    """Numbers count from 1, the kind is there, types fit."""
    with pytest.raises(ValueError):
        file_from_json(data)


def test_a_header_survives_json() -> None:
    """With its configuration, and the version first."""
    header = TraceHeader("t", "strace.log", "strace", "6.1.0", None, {"max_map_count": 5}, "partial", "so")
    text = json.dumps(header_json(header))
    assert text.startswith(f'{{"vmatrace": {FORMAT}, ')
    assert header_from_json(json.loads(text)) == header


@pytest.mark.parametrize(
    "change", [{"name": None}, {"config": []}, {"faults": "some"}, {"release": 6}, {"kernel": "6.1"}]
)
def test_a_header_that_is_none_is_refused(change: dict[str, Any]) -> None:
    """Name, configuration and the rest have their types."""
    with pytest.raises(ValueError):
        header_from_json({**header_json(TraceHeader("t", "s", "strace")), **change})


def test_older_objects_are_brought_up_one_step_at_a_time() -> None:
    """Each version's converter runs once, in order; the current version's objects are left alone."""
    steps = {1: lambda data: {**data, "a": 1}, 2: lambda data: {**data, "b": data["a"] + 1}}
    assert upcast({}, 1, steps, current=3) == {"a": 1, "b": 2}
    assert upcast({"a": 7}, 2, steps, current=3) == {"a": 7, "b": 8}
    assert upcast({"x": 1}, FORMAT) == {"x": 1}


DOCS = Path(__file__).parents[2] / "docs" / "trace-format.md"


def test_the_documentation_lists_every_call_with_its_arguments() -> None:
    """docs/trace-format.md has the table of calls as it is."""
    text = DOCS.read_text()
    rows = [f"| `{call}` | {', '.join(f'`{name}`' for name in names) or '–'} |" for call, names in CALLS.items()]
    assert [row for row in rows if row not in text] == []


def test_the_documentations_example_is_a_trace(tmp_path: Path) -> None:
    """Each line of the example decodes, and is what encoding it gives."""
    block = DOCS.read_text().split("```json\n")[1].split("```")[0]
    lines = [json.loads(line) for line in block.splitlines()]
    assert header_json(header_from_json(lines[0])) == lines[0]
    assert file_json(file_from_json(lines[1])) == lines[1]
    for line in lines[2:4]:
        assert event_json(event_from_json(line)) == line
    assert list(lines[4]) == ["skip"] and lines[5] == {"end": 2}


def test_the_documentation_names_every_key() -> None:
    """Keys of headers, files and events are all explained."""
    text = DOCS.read_text()
    names = {*TraceHeader._fields, *FileInfo._fields[1:], *Event._fields}
    assert {name for name in names if f"`{name}`" not in text} == set()
