"""/proc/PID/maps and smaps, saved and live."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from pathlib import Path

import pytest

from vmastore.errors import InputError
from vmastore.importers.maps_file import MapsReader, parse_maps, process_of, read_maps, read_process

DATA = Path(__file__).parents[1] / "data" / "maps"
LINE = "00400000-00401000 rw-p 00001000 fe:00 26                                 /bin/with blank"


def test_maps_and_smaps_of_a_process_show_the_same_vmas() -> None:
    """smaps adds VmFlags and whether pages were written."""
    maps, smaps = read_maps(DATA / "cat.maps"), read_maps(DATA / "cat.smaps")
    assert [line[:7] for line in maps] == [line[:7] for line in smaps]
    assert all(line.vm_flags is None and line.written is None for line in maps)
    assert all(line.vm_flags is not None and line.written is not None for line in smaps)
    assert {line.name: line.written for line in smaps}["[stack]"] is True
    assert {line.name: line.written for line in smaps}["[vdso]"] is False


def test_vsyscall_is_dropped_unless_asked_for() -> None:
    """No VMA stands behind its line."""
    assert read_maps(DATA / "cat.maps")[-1].name == "[stack]"
    assert read_maps(DATA / "cat.maps", vsyscall=True)[-1].name == "[vsyscall]"


@pytest.mark.parametrize(
    ("perms", "details", "written"),
    [
        ("rw-p", ["Anonymous:             0 kB", "Swap:                  0 kB"], False),
        ("rw-p", ["Anonymous:             4 kB", "Swap:                  0 kB"], True),
        ("rw-p", ["Anonymous:             0 kB", "Swap:                  8 kB"], True),
        ("rw-s", ["Anonymous:             0 kB", "Swap:                  8 kB"], False),
        ("rw-p", ["Rss:                   4 kB"], None),
    ],
)
def test_anonymous_pages_in_memory_or_swap_were_written(perms: str, details: list[str], written: bool | None) -> None:
    """Swap of a shared mapping is the file's, not the VMA's."""
    (vma,) = parse_maps([LINE.replace("rw-p", perms), *details])
    assert vma.written is written


def test_names_keep_their_blanks() -> None:
    """A path may hold anything but a newline."""
    (vma,) = parse_maps([LINE + "\n"])
    assert (vma.name, vma.offset, vma.dev, vma.inode) == ("/bin/with blank", 0x1000, "fe:00", 26)


def test_a_running_process_is_read() -> None:
    """pid:N is the process's smaps, with a mapping made just now in it."""
    page = mmap.PAGESIZE
    area = mmap.mmap(-1, 7 * page)
    area[page] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    (vma,) = [vma for vma in read_maps(f"pid:{os.getpid()}") if vma.start <= address < vma.end]
    assert vma.perms[:2] == "rw" and vma.vm_flags is not None and vma.written is not None
    reader = MapsReader(f"pid:{os.getpid()}")
    (event,) = reader.events()
    assert (event.call, event.args[0], event.pid) == ("maps", "baseline", os.getpid())
    assert event.args[1] == len(event.args[3]) > 5
    assert reader.header.release == os.uname().release


def test_a_process_that_is_not_there_is_named() -> None:
    """No such process, and one without an address space."""
    with pytest.raises(InputError, match="pid:99999999: there is no such process"):
        read_process(99999999)
    kthreadd = Path("/proc/2/comm")
    if kthreadd.exists() and kthreadd.read_text() == "kthreadd\n":
        with pytest.raises(InputError, match="pid:2: "):
            read_process(2)


@pytest.mark.parametrize(
    ("target", "pid"), [("pid:12", 12), ("pid:", None), ("pid:x", None), ("12", None), ("x/pid:1", None)]
)
def test_what_names_a_process(target: str, pid: int | None) -> None:
    """Only pid: and a number."""
    assert process_of(target) == pid


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([LINE, "garbage here"], "f:2: not a line"),
        (["Anonymous: 4 kB"], "f:1: not a line"),
        ([LINE, LINE], "f:2: the range"),
        ([LINE.replace("00401000", "00400000")], "f:1: the range"),
        (["00400000-7ff00000 ---p 00000000 00:00 0                    [rollup]"], "smaps_rollup"),
    ],
)
def test_what_is_not_a_map_is_an_error_with_its_line(lines: list[str], what: str) -> None:
    """Two maps in one file overlap, a rollup is no list."""
    with pytest.raises(InputError, match=what):
        parse_maps(lines, "f")


def test_an_empty_file_holds_no_vma(tmp_path: Path) -> None:
    """It is refused by name."""
    path = tmp_path / "empty.maps"
    path.write_text("")
    with pytest.raises(InputError, match=r"empty\.maps: holds no VMA"):
        read_maps(path)


def test_a_saved_file_is_a_trace_of_one_event() -> None:
    """Its state stands for a trace wherever one state is enough."""
    reader = MapsReader(DATA / "cat.smaps")
    (event,) = reader.events()
    assert (event.seq, event.mm, event.call, event.args[0], event.args[2]) == (1, 1, "maps", "baseline", None)
    assert event.args[1] == len(event.args[3]) == len(read_maps(DATA / "cat.smaps"))
    assert (reader.header.name, reader.header.format, reader.files, reader.skips()) == ("cat.smaps", "maps", [], [])


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_is_only_ever_an_input_error(seed: int) -> None:
    """Bytes changed at random: VMAs or InputError, nothing else."""
    rng = random.Random(seed)
    data = bytearray((DATA / "cat.smaps").read_bytes())
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(1, 256)
    try:
        assert parse_maps(data.decode("utf-8", "surrogateescape").split("\n"), "f")
    except InputError as error:
        assert error.message.startswith("f:")
