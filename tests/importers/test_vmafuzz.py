"""vmafuzz recordings as events."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmastore.errors import InputError
from vmastore.events import CALLS, Event
from vmastore.importers.vmafuzz import VmafuzzReader

DATA = Path(__file__).parents[1] / "data" / "vmafuzz" / "all-6.1.jsonl.gz"
CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "fuzz"
KERNELS = ("6.1", "6.1-anonname", "6.12", "6.12-anonname", "6.18")


def _records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.open(DATA, "rt")]


def _write(tmp_path: Path, records: list[dict[str, Any]]) -> Path:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _header(**changes: Any) -> dict[str, Any]:
    return {**_records()[0], **changes}


def _op(op: str, args: list[str], **more: Any) -> dict[str, Any]:
    return {"i": 0, "op": op, "a": args, "r": "0", "n": len(_records()[0]["vmas"]), "-": [], "+": [], **more}


def _read_one(tmp_path: Path, record: dict[str, Any]) -> Event:
    """The event of one operation."""
    return list(VmafuzzReader(_write(tmp_path, [_header(), record])).events())[1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_whole_corpus_reads_with_its_sums_verified(kernel: str) -> None:
    """Every recording gives one event and one check an operation, and reaches its end line."""
    if not CORPUS.is_dir():
        pytest.skip("the real-kernel corpus is not there")
    paths = sorted((CORPUS / kernel).glob("*.jsonl.gz"))
    assert len(paths) > 100
    for path in paths:
        reader = VmafuzzReader(path)
        operations, checks = 0, 0
        for seq, event in enumerate(reader.events(), 1):
            assert event.seq == seq
            assert event.file is None or event.file <= len(reader.files)
            assert len(event.args) == len(CALLS[event.call])
            checks += event.call == "maps"
            operations += event.call not in ("maps", "exit")
        assert reader.skips() == []
        # a child that ends at once has a check of its own, beside the baseline and the end's
        assert operations + 2 <= checks


def test_an_operation_is_one_event_and_one_check() -> None:
    """The sample's operations, in order, each followed by a check of the same address space."""
    events = list(VmafuzzReader(DATA).events())
    ops = [record for record in _records()[1:-1] if record.get("who") != "parent"]
    made = [event for event in events if event.call not in ("maps", "exit")]
    assert len(made) == len(ops)
    for event, op in zip(made, ops, strict=True):
        after = events[event.seq]
        assert after.call == "maps" and after.args[0] == "check"
        if op["op"] != "fork":
            assert (after.mm, after.pid) == (event.mm, event.pid)
            assert (event.result, event.errno) == (int(op["r"], 16) if "r" in op else None, op.get("e", 0))


def test_sources_point_into_the_file() -> None:
    """source_line and source_offset find the record in the uncompressed text."""
    text = gzip.decompress(DATA.read_bytes())
    for event in VmafuzzReader(DATA).events():
        assert event.source_line == text[: event.source_offset].count(b"\n") + 1
        assert text[event.source_offset : event.source_offset + 1] == b"{"  # type: ignore[operator,misc]


def test_checks_rebuild_every_state() -> None:
    """Folding the checks' differences over the baseline gives the counts and the last list."""
    state: dict[int, dict[int, list[Any]]] = {}
    for event in VmafuzzReader(DATA).events():
        if event.call != "maps":
            continue
        _, count, removed, added = event.args
        lines = {} if removed is None else state[event.mm]
        for start in removed or []:
            del lines[start]
        lines.update({line[0]: line for line in added})
        state[event.mm] = lines
        assert len(lines) == count
    whole = [line for line in _records()[-1]["vmas"] if line[6] != "[vsyscall]"]
    assert [state[event.mm][start][1] for start in sorted(state[event.mm])] == [int(v[1], 16) for v in whole]


def test_the_header_becomes_configuration() -> None:
    """Limits, features and the start of the heap, with the Debian version string."""
    header = VmafuzzReader(DATA).header
    assert (header.name, header.format, header.faults) == ("all-6.1", "vmafuzz", "recorded")
    assert header.release == "6.1.0-56-cloud-amd64"
    assert header.version is not None and "6.1.192-2" in header.version
    config = header.config
    assert (config["max_map_count"], config["overcommit_memory"], config["mmap_min_addr"]) == (65530, 0, 65536)
    assert (config["thp"], config["shmem_thp"]) == ("always", "never")
    assert (config["anon_name"], config["userfaultfd"], config["mseal"], config["soft_dirty"]) == (
        False,
        True,
        False,
        True,
    )
    assert config["start_brk"] == config["brk0"] == 0x23A6000
    assert config["arena"] == [0x100000000, 0x100018000]


