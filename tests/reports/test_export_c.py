"""Generated programs compile without a warning and pass on the running kernel, where its rules are known."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "replay"))
from traces import BASE, NONE, PAGE, RO, anon, protect, trace, unmap, write

from vmastore.conform.calls import Chooser
from vmastore.errors import InputError
from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.rules import PRESETS, RuleSet, parse_release, preset, resolve
from vmastore.replay.isolate import isolate
from vmastore.replay.maps import observe
from vmastore.replay.memory import MemoryTrace, answered, numbered
from vmastore.reports.export_c import export_c
from vmastore.reports.export_pytest import export_pytest
from vmastore.reports.export_report import export_report
from vmastore.reports.program import Program, program

GOLDEN = Path(__file__).parent / "golden"
FILES = {
    1: FileInfo(1, "/memfd:a", "memfd", True, True, size=64 * PAGE),
    2: FileInfo(2, "/memfd:a", "memfd", True, False, size=64 * PAGE),
    3: FileInfo(3, "/tmp/a", "regular", True, True, size=64 * PAGE),
    4: FileInfo(4, None, "shm", True, True, size=8 * PAGE),
    9: FileInfo(9, None, "uffd"),
}
START = Event(1, 1, 1, 1, None, "maps", ("baseline", 0, None, []), None, 0)


def mapped(file: int, page: int, pages: int, prot: int, flags: int, offset: int) -> tuple[Any, ...]:
    return "mmap", BASE + page * PAGE, pages * PAGE, prot, flags, file, offset * PAGE


def advise(page: int, pages: int, advice: int) -> tuple[Any, ...]:
    return "madvise", BASE + page * PAGE, pages * PAGE, advice


def move(page: int, old: int, new: int, flags: int, to: int = 0) -> tuple[Any, ...]:
    return "mremap", BASE + page * PAGE, old * PAGE, new * PAGE, flags, BASE + to * PAGE if to else 0


CASES: dict[str, list[tuple[Any, ...]]] = {
    "split-and-merge": [anon(0, 8), protect(2, 2, RO), protect(2, 2, 3), unmap(3, 1), anon(3, 1)],
    "faults": [anon(0, 2), anon(4, 2), write(0), write(4), anon(2, 2), protect(1, 1, NONE), write(1), write(0, 6)],
    "nowhere": [
        anon(0, 4), ("munmap", 0xFFFF987F0003B000, 2 * PAGE), ("mprotect", BASE, (1 << 64) - 4 * PAGE, RO),
        ("mremap", BASE, 4 * PAGE, 4 * PAGE, 3, (1 << 63) + PAGE), mapped(3, 8, 2, 1, 0x12, (1 << 52) - 3),
        mapped(3, 8, 2, 1, 0x12, 4),
    ],
    "missed-merge": [anon(0, 4), protect(0, 2, RO), write(2), protect(0, 2, 3)],
    "mremap": [anon(0, 4), write(1), move(2, 2, 2, 3, 20), move(20, 2, 4, 0), move(0, 2, 1, 0), move(0, 1, 9, 0)],
    "fork": [anon(0, 4), write(0), anon(4, 4, RO), ("fork", 0, 2), protect(4, 4, 3), write(4), protect(0, 1, RO)],
    "files": [
        mapped(1, 0, 4, 3, 0x11, 0), mapped(1, 4, 4, 3, 0x11, 4), mapped(1, 8, 2, 3, 0x11, 20),
        mapped(3, 12, 4, 3, 0x12, 0),
        write(13), protect(13, 1, RO), mapped(2, 20, 2, 3, 0x11, 0), mapped(2, 20, 2, 1, 0x11, 0),
        mapped(3, 24, 2, 1, 0x12, 80),
        ("fault", BASE + 24 * PAGE, 2 * PAGE, "r", None, "user"),
    ],
    "advice": [anon(0, 8), advise(1, 2, 15), advise(3, 1, 16), advise(2, 3, 10), advise(0, 8, 11), advise(5, 9, 16)],
    "guard": [
        anon(0, 8), advise(0, 1, 102), advise(4, 1, 102), advise(4, 1, 103), protect(7, 1, NONE), write(0, 8),
        move(0, 2, 2, 3, 20), write(20, 2), ("fork", 0, 2), write(20, 2), advise(20, 1, 4), write(20),
        unmap(20, 1), anon(20, 1), write(20),
    ],
    "no-key": [anon(0, 4), ("pkey_mprotect", BASE + PAGE, PAGE, RO, -1), protect(1, 1, 3)],
    "own-advice": [anon(0, 8), ("process_madvise", 3, [[BASE + PAGE, PAGE], [BASE + 4 * PAGE, 2 * PAGE]], 2, 10, 0)],
    "remap": [
        mapped(1, 0, 8, 3, 0x11, 0), ("remap_file_pages", BASE + 2 * PAGE, 2 * PAGE, 0, 6, 0),
        ("remap_file_pages", BASE + 2 * PAGE, 2 * PAGE, 0, 2, 0), ("remap_file_pages", BASE, PAGE, 1, 0, 0),
    ],
    "policy": [anon(0, 4), ("mbind", BASE, PAGE, 2, 1, 8, 0), ("mbind", BASE, 4 * PAGE, 0, None, 0, 0)],
    "lock-and-seal": [anon(0, 4), ("mlock2", BASE, PAGE, 1), ("munlock", BASE, PAGE),
        ("mseal", BASE, PAGE, 0), unmap(0, 2)],
    "shared-memory": [("shmat", 0, BASE, 0, 8 * PAGE), protect(2, 2, RO), ("shmdt", BASE)],
    "userfaultfd": [
        anon(0, 4), ("ioctl", 9, "UFFDIO_REGISTER", BASE + PAGE, PAGE, 1, None),
        ("ioctl", 9, "UFFDIO_UNREGISTER", BASE, 4 * PAGE, None, None), ("release",),
    ],
    "names": [anon(0, 4), ("prctl", 0x53564D41, 0, BASE, PAGE, 0, "a name"),
        ("prctl", 0x53564D41, 0, BASE, PAGE, 0, None)],
    "filled": [
        anon(0, 4), ("ioctl", 9, "UFFDIO_REGISTER", BASE, 4 * PAGE, 1, None),
        ("ioctl", 9, "UFFDIO_COPY", BASE + PAGE, PAGE, 0, None), ("mprotect", BASE, 4 * PAGE, 1),
    ],
    "stack": [anon(8, 2, 3, 0x132), ("stack_grow", BASE + 5 * PAGE), write(5)],
}  # fmt: skip
_FILE = {"shmat": 4, "ioctl": 9, "release": 9}


def names_known(rules: RuleSet) -> bool:
    """Whether this kernel names anonymous memory."""
    from vmastore.recorder.system import system_config

    return bool(system_config().get("anon_name"))


def made(name: str, calls: list[tuple[Any, ...]], rules: RuleSet, **config: Any) -> MemoryTrace:
    """A trace of these calls; a fork goes on in the child."""
    mm, events = 1, [START]
    for call, *args in calls:
        file = args[4] if call == "mmap" and args[4] > 0 else _FILE.get(call)
        result = None
        if call == "process_madvise" and rules.process_madvise_self:  # the answer tells that it is the own mm
            result = sum(length for _, length in args[1])
        events.append(Event(0, mm, 1, 1, None, call, tuple(args), result, 0, file))
        mm += call == "fork"
    given = MemoryTrace(TraceHeader(name, "", "jsonl", config=config, faults="recorded"), FILES, numbered(events))
    given.events = answered(given, rules)
    return given


def build(given: MemoryTrace, rules: RuleSet) -> Program:
    last = max(event.mm for event in given.events)
    return program(isolate(given, given.events, rules, list(range(1, last + 1))).trace, rules)


@pytest.fixture
def gcc() -> str:
    found = shutil.which("gcc")
    if found is None:
        pytest.skip("gcc is not here to compile the generated program")
    return found


def running() -> RuleSet:
    """The rules of this kernel; the test is skipped where no preset was observed on it."""
    uname = os.uname()
    if sys.platform != "linux" or uname.machine != "x86_64":
        pytest.skip("needs Linux on x86-64")
    rules = resolve(uname.release, uname.version)
    if parse_release(uname.release, uname.version) not in PRESETS.values():
        pytest.skip(f"no preset is of this kernel, {uname.release}")
    return rules


def compiled(gcc: str, text: str, folder: Path) -> Path:
    """The program, compiled with every warning an error."""
    (folder / "it.c").write_text(text)
    command = [gcc, "-Wall", "-Wextra", "-Werror", "-O1", "-o", str(folder / "it"), str(folder / "it.c")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "it"


def passes(path: Path, text: str = "") -> None:
    done = subprocess.run([path], capture_output=True, text=True)
    if done.returncode == 4:
        pytest.skip(f"this system does not let the program run: {done.stdout.splitlines()[-1]}")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", CASES)
def test_golden_programs_pass_here(name: str, gcc: str, tmp_path: Path) -> None:
    """Every kind of operation: the kernel answers, and shows the lines, that the program expects."""
    rules = running()
    config = {"anon_name": names_known(rules), "nodes": 1}
    text = export_c(build(made(name, CASES[name], rules, **config), rules))
    passes(compiled(gcc, text, tmp_path))


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18", "7.3"])
def test_programs_of_every_kernel_compile(kernel: str, gcc: str, tmp_path: Path) -> None:
    """All cases of the golden set, under the rules of other kernels than the one here."""
    rules = preset(kernel)
    for name, calls in CASES.items():
        compiled(gcc, export_c(build(made(name, calls, rules, anon_name=True), rules)), tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_pass_here(seed: int, gcc: str, tmp_path: Path) -> None:
    """Sixty random calls, with forks among them."""
    rules = running()
    passes(compiled(gcc, export_c(build(walk(seed, rules), rules)), tmp_path))


def test_calls_that_were_left_out_are_done_now() -> None:
    """pkey_mprotect without a key, process_madvise of the own mm and remap_file_pages are in the program."""
    rules = preset("6.18")
    for name, text in (("no-key", "SYS_pkey_mprotect"), ("own-advice", "open_self()"), ("remap", "SYS_remap_file")):
        built = build(made(name, CASES[name], rules), rules)
        assert text in export_c(built) and not built.notes, name
    calls = [anon(0, 2), ("pkey_mprotect", BASE, PAGE, RO, 1), unmap(0, 2)]
    assert "protection keys" in build(made("key", calls, rules), rules).notes[0]


def walk(seed: int, rules: RuleSet) -> MemoryTrace:
    """Random calls that build on what is mapped, chosen by the model's own state."""
    chooser, rng = Chooser(seed, uffd=True, mseal=rules.mseal), random.Random(seed)
    files = {n: FILES[3]._replace(file=n, kind=kind) for n, kind in ((1, "memfd"), (2, "memfd"), (4, "regular"))}
    files |= {3: FILES[2]._replace(file=3), 9: FILES[9]}
    header = TraceHeader("walk", "", "jsonl", config={"anon_name": names_known(rules), "nodes": 1}, faults="recorded")
    given = MemoryTrace(header, files, [START])
    world = given.world(rules)
    world.apply(START)
    mm = 1
    for _ in range(60):
        name, args = chooser.next([list(observe(world.mms[mm], vma)) for vma in world.mms[mm].vmas()])
        if (name == "ioctl" and mm > 1) or name == "fork":
            continue  # a userfaultfd stays with the process that made it
        if rng.random() < 0.02:
            name, args = "fork", [0, mm + 1]
        file = args[4] if name == "mmap" and args[4] > 0 else 9 if name == "ioctl" else None
        event = Event(len(given.events) + 1, mm, 1, 1, None, name, tuple(args), None, 0, file)
        outcome = world.apply(event)
        given.events.append(event._replace(result=outcome.result, errno=outcome.errno))
        mm += name == "fork"
    return given


