"""What exec maps, by ELF headers: placed by the loader's mprotect, or left out and said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from elf_files import LOAD, RELRO, elf, write_pie

from vmastore.events import Event
from vmastore.importers.beside import Besides, Started
from vmastore.importers.follow import Followed
from vmastore.importers.found import FoundReader
from vmastore.importers.images import FOUND, Images
from vmastore.importers.sources import Source
from vmastore.importers.strace import StraceReader
from vmastore.mm.rules import resolve
from vmastore.replay.verify import Verifier
from vmastore.replay.world import World

pytest.importorskip("elftools", reason="pyelftools is not installed")


def _programs(folder: Path) -> Path:
    """A program and its loader, both position-independent, with RELRO of one page."""
    loader = folder / "ld.so.1"
    loader.write_bytes(elf(3, [(LOAD, 5, 0, 0, 0x1000, 0x1000), (LOAD, 6, 0x1000, 0x1800, 0x900, 0x900),
                               (RELRO, 4, 0x1000, 0x1800, 0x900, 0x900)]))  # fmt: skip
    program = write_pie(folder / "prog")
    data = program.read_bytes()
    program.write_bytes(data[:0x300] + str(loader).encode() + b"\0")
    where = data.find(b"\x09\0\0\0\0\0\0\0\x09")  # the length of the loader's path, twice
    size = (len(str(loader)) + 1).to_bytes(8, "little")
    patched = bytearray(program.read_bytes())
    patched[where : where + 16] = size * 2
    program.write_bytes(bytes(patched))
    return program


LOG = """\
7 execve("{path}", ["prog"], 0x7ffd0 /* 9 vars */) = 0
7 brk(NULL) = 0x555555570000
7 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0000100000
7 mprotect(0x7f0000101000, 4096, PROT_READ) = 0
7 mprotect(0x55555555c000, 4096, PROT_READ) = 0
7 mprotect(0x7f0000201000, 4096, PROT_READ) = 0
7 mprotect(0x55555555d000, 4096, PROT_READ|PROT_WRITE|PROT_EXEC) = 0
7 +++ exited with 0 +++
"""


def _read(tmp_path: Path, text: str, *programs: str) -> tuple[Besides, list[Event]]:
    log = tmp_path / "x.log"
    log.write_text(text)
    reader = Besides(StraceReader([log]), [Images(programs)])
    return reader, list(reader.events())


def test_an_image_is_placed_by_its_relro(tmp_path: Path) -> None:
    """The program in its region, the loader outside of what calls mapped; the event stands behind the exec, and
    the calls on the image are calls on what is there."""
    program = _programs(tmp_path)
    reader, events = _read(tmp_path, LOG.format(path=program), FOUND)
    image = events[1]
    assert (events[0].call, image.call, image.args[0], image.mm) == ("execve", "maps", "image", 1)
    shown = [(v[0], v[1], v[2], v[6]) for v in image.args[3]]
    ld = str(tmp_path / "ld.so.1")
    assert shown == [
        (0x555555554000, 0x555555556000, "r--p", str(program)),
        (0x555555556000, 0x55555555A000, "r-xp", str(program)),
        (0x55555555C000, 0x55555555E000, "rw-p", str(program)),
        (0x55555555E000, 0x55555555F000, "rw-p", ""),
        (0x7F0000200000, 0x7F0000201000, "r-xp", ld),
        (0x7F0000201000, 0x7F0000203000, "rw-p", ld),
    ]
    assert "mapped" not in (reader.header.note or "")
    world = World(reader.header, reader.files, resolve("6.18"))
    report = Verifier(world).run(events[:-1])
    assert (report.compared, report.errno_mismatches) == (0, 0)
    assert world.env.inferred == len(shown)
    assert [v.vm_start for v in world.mms[1].vmas() if v.vm_start < 0x7F0000000000] == [
        0x555555554000,
        0x555555556000,
        0x55555555C000,
        0x55555555D000,
        0x55555555E000,
    ]


def test_a_named_program_stands_for_the_first_exec(tmp_path: Path) -> None:
    """--exec PATH where the log's path is another: the file's headers, the log's name where the names agree."""
    program = _programs(tmp_path)
    _, events = _read(tmp_path, LOG.format(path="/elsewhere/prog"), str(program))
    assert events[1].args[3][0][6] == "/elsewhere/prog"
    _, events = _read(tmp_path, LOG.format(path="/elsewhere/other"), str(program))
    assert events[1].args[3][0][6] == str(program)


