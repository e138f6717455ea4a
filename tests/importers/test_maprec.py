"""maprec recordings as events."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vmastore.errors import InputError
from vmastore.events import CALLS, Event
from vmastore.importers.maprec import MaprecReader

DATA = Path(__file__).parents[1] / "data" / "maprec" / "ls.maprec.jsonl.gz"
CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "programs"
PROGRAMS = sorted(CORPUS.glob("*.maprec.jsonl.gz")) if CORPUS.is_dir() else []

HEAD = {"maprec": 1, "release": "6.18.44", "argv": ["prog", "arg"], "pid": 10}
STACK = ["7ff0000", "7ff2000", "rw-p", "0", "00:00", 0, "[stack]", None]
TEXT = ["400000", "401000", "r-xp", "0", "fe:00", 7, "/bin/prog", None]


def _text(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def _numbered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    start = {"pid": 10, "mm": 1, "sc": "start", "n": 2, "-": [], "+": [TEXT, STACK]}
    lines = [{"i": number, **record} for number, record in enumerate([start, *records])]
    return [HEAD, *lines, {"end": len(lines), "rc": 0}]


def _reader(tmp_path: Path, *records: dict[str, Any]) -> MaprecReader:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in _numbered(list(records))))
    return MaprecReader(path)


def _events(tmp_path: Path, *records: dict[str, Any]) -> list[Event]:
    """The events after the baseline."""
    return list(_reader(tmp_path, *records).events())[1:]


def _call(sc: str, *a: str, r: str | None = "0", **more: Any) -> dict[str, Any]:
    answer = {} if r is None else {"r": r}
    return {"pid": 10, "tid": 10, "mm": 1, "sc": sc, "a": list(a), **answer, **more}


def _same(n: int = 2) -> dict[str, Any]:
    return {"n": n, "-": [], "+": []}


@pytest.mark.parametrize("path", PROGRAMS, ids=[path.name.partition(".")[0] for path in PROGRAMS])
def test_every_program_of_the_corpus_reads_with_its_sums_verified(path: Path) -> None:
    """Events are gap-free, name known files, and every call with a map is followed by its check."""
    reader = MaprecReader(path)
    before: Event | None = None
    calls, paired = Counter[str](), 0
    for number, event in enumerate(reader.events(), 1):
        assert event.seq == number
        assert event.file is None or event.file <= len(reader.files)
        if event.call in CALLS:
            assert len(event.args) == len(CALLS[event.call])
        if event.call == "maps" and before is not None and before.source_line == event.source_line:
            assert event.mm == (before.args[2] if before.call == "execve" else before.mm)
            paired += 1
        calls[event.call] += 1
        before = event
    assert reader.skips() == []
    lines = [json.loads(line) for line in _text(path).splitlines()]
    records = Counter(line.get("sc") for line in lines)
    alone = ("start", "forked", "async")
    assert paired == sum("-" in line and line["sc"] not in alone for line in lines)
    for name in ("mmap", "brk", "openat", "clone", "vfork", "execve", "exit", "madvise"):
        assert calls[name] == records[name]


def test_the_corpus_is_there_or_the_sample_stands_for_it() -> None:
    """The sample begins in the recorder's own image and ends in the program's."""
    events = list(MaprecReader(DATA).events())
    assert events[0].args[0] == "baseline" and events[0].args[3][0][6] == "/usr/local/bin/maprec"
    (execve,) = [event for event in events if event.call == "execve" and event.result == 0]
    new = events[execve.seq]
    assert (new.call, new.args[0], new.mm) == ("maps", "baseline", execve.args[2]) and execve.mm == 1
    assert new.args[3][0][6] == execve.args[0]
    assert events[-1].call == "exit" and events[-1].args == (0, None, 1)


def test_checks_and_flags_rebuild_the_last_map() -> None:
    """Folding the differences reaches the counts; the last read of smaps fills in every line's VmFlags."""
    state: dict[int, list[Any]] = {}
    for event in MaprecReader(DATA).events():
        if event.call == "maps":
            _, count, removed, added = event.args
            state = {} if removed is None else state
            for start in removed or []:
                del state[start]
            state.update({line[0]: line for line in added})
            assert len(state) == count
    assert len(state) > 20 and all(line[7] for line in state.values())