def test_near_the_map_limit(gcc: str, tmp_path: Path) -> None:
    """A program whose outcome hangs on the limit fills the address space up first."""
    rules = running()
    calls = [anon(0, 4), protect(1, 1, RO), protect(1, 1, 3), anon(8, 1), protect(1, 1, RO)]
    built = build(made("limit", calls, rules, max_map_count=3), rules)
    assert built.limit == 3 and built.steps[-1].outcome.errno == 12
    text = export_c(built)
    assert "fill_up(3);" in text
    passes(compiled(gcc, text, tmp_path))


def test_a_wrong_expectation_fails(gcc: str, tmp_path: Path) -> None:
    """The program can fail: with one line or one answer changed its exit status is 1."""
    text = export_c(build(made("x", CASES["split-and-merge"], running()), running()))
    for old, new in (('"r--p"', '"r-xp"'), ("answer(2, got, 0)", "answer(2, got, -EINVAL)"), ("{ 0, 2,", "{ 0, 3,")):
        assert old in text
        path = compiled(gcc, text.replace(old, new, 1), tmp_path)
        done = subprocess.run([path], capture_output=True, text=True)
        assert done.returncode == 1 and "not ok" in done.stdout


def test_golden_texts() -> None:
    """The program, the pytest file and the mail, word for word."""
    rules = preset("6.18")
    built = build(made("missed-merge", CASES["missed-merge"], rules), rules)
    for name, text in (
        ("missed-merge.c", export_c(built)),
        ("test_missed_merge.txt", export_pytest(built)),
        ("missed-merge.mail", export_report(built, preset("6.12"), "what 6.16 mended")),
    ):
        assert text == (GOLDEN / name).read_text(), name