def test_a_relative_path_is_of_the_named_program(tmp_path: Path) -> None:
    """./prog of the log is shown as the file that --exec names, wherever the import runs."""
    program = _programs(tmp_path)
    _, events = _read(tmp_path, LOG.format(path="./prog"), str(program))
    (image,) = [event.args[3] for event in events if event.call == "maps"]
    assert str(program.resolve()) in {line[6] for line in image}


@pytest.mark.parametrize("link", ["/proc/self/exe", "/proc/7/exe"])
def test_a_program_that_executes_itself_again(tmp_path: Path, link: str) -> None:
    """The link in /proc is the image that runs, not what it is on this machine."""
    program = _programs(tmp_path)
    first = LOG.format(path=program)
    again = first.splitlines(keepends=True)
    log = "".join(again[:-1]) + f'7 execve("{link}", ["prog"], 0x7ffd0) = 0\n' + "".join(again[1:])
    for programs in ([FOUND], [str(program)]):
        _, events = _read(tmp_path, log, *programs)
        images = [event.args[3] for event in events if event.call == "maps"]
        assert len(images) == 2 and images[0] == images[1]


def test_what_cannot_be_placed_is_left_out_and_said(tmp_path: Path) -> None:
    """No mprotect: no image, a note, all events in their order. A program that is not here: the same."""
    program = _programs(tmp_path)
    text = "".join(line for line in LOG.splitlines(True) if "mprotect" not in line)
    reader, events = _read(tmp_path, text.format(path=program) * 2, FOUND)
    assert [event.call for event in events] == ["execve", "brk", "mmap", "exit"] * 2
    assert "does not show where" in (reader.header.note or "")
    reader, events = _read(tmp_path, LOG.format(path="/not/here"), FOUND)
    assert "no such executable here: /not/here" in (reader.header.note or "")
    assert [event.call for event in events if event.call == "maps"] == []


def test_an_exec_in_an_exec_waits_for_its_own(tmp_path: Path) -> None:
    """Two processes that start together: each image behind its own exec."""
    program = _programs(tmp_path)
    lines = LOG.format(path=program).splitlines(True)
    other = [line.replace("7 ", "8 ", 1).replace("0x5555", "0x5600") for line in lines]
    mixed = [line for pair in zip(lines, other, strict=True) for line in pair]
    _, events = _read(tmp_path, "7 fork() = 8\n" + "".join(mixed), FOUND)
    images = [event for event in events if event.call == "maps"]
    assert [(event.pid, event.args[3][0][0]) for event in images] == [(7, 0x555555554000), (8, 0x560055554000)]
    for image in images:
        assert events[image.seq - 2].call == "execve" and events[image.seq - 2].pid == image.pid


def test_a_program_is_taken_by_default_where_the_log_bears_it_out(tmp_path: Path) -> None:
    """RELRO where its headers have it, the heap behind its data: its image, numbered between the log's events."""
    program = _programs(tmp_path)
    log = tmp_path / "x.log"
    log.write_text(LOG.format(path=program))
    reader = Started(FoundReader(StraceReader([log])))
    events = list(reader.events())
    assert [event.call for event in events[:3]] == ["execve", "maps", "brk"]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    _, same = _read(tmp_path, LOG.format(path=program), FOUND)
    assert events == same