def test_soft_dirty_shows_in_vmflags_where_the_configuration_is_absent(tmp_path: Path) -> None:
    """New recordings carry no kernel configuration."""
    head = _header()
    del head["config"]
    assert VmafuzzReader(_write(tmp_path, [head])).header.config["soft_dirty"] is True
    head["vmas"] = [[*v[:7], "rd"] for v in head["vmas"]]
    assert VmafuzzReader(_write(tmp_path, [head])).header.config["soft_dirty"] is False


def test_descriptors_of_one_description_share_a_file(tmp_path: Path) -> None:
    """dup'd descriptors are one file, a second open is another; the userfaultfds come last."""
    reader = VmafuzzReader(DATA)
    assert [info.kind for info in reader.files] == [
        *("memfd", "memfd", "memfd"),
        *("tmpfs", "tmpfs", "tmpfs", "memfd"),  # file2 is unlinked
        *("zero", "directory", "tmpfs", "uffd", "uffd"),
    ]
    files = []
    for fd in (0x32, 0x33, 0x34, 0x38, 0x3C):
        record = _op("mmap", ["1000", "1000", "1", "1", f"{fd:x}", "0"])
        files.append(_read_one(tmp_path, record).file)
    assert files[0] == files[2] != files[1]
    read_only, write_only = reader.files[files[3] - 1], reader.files[files[4] - 1]  # type: ignore[operator]
    assert (read_only.readable, read_only.writable) == (True, False)
    assert (write_only.readable, write_only.writable) == (False, True)
    assert (read_only.inode, read_only.size) == (202, 131072)


@pytest.mark.parametrize(("size", "kinds"), [(60, {"tmpfs"}), (4096, {"regular"}), (-1, {"regular"})])
def test_the_size_of_a_directory_tells_tmpfs_from_a_disk(tmp_path: Path, size: int, kinds: set[str]) -> None:
    """The kernel's answers differ by file system, which the header shows only there."""
    head = _header()
    for entry in head["fds"]:
        if entry["what"] == "tmpdir":
            entry["size"] = size
    reader = VmafuzzReader(_write(tmp_path, [head]))
    assert {info.kind for info in reader.files if info.inode == 202} == kinds


def test_a_path_is_known_once_maps_shows_it() -> None:
    """Files that were mapped have a path and a device, others have none."""
    reader = VmafuzzReader(DATA)
    mapped = {event.file for event in reader.events() if event.call == "mmap" and event.result is not None}
    paths = {reader.files[file - 1].path for file in mapped if file}
    assert paths - {None} <= {
        *("/memfd:a (deleted)", "/memfd:b (deleted)"),
        *("/tmp/vmafuzz.f1", "/tmp/vmafuzz.f2 (deleted)", "/dev/zero"),
    }
    assert "/tmp/vmafuzz.f1" in paths


CALLS_OF_OPS: list[tuple[dict[str, Any], str, tuple[Any, ...]]] = [
    (_op("mmap", ["0", "1000", "3", "22", "ffffffffffffffff", "0"]), "mmap", (0, 4096, 3, 0x22, -1, 0)),
    (_op("mmap", ["0", "1000", "3", "2", "fffffffe", "0"]), "mmap", (0, 4096, 3, 2, -1, 0)),
    (
        _op("pkey_mprotect", ["1000", "ffffffffffffffff", "0", "ffffffffffffffff"]),
        "pkey_mprotect",
        (0x1000, 0xFFFFFFFFFFFFFFFF, 0, -1),
    ),
    (_op("mbind", ["1000", "1000", "2", "1", "8", "0"]), "mbind", (0x1000, 0x1000, 2, 1, 8, 0)),
    (_op("mbind", ["1000", "1000", "2", "0", "8", "0"]), "mbind", (0x1000, 0x1000, 2, 0, 8, 0)),
    (_op("mbind", ["1000", "1000", "0", "0", "0", "0"]), "mbind", (0x1000, 0x1000, 0, None, 0, 0)),
    (_op("anon_name", ["1000", "2000", "3"], s="beta"), "prctl", (0x53564D41, 0, 0x1000, 0x2000, 0, "beta")),
    (_op("anon_name", ["1000", "2000", "0"], s=None), "prctl", (0x53564D41, 0, 0x1000, 0x2000, 0, None)),
    (
        _op("uffd_register", ["46", "1000", "2000", "1"]),
        "ioctl",
        (70, "UFFDIO_REGISTER", 0x1000, 0x2000, 1, None),
    ),
    (
        _op("uffd_unregister", ["47", "1000", "2000"]),
        "ioctl",
        (71, "UFFDIO_UNREGISTER", 0x1000, 0x2000, None, None),
    ),
    (_op("touch", ["1000", "2000", "1"], t=".S", r="1"), "fault", (0x1000, 0x2000, "w", ".S", "user")),
    (_op("touch", ["1000", "1800", "0"], t="."), "fault", (0x1000, 0x1000, "r", ".", "user")),
    (_op("brk", ["23a4903"], r="23a9000"), "brk", (0x23A4903,)),
    (_op("munlockall", []), "munlockall", ()),
]