def test_the_pytest_file_passes_and_can_fail(tmp_path: Path) -> None:
    """Run by pytest it passes; with an expected line changed it fails."""
    rules = preset("6.12")
    text = export_pytest(build(made("files", CASES["files"], rules), rules))
    for name, body, status in (("ok", text, 0), ("bad", text.replace("rw-s", "rwxs"), 1)):
        path = tmp_path / f"test_{name}.py"
        path.write_text(body)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)], cwd=tmp_path
        )
        assert done.returncode == status


def test_what_a_program_cannot_do_is_refused_or_left_out() -> None:
    """The heap is left out where nothing hangs on it; an empty trace and a long one are refused."""
    rules = preset("6.18")
    heap = BASE + 0x40000000
    given = made("heap", [("brk", heap), ("brk", heap + PAGE), anon(0, 2)], rules, start_brk=heap, brk0=heap)
    built = build(given, rules)
    assert [step.event.call for step in built.steps] == ["mmap"] and "brk" in built.notes[0]
    access = ("fault", heap, 2 * PAGE, "w", ".S", "user")  # its answer hangs on what is left out
    given = made("heap", [("brk", heap), ("brk", heap + PAGE), access, anon(0, 2)], rules, start_brk=heap, brk0=heap)
    assert [step.event.call for step in build(given, rules).steps] == ["mmap"]
    with pytest.raises(InputError, match="no operation"):
        program(MemoryTrace(given.header), rules)
    with pytest.raises(InputError, match="too many"):
        program(isolate(*long_trace(), rules, [1]).trace, rules)
    with pytest.raises(InputError, match="userfaultfd"):
        build(made("u", [*CASES["userfaultfd"][:2], write(1)], rules), rules)


def long_trace() -> tuple[MemoryTrace, list[Event]]:
    found = trace(*(anon(2 * n, 1) for n in range(2100)))
    return found, found.events


def test_rings_are_made_as_shared_memory(gcc: str, tmp_path: Path) -> None:
    """What is done to a ring later needs something there that does not merge."""
    rules = running()
    calls = [("io_setup", 92, f"[{BASE:#x}]"), ("mprotect", BASE, PAGE, 1), ("io_destroy", BASE), anon(0, 1)]
    given = made("ring", calls, rules)
    given.events = [e._replace(result=0) if e.call.startswith("io_") else e for e in given.events]
    built = build(given, rules)
    assert [step.event.call for step in built.steps] == ["mmap", "mprotect", "munmap", "mmap"]
    passes(compiled(gcc, export_c(built), tmp_path))