def test_the_header_names_the_program(tmp_path: Path) -> None:
    """Release and command are known, faults are not."""
    header = _reader(tmp_path).header
    assert (header.format, header.release, header.faults) == ("maprec", "6.18.44", "none")
    assert header.note == "the program: prog arg"


def test_registers_become_the_calls_own_arguments(tmp_path: Path) -> None:
    """Missing registers are zeros and what the call does not take is dropped."""
    (brk, check) = _events(tmp_path, _call("brk", "0", "7ffd", "0", "37f", r="42ad000", **_same()))
    assert (brk.args, brk.result) == ((0,), 0x42AD000)
    assert check.args == ("check", 2, [], [])
    (mremap, _) = _events(tmp_path, _call("mremap", "1000", "1000", "2000", e=14, r=None, **_same()))
    assert (mremap.args, mremap.result, mremap.errno) == ((0x1000, 0x1000, 0x2000, 0, 0), None, 14)


def test_an_event_has_no_check_where_the_recording_has_no_map(tmp_path: Path) -> None:
    """Descriptor calls come alone."""
    (unlink,) = _events(tmp_path, _call("unlink", "1", s="/tmp/x"))
    assert (unlink.call, unlink.args) == ("unlink", ("/tmp/x",))


def test_a_mapped_file_is_the_description_that_open_made(tmp_path: Path) -> None:
    """Its path and inode are those that maps shows."""
    line = ["500000", "501000", "r--p", "0", "fe:00", 99, "/usr/lib/real.so", None]
    reader = _reader(
        tmp_path,
        _call("openat", "ffffff9c", "1", "80000", s="/lib/link.so", r="4"),
        _call("mmap", "0", "1000", "1", "2", "4", r="500000", n=3, **{"-": [], "+": [line]}),
        _call("close", "4"),
        _call("mmap", "0", "1000", "1", "2", "4", r=None, e=9, **_same(3)),
    )
    _, opened, mapped, _, closed, failed, _ = reader.events()
    assert opened.args == (-100, "/lib/link.so", 0x80000, None) and opened.file == 1
    assert (mapped.file, closed.file, failed.file) == (1, 1, None)
    info = reader.files[0]
    assert (info.path, info.dev, info.inode, info.readable, info.writable) == (
        "/usr/lib/real.so",
        "fe:00",
        99,
        True,
        False,
    )


def test_fork_gives_the_child_its_parents_map_and_descriptors(tmp_path: Path) -> None:
    """The child's check shows its whole list, and it maps what its parent opened."""
    events = _events(
        tmp_path,
        _call("openat", "ffffff9c", "1", "2", s="/f", r="4"),
        _call("clone", "1200011", r="b", child=11, child_pid=11, child_mm=2, shared=0, **_same()),
        {"pid": 11, "tid": 11, "mm": 2, "sc": "forked", "parent": 10, "parent_mm": 1, **_same()},
        {**_call("mmap", "0", "1000", "1", "1", "4", r=None, e=13, **_same()), "pid": 11, "tid": 11, "mm": 2},
    )
    _, clone, parent, child, mmap, _ = events
    assert (clone.args, clone.result, clone.mm) == ((0x1200011, 2), 11, 1)
    assert (parent.mm, parent.args[2]) == (1, [])
    assert (child.mm, child.pid, child.args[:3]) == (2, 11, ("check", 2, None))
    assert (mmap.mm, mmap.file) == (2, 1)