@pytest.mark.parametrize(("record", "call", "args"), CALLS_OF_OPS, ids=[str(row[2])[:50] for row in CALLS_OF_OPS])
def test_operations_have_the_kernels_arguments(
    tmp_path: Path, record: dict[str, Any], call: str, args: tuple[Any, ...]
) -> None:
    """Each kind of operation is the event of the call behind it."""
    event = _read_one(tmp_path, record)
    assert (event.call, event.args) == (call, args)


def test_userfaultfds_are_files_only_where_the_kernel_has_them(tmp_path: Path) -> None:
    """An ioctl names its userfaultfd; without one, or on another descriptor, no file."""
    register = _op("uffd_register", ["46", "1000", "2000", "1"])
    assert _read_one(tmp_path, register).file == len(VmafuzzReader(DATA).files) - 1
    assert _read_one(tmp_path, {**register, "a": ["48", *register["a"][1:]]}).file is None
    head = _header(has={**_header()["has"], "userfaultfd": 0})
    reader = VmafuzzReader(_write(tmp_path, [head, register]))
    assert list(reader.events())[1].file is None
    assert all(info.kind != "uffd" for info in reader.files)


@pytest.mark.parametrize(("fd", "flags"), [("c8", "1"), ("32", "21")])
def test_an_mmap_of_no_known_descriptor_names_no_file(tmp_path: Path, fd: str, flags: str) -> None:
    """A descriptor that is not open, or one that MAP_ANONYMOUS ignores."""
    assert _read_one(tmp_path, _op("mmap", ["0", "1000", "1", flags, fd, "0"])).file is None


def _fork(who: str, cont: str, **more: Any) -> dict[str, Any]:
    record = _op("fork", ["1", "1" if cont == "child" else "0"], who=who, cont=cont, pid=0, child=9, **more)
    return {**record, "r": "9"}


def test_a_child_that_ends_at_once_leaves_its_parent_at_work(tmp_path: Path) -> None:
    """clone, the child's whole list, its exit, then the parent's check."""
    path = _write(tmp_path, [_header(pid=4), _fork("child", "parent"), _fork("parent", "parent")])
    _, clone, child, gone, parent = VmafuzzReader(path).events()
    assert (clone.call, clone.args, clone.result, clone.mm, clone.pid) == ("clone", (17, 2), 9, 1, 4)
    assert (child.call, child.mm, child.pid) == ("maps", 2, 9) and child.args[2] is None
    assert child.args[1] == len(child.args[3])
    assert (gone.call, gone.args, gone.mm, gone.pid) == ("exit", (0, None, 1), 2, 9)
    assert (parent.call, parent.mm, parent.pid, parent.args[2]) == ("maps", 1, 4, [])


def test_a_child_that_goes_on_has_its_own_address_space_and_userfaultfds(tmp_path: Path) -> None:
    """What follows is the child's, and the same descriptor numbers are other userfaultfds."""
    register = {**_op("uffd_register", ["46", "1000", "2000", "1"])}
    reader = VmafuzzReader(_write(tmp_path, [_header(pid=4), register, _fork("child", "child"), register]))
    _, before, _, clone, check, after, last = reader.events()
    assert (before.mm, clone.mm, check.mm, after.mm, last.mm) == (1, 1, 2, 2, 2)
    assert (before.pid, after.pid) == (4, 9)
    assert before.file != after.file and after.file is not None
    assert reader.files[after.file - 1].kind == "uffd"