@pytest.mark.parametrize("piece", [1, 2, 5])
def test_numbers_where_stacks_follow(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stack frames an event is held back until the next one comes: its number counts what was put in before it,
    wherever the log's lines are cut into batches."""
    program = _programs(tmp_path)
    log = tmp_path / "x.log"
    text = "".join(f"{line} > /lib/libc.so.6(call+0x1) [0x{n:x}]\n"
                   for n, line in enumerate(LOG.format(path=program).splitlines(True) * 2))  # fmt: skip
    log.write_text(text)
    batches = Source.batches

    def small(source: Source, chunk: int = 0) -> Iterator[list[bytes]]:
        for lines in batches(source):
            yield from (lines[at : at + piece] for at in range(0, len(lines), piece))

    monkeypatch.setattr(Source, "batches", small)
    events = list(FoundReader(StraceReader([log])).events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.call for event in events].count("maps") == 2
    assert [event.site[-5:] for event in events if event.site] == [f"[0x{n:x}]"[-5:] for n in range(16)]


def _later(text: str) -> str:
    """The log with times of the year 2001, before any file here was written."""
    return "".join(f"7 1000000000.{n:06} {line[2:]}" for n, line in enumerate(text.splitlines(True)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace("0x555555570000", "0x55555555e000"), "heap does not begin"),  # below its bss's end
        (lambda text: text.replace("0x555555570000", "0x5555a0000000"), "heap does not begin"),  # too far above
        (_later, "written after it ran"),
    ],
)
def test_what_the_log_refutes_is_dropped_and_said(tmp_path: Path, change: Callable[[str], str], why: str) -> None:
    """A program at its path here that cannot be the one that ran: no image, the note says why; --exec takes it."""
    program = _programs(tmp_path)
    text = change(LOG.format(path=program))
    reader, events = _read(tmp_path, text, FOUND)
    assert [event for event in events if event.call == "maps"] == []
    assert why in (reader.header.note or "") and str(program) in (reader.header.note or "")
    _, named = _read(tmp_path, text, str(program))
    assert [event.args[0] for event in named if event.call == "maps"] == ["image"]


def test_another_length_of_its_relro_is_another_program(tmp_path: Path) -> None:
    """Nothing in the log is where the headers say: the program is not taken."""
    program = _programs(tmp_path)
    text = LOG.format(path=program).replace("0x55555555c000, 4096", "0x55555555c000, 8192")
    _, events = _read(tmp_path, text, FOUND)
    assert [event for event in events if event.call == "maps"] == []


def test_a_c_library_of_another_length_is_of_another_machine(tmp_path: Path) -> None:
    """The loader maps its C library whole first: one of another length was built elsewhere, and so was the loader."""
    program = _programs(tmp_path)
    (tmp_path / "libc.so.6").write_bytes(elf(3, [(LOAD, 5, 0, 0, 0x1000, 0x1000)]))
    mapped = "7 mmap(NULL, {}, PROT_READ, MAP_PRIVATE|MAP_DENYWRITE, 3, 0) = 0x7f0000300000\n"
    first, rest = LOG.format(path=program).replace("8192", "4096", 1).split("\n", 1)
    for length, images in ((0x1000, 1), (0x3000, 0)):
        text = f"{first}\n{mapped.format(length)}{rest.replace('4096, PROT_READ, MAP', '12288, PROT_READ, MAP')}"
        _, events = _read(tmp_path, text, FOUND)
        assert len([event for event in events if event.call == "maps"]) == images, length


@pytest.mark.parametrize("known", [True, False])
def test_what_may_lie_below_the_heap(tmp_path: Path, known: bool) -> None:
    """Where the image is not known, what mprotect decides at the heap's first page hangs on what may end there."""
    program = _programs(tmp_path)
    text = LOG.format(path=program).replace("0x555555570000", "0x55555555f000").splitlines(True)
    text[-1:-1] = [
        "7 brk(0x555555561000) = 0x555555561000\n",
        "7 mprotect(0x55555555f000, 4096, PROT_READ) = 0\n",
        "7 mprotect(0x555555560000, 4096, PROT_READ) = 0\n",
    ]
    reader, events = _read(tmp_path, "".join(text), *([FOUND] if known else []))
    world = World(reader.header._replace(faults="recorded"), reader.files, resolve("6.18"))
    decided = {(e.call, e.args[0]): world.apply(e).decisions for e in events if e.call != "exit"}
    heap = 0x55555555F000
    assert [d.certain for d in decided["brk", heap + 0x2000]] == [True]  # it never looks below
    assert all(d.certain is known for d in decided["mprotect", heap])
    assert all(d.certain for d in decided["mprotect", heap + 0x1000] if d.vm_start != heap)