def test_threads_share_and_the_last_one_takes_the_address_space_along(tmp_path: Path) -> None:
    """`last` marks the exit that ends the mm; the wait status becomes a code or a signal."""
    events = _events(
        tmp_path,
        _call("clone3", "1", "58", s="flags=3d0f00", r="b", child=11, child_pid=10, child_mm=1, shared=1, **_same()),
        {"pid": 10, "tid": 11, "mm": 1, "sc": "exiting", "n": 2},
        {"pid": 10, "tid": 11, "mm": 1, "sc": "exit", "status": 0x300},
        {"pid": 10, "tid": 10, "mm": 1, "sc": "exit", "status": 9},
    )
    clone, _, thread, process = events
    assert clone.args == (0x3D0F00, 1)
    assert (thread.tid, thread.pid, thread.args) == (11, 10, (3, None, 0))
    assert process.args == (None, 9, 1)


def test_vfork_shares_until_exec(tmp_path: Path) -> None:
    """The child's exec leaves the parent's address space behind, alive."""
    events = _events(
        tmp_path,
        _call("vfork", r="b", child=11, child_pid=11, child_mm=1, shared=1, **_same()),
        {**_call("execve", "1", s="/bin/x", n=1, **{"-": [], "+": [TEXT]}), "pid": 11, "tid": 11, "mm": 2},
        _call("brk", "0", r="1", **_same()),
        {"pid": 11, "tid": 11, "mm": 2, "sc": "exit", "status": 0},
    )
    vfork, _, execve, baseline, brk, _, gone = events
    assert vfork.args == (0x4111, 1)
    assert (execve.mm, execve.pid, execve.args) == (1, 11, ("/bin/x", None, 2))
    assert (baseline.mm, baseline.args[0]) == (2, "baseline")
    assert brk.mm == 1 and gone.args == (0, None, 1)


def test_exec_closes_what_is_close_on_exec_and_releases_a_userfaultfd(tmp_path: Path) -> None:
    """A userfaultfd whose last descriptor goes is released, in the address space that it watched."""
    words = "1000 2000 1 0"
    reader = _reader(
        tmp_path,
        _call("userfaultfd", "80000", r="5"),
        _call("ioctl", "5", "c020aa00", "1", s=words, **_same()),
        _call("dup", "5", r="6"),
        _call("close", "6"),
        {**_call("execve", "1", s="/bin/x", n=1, **{"-": [], "+": [TEXT]}), "mm": 2},
    )
    made, register, _, dup, close, execve, release, _ = list(reader.events())[1:]
    assert register.args == (5, "UFFDIO_REGISTER", 0x1000, 0x2000, 1, None)
    assert made.file == register.file == dup.file == close.file == release.file == 1
    assert (execve.call, release.call, release.mm) == ("execve", "release", 1)
    assert reader.files[0].kind == "uffd"


def test_the_growth_of_a_stack_is_an_event(tmp_path: Path) -> None:
    """One stack that starts lower than before: stack_grow, then a check."""
    grown = ["7fe0000", *STACK[1:]]
    record = {"pid": 10, "mm": 1, "sc": "async", "n": 2, "-": ["7ff0000"], "+": [grown]}
    grow, check = _events(tmp_path, record)
    assert (grow.call, grow.args) == ("stack_grow", (0x7FE0000,))
    assert check.args[:3] == ("check", 2, [0x7FF0000])


@pytest.mark.parametrize(
    ("removed", "added"),
    [
        (["7ff0000"], [["7ff1000", *STACK[1:]]]),
        (["7ff0000"], [["7fe0000", *STACK[1:2], "rwxp", *STACK[3:]]]),
        (["400000"], [["3ff000", *TEXT[1:]]]),
    ],
    ids=["shrunk", "other permissions", "no stack"],
)
def test_any_other_change_without_a_call_is_marked(tmp_path: Path, removed: list[str], added: list[Any]) -> None:
    """A maps event of kind async shows what changed."""
    record = {"pid": 10, "mm": 1, "sc": "async", "n": 2, "-": removed, "+": added}
    (event,) = _events(tmp_path, record)
    assert (event.call, event.args[0]) == ("maps", "async")