def test_a_fork_that_fails_is_one_event(tmp_path: Path) -> None:
    """The process that goes on is the one that asked."""
    record = _fork("parent", "child")
    del record["r"]
    record.update(e=12, child=-12)
    _, fork, check = VmafuzzReader(_write(tmp_path, [_header(), record])).events()
    assert (fork.args, fork.result, fork.errno, check.mm) == ((17, None), None, 12, 1)


def test_vsyscall_is_no_vma(tmp_path: Path) -> None:
    """Its line is in the recording's counts and in no event."""
    gate = ["ffffffffff600000", "ffffffffff601000", "--xp", "0", "00:00", 0, "[vsyscall]", "ex"]
    head = _header()
    head["vmas"] = [*head["vmas"], gate]
    record = _op("munmap", ["1000", "1000"])
    record["n"] += 1
    end = {"end": 1, "pid": 1, "vmas": head["vmas"]}
    maps = [e for e in VmafuzzReader(_write(tmp_path, [head, record, end])).events() if e.call == "maps"]
    assert [event.args[1] for event in maps] == [len(head["vmas"]) - 1] * 3
    assert all(line[6] != "[vsyscall]" for event in maps for line in event.args[3])


def test_the_baseline_knows_that_the_recorder_has_written_its_own_memory() -> None:
    """Writable private mappings of the recorder are faulted in, others are not known."""
    baseline = next(iter(VmafuzzReader(DATA).events()))
    assert baseline.args[0] == "baseline"
    assert {(line[2], line[8]) for line in baseline.args[3]} == {
        ("rw-p", True),
        ("r--p", None),
        ("r-xp", None),
    }


Damage = Callable[[list[dict[str, Any]]], None]


def _wrong_count(records: list[dict[str, Any]]) -> None:
    records[5]["n"] += 1


def _wrong_removal(records: list[dict[str, Any]]) -> None:
    records[5]["-"] = ["dead000"]


def _wrong_last_list(records: list[dict[str, Any]]) -> None:
    records[-1]["vmas"][0][1] = "401001"


def _wrong_end(records: list[dict[str, Any]]) -> None:
    records[-1]["end"] += 1


def _line_after_end(records: list[dict[str, Any]]) -> None:
    records.append(records[-1])


def _no_arguments(records: list[dict[str, Any]]) -> None:
    del records[5]["a"]


@pytest.mark.parametrize(
    "damage", [_wrong_count, _wrong_removal, _wrong_last_list, _wrong_end, _line_after_end, _no_arguments]
)
def test_what_does_not_add_up_is_an_error_with_its_line(tmp_path: Path, damage: Damage) -> None:
    """A damaged recording is refused where it is damaged."""
    records = _records()
    damage(records)
    reader = VmafuzzReader(_write(tmp_path, records))
    with pytest.raises(InputError, match=r"x\.jsonl:\d+: "):
        list(reader.events())


def test_a_recording_that_was_cut_off_says_so(tmp_path: Path) -> None:
    """Its events are there and the cut is counted."""
    text = gzip.decompress(DATA.read_bytes())
    path = tmp_path / "x.jsonl"
    path.write_bytes(text[: len(text) // 2])
    reader = VmafuzzReader(path)
    assert len(list(reader.events())) > 100
    (skip,) = reader.skips()
    assert (skip.reason, skip.source_line) == ("truncated", path.read_bytes().count(b"\n") + 1)


@pytest.mark.parametrize("change", [{"vmafuzz": 2}, {"fds": None}, {"has": {}}, {"pid": "x"}, {"vmas": [[1]]}])
def test_a_header_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Another version or a broken header is one clear error."""
    with pytest.raises(InputError):
        VmafuzzReader(_write(tmp_path, [_header(**change)]))


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_is_only_ever_an_input_error(tmp_path: Path, seed: int) -> None:
    """Bytes changed at random: events or InputError, nothing else."""
    rng = random.Random(seed)
    data = bytearray(gzip.decompress(DATA.read_bytes())[:40000])
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.choice(b'{}[]",:0123456789abcdefx\n')
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    outcome = Counter[str]()
    try:
        for event in VmafuzzReader(path).events():
            outcome[event.call] += 1
    except InputError as error:
        assert "x.jsonl" in error.message