def test_a_path_that_is_no_file_here_is_not_read(tmp_path: Path) -> None:
    """A FIFO (which would block), a folder, a name with a zero byte, a script that a FIFO runs: as if absent."""
    fifo, script = tmp_path / "fifo", tmp_path / "script"
    os.mkfifo(fifo)
    script.write_bytes(b"#!" + bytes(fifo) + b"\n")
    for path in (str(fifo), str(tmp_path), f"{tmp_path}/a\\0b", "/dev/stdin", str(script)):
        reader, events = _read(tmp_path, LOG.format(path=path), FOUND)
        assert [event.call for event in events if event.call == "maps"] == []
        assert "no such executable here" in (reader.header.note or "")


def _relative(tmp_path: Path, text: str, logs: list[str] | None = None) -> tuple[str, list[Event]]:
    """The note and the images of a log that is read by default."""
    log = tmp_path / "logs" / "x.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text(text)
    reader = FoundReader(StraceReader([log]), logs=[str(log)] if logs is None else logs)
    events = list(reader.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return reader.header.note or "", [event for event in events if event.call == "maps"]


OPENED = '7 openat(AT_FDCWD<{folder}>, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3</etc/ld.so.cache>\n'


def _with(front: str, path: str, after: str = "") -> str:
    first, rest = LOG.format(path=path).split("\n", 1)
    return f"{front}{first}\n{after}{rest}"


@pytest.mark.parametrize(
    ("front", "path", "after"),
    [
        ("", "./prog", OPENED),  # what the loader opens shows it
        ('7 chdir("{folder}") = 0\n', "prog", ""),
        ('7 chdir("/") = 0\n7 chdir("/nowhere") = -1 ENOENT (No such file or directory)\n7 chdir(".{folder}") = 0\n',
         "./prog", ""),
        ("7 fchdir(5<{folder}>) = 0\n", "./prog", ""),
        ('7 openat(AT_FDCWD, "{folder}", O_RDONLY|O_DIRECTORY) = 5\n7 fchdir(5) = 0\n', "./prog", ""),
        ('9 chdir("{folder}") = 0\n9 vfork() = 7\n9 chdir("/") = 0\n', "./prog", ""),  # the child's is its own
        ('7 chdir("{folder}/logs") = 0\n', "../prog", ""),
        (OPENED + '7 chdir("/") = 0\n' + OPENED, "./prog", ""),  # shown again
    ],
)  # fmt: skip
def test_a_relative_path_begins_at_the_folder_that_the_log_shows(
    tmp_path: Path, front: str, path: str, after: str
) -> None:
    """By chdir, fchdir or what -y adds to AT_FDCWD, before the exec or behind it."""
    program = _programs(tmp_path)
    text = _with(front.format(folder=tmp_path), path, after.format(folder=tmp_path))
    note, images = _relative(tmp_path, text, logs=[])
    assert len(images) == 1 and str(program) in {line[6] for line in images[0].args[3]}
    assert "folder" not in note


def test_execveat_begins_at_its_descriptor(tmp_path: Path) -> None:
    """A folder's descriptor, or the program's own (fexecve)."""
    program = _programs(tmp_path)
    for front, call in (
        ("", f'execveat(5<{tmp_path}>, "prog", '),
        ("", f'execveat(5<{program}>, "", '),
        (f'7 open("{tmp_path}", O_RDONLY) = 5\n', 'execveat(5, "prog", '),
        ("", f'execveat(AT_FDCWD<{tmp_path}>, "prog", '),
    ):
        text = front + LOG.format(path="prog").replace('execve("prog", ', call).replace("= 0\n", ", 0) = 0\n", 0)
        _, images = _relative(tmp_path, text.replace("/* 9 vars */)", "/* 9 vars */, 0)"), logs=[])
        assert len(images) == 1 and str(program) in {line[6] for line in images[0].args[3]}, call
    text = LOG.format(path="prog").replace('execve("prog", ', 'execveat(5, "prog", ')
    assert _relative(tmp_path, text.replace("/* 9 vars */)", "/* 9 vars */, 0)"))[1] == []  # 5 may be anything


@pytest.mark.parametrize("changed", ['7 chdir("elsewhere") = 0\n', "7 fchdir(5) = 0\n"])
def test_a_folder_that_is_not_shown_is_not_guessed(
    tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that went where the log does not say: neither before its exec nor after it, until -y shows it."""
    program = _borne_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert _relative(tmp_path, _with(changed, "./prog", MAPPED))[1] == []
    assert _relative(tmp_path, _with("", "./prog", changed + OPENED.format(folder="/") + MAPPED))[1] != []  # guessed
    _, images = _relative(tmp_path, _with(changed, "./prog", OPENED.format(folder=tmp_path) + MAPPED))
    assert str(program) in {line[6] for line in images[0].args[3]}


MAPPED = "7 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_DENYWRITE, 3, 0) = 0x7f0000300000\n"


def _borne_out(folder: Path) -> Path:
    """A program with a C library beside its loader, of the length that MAPPED shows."""
    folder.mkdir(exist_ok=True)
    (folder / "libc.so.6").write_bytes(elf(3, [(LOAD, 5, 0, 0, 0x1000, 0x1000)]))
    return _programs(folder)


def test_beside_the_log_or_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no folder is shown: a program there, if heap and C library bear it out, and the note says so."""
    text = _with("", "./prog", MAPPED)
    beside, here = tmp_path / "logs", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for folder in (beside, here):
        program = _borne_out(folder)
        note, images = _relative(tmp_path, text)
        assert [str(program) in {line[6] for line in image.args[3]} for image in images] == [True]
        assert "does not show the folder" in note and str(program) in note
        program.unlink()
    program = _borne_out(here)
    for less in (_with("", "./prog"), text.replace("brk(NULL) = 0x555555570000", "getpid() = 7")):
        note, images = _relative(tmp_path, less)
        assert images == [] and str(program) in note


def test_two_that_may_have_run_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One beside the log, another here, both borne out: neither; a link to the same file is one, and so is the one
    that the log does not refute."""
    text = _with("", "./prog", MAPPED)
    one, here = _borne_out(tmp_path / "logs"), tmp_path / "here"
    other = _borne_out(here)
    monkeypatch.chdir(here)
    note, images = _relative(tmp_path, text)
    assert images == [] and "several programs" in note and str(one) in note and str(other) in note
    (here / "libc.so.6").write_bytes(elf(3, [(LOAD, 5, 0, 0, 0x5000, 0x5000)]))
    note, images = _relative(tmp_path, text)
    assert str(one) in {line[6] for line in images[0].args[3]} and "of the length" in note
    other.unlink()
    other.hardlink_to(one)
    assert len(_relative(tmp_path, text)[1]) == 1


def test_a_relative_program_that_executes_itself_again(tmp_path: Path) -> None:
    """/proc/self/exe behind a relative path: that program, even before it was placed."""
    _programs(tmp_path)
    lines = _with("", "./prog", OPENED.format(folder=tmp_path)).splitlines(keepends=True)
    again = ['7 execve("/proc/self/exe", ["prog"], 0x7ffd0) = 0\n', *lines[1:]]
    for first in (lines[:-1], lines[:-2]):
        assert len(_relative(tmp_path, "".join([*first, *again]), logs=[])[1]) == 2


def test_a_followed_log_is_given_the_same_images(tmp_path: Path) -> None:
    """Line by line as it grows: the events of the whole log, images and numbers included."""
    program = _programs(tmp_path)
    for text in (LOG.format(path=program), _with("", "./prog", OPENED.format(folder=tmp_path))):
        log = tmp_path / "x.log"
        log.write_text(text)
        whole = list(FoundReader(StraceReader([log])).events())
        assert [event.call for event in whole].count("maps") == 1
        log.write_text("")
        lines = iter(text.splitlines(keepends=True))

        def grow(log: Path = log, lines: Iterator[str] = lines) -> bool:
            line = next(lines, None)
            if line:
                with log.open("a") as file:
                    file.write(line)
            return line is not None

        assert list(FoundReader(Followed(log, grow)).events()) == whole