def test_flags_fill_in_lines_that_are_known(tmp_path: Path) -> None:
    """VmFlags come as a check that replaces lines; those of unknown VMAs are a counted skip."""
    record = {"pid": 10, "mm": 1, "sc": "flags", "flags": [["00400000", "rd ex"], ["500000", "rd"]]}
    reader = _reader(tmp_path, record)
    _, check = reader.events()
    assert check.args[:3] == ("check", 2, [])
    assert [line[:1] + line[7:8] for line in check.args[3]] == [[0x400000, "rd ex"]]
    (skip,) = reader.skips()
    assert (skip.reason, skip.count, skip.source_line) == ("no-such-vma", 1, 3)


def test_shared_memory_has_one_file_however_often_attached(tmp_path: Path) -> None:
    """Its size is that of shmget, or of what the first attachment shows."""
    line = ["600000", "603000", "rw-s", "0", "00:01", 5, "/SYSV00000000 (deleted)", None]
    other = ["700000", *["703000"], *line[2:]]
    reader = _reader(
        tmp_path,
        _call("shmat", "5", r="600000", n=3, **{"-": [], "+": [line]}),
        _call("shmat", "5", r="700000", n=4, **{"-": [], "+": [other]}),
        _call("shmget", "0", "5000", "3b6", r="6"),
        _call("shmat", "6", "0", "0", r=None, e=22, **_same(4)),
    )
    first, _, second, _, _, failed, _ = list(reader.events())[1:]
    assert first.args == second.args == (5, 0, 0, 0x3000) or first.args[3] == second.args[3] == 0x3000
    assert first.file == second.file == 1
    assert (failed.args, failed.file) == ((6, 0, 0, 0x5000), None)
    info = reader.files[0]
    assert (info.kind, info.size, info.path) == ("shm", 0x3000, "/SYSV00000000 (deleted)")


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (_call("brk", "0", **_same(3)), "add up to 2 VMAs, the recording says 3"),
        (_call("brk", "x", **_same()), "invalid literal"),
        ({"pid": 10, "mm": 7, "sc": "async", **_same()}, "7"),
        ({"pid": 10, "tid": 10, "mm": 1, "sc": "exiting", "n": 3}, "says 3"),
        ({"i": 5, **_call("close", "3")}, "number 5 where 1 lines"),
    ],
)
def test_what_does_not_add_up_is_an_error_with_its_line(tmp_path: Path, record: dict[str, Any], what: str) -> None:
    """A damaged recording is refused where it is damaged."""
    with pytest.raises(InputError, match=r"p\.jsonl:3: unexpected record: .*" + what):
        list(_reader(tmp_path, record).events())


def test_a_recording_that_was_cut_off_says_so(tmp_path: Path) -> None:
    """Its events are there and the cut is counted."""
    path = tmp_path / "p.jsonl"
    path.write_bytes(_text(DATA)[:9000])
    reader = MaprecReader(path)
    assert len(list(reader.events())) > 5
    assert [skip.reason for skip in reader.skips()] == ["truncated"]


@pytest.mark.parametrize("head", [{"maprec": 2}, {"maprec": 1}, {**HEAD, "pid": "x"}, {**HEAD, "argv": [1]}])
def test_a_header_that_is_none_is_refused(tmp_path: Path, head: dict[str, Any]) -> None:
    """Another version or a broken header is one clear error."""
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(head) + "\n")
    with pytest.raises(InputError, match=r"p\.jsonl"):
        MaprecReader(path)


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_is_only_ever_an_input_error(tmp_path: Path, seed: int) -> None:
    """Bytes changed at random: events or InputError, nothing else."""
    rng = random.Random(seed)
    data = bytearray(_text(DATA))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.choice(b'{}[]",:0123456789abcdefx\n')
    path = tmp_path / "p.jsonl"
    path.write_bytes(data)
    try:
        assert all(event.seq for event in MaprecReader(path).events())
    except InputError as error:
        assert "p.jsonl" in error.message
