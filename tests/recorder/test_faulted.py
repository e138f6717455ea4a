"""A log and the faults recorded beside it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from vmastore.errors import InputError
from vmastore.events import Event
from vmastore.recorder.faulted import FaultedLog

NOW = 1_795_513_954
LOG = f"""\
7 {NOW}.000001 execve("/bin/x", ["x"], 0x7f /* 1 var */) = 0 <0.1>
7 {NOW}.300000 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000 <0.1>
7 {NOW}.600000 munmap(0x7f0000000000, 8192) = 0 <0.1>
"""
FAULT = "x {tid} [000] {time}: exceptions:page_fault_user: address=0x7f0000001008 ip=0x55 error_code=0x6\n"


def faults(seconds: float, tid: int = 7) -> str:
    return FAULT.format(tid=tid, time=f"{seconds:.6f}")


def read(tmp_path: Path, log: str, text: str, offset_ns: int | None = None) -> tuple[FaultedLog, list[str]]:
    (tmp_path / "log.gz").write_bytes(gzip.compress(log.encode()))
    (tmp_path / "faults").write_text(text)
    reader = FaultedLog(tmp_path / "log.gz", tmp_path / "faults", offset_ns=offset_ns)
    return reader, [event.call for event in reader.events()]


def test_faults_of_the_logs_own_clock_need_no_offset(tmp_path: Path) -> None:
    """A fault stands between the calls of its thread; one of another thread is nobody's."""
    reader, calls = read(tmp_path, LOG, faults(NOW + 0.5) + faults(NOW + 0.55, tid=9))
    assert calls == ["execve", "mmap", "fault", "munmap"]
    assert (reader.header.faults, reader.skips()) == ("recorded", [])
    assert reader.header.name == "log.gz" and "faults" in reader.header.source


def test_an_offset_is_added(tmp_path: Path) -> None:
    """Faults in another clock come in place by the difference that is given."""
    _, calls = read(tmp_path, LOG, faults(100.5), offset_ns=(NOW - 100) * 1_000_000_000)
    assert calls == ["execve", "mmap", "fault", "munmap"]


def test_this_machines_clocks_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log and faults in CLOCK_MONOTONIC of this machine, since it was started, need no offset either."""
    monkeypatch.setattr("vmastore.recorder.faulted.clock_pair", lambda: (5_000_000_000, (NOW + 5) * 1_000_000_000))
    assert read(tmp_path, LOG, faults(0.5))[1] == ["execve", "mmap", "fault", "munmap"]


def test_losses_make_the_trace_partial(tmp_path: Path) -> None:
    """Lost records and events that do not tell writes from reads are said."""
    lost, _ = read(tmp_path, LOG, faults(NOW + 0.5) + "x 1 5.5: PERF_RECORD_LOST lost 3\n")
    assert lost.header.faults == "partial" and "3 page fault records were lost" in str(lost.header.note)
    blind, _ = read(tmp_path, LOG, f"7/7 {NOW}.5: page-faults:u: 7f0000001008\n")
    assert blind.header.faults == "partial" and "writes from reads" in str(blind.header.note)


@pytest.mark.parametrize(
    ("log", "text", "message"),
    [
        ("mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f00\n", faults(NOW), "no pid and time"),
        (LOG, "# nothing\n", "no page faults"),
        (LOG, faults(NOW - 1_000_000), "1000000 s apart"),
        (LOG, f"x 7 {NOW}.5:    1 page-faults:u:  55d0 main+0x1 (/bin/x)\n", "do not show which address"),
    ],
    ids=["log-without-times", "no-faults", "foreign-clock", "no-address"],
)
def test_what_does_not_fit_together_is_one_error(tmp_path: Path, log: str, text: str, message: str) -> None:
    """The error names what is missing."""
    with pytest.raises(InputError, match=message):
        read(tmp_path, log, text)


def test_what_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    """A missing log, and a perf.data file that is none."""
    (tmp_path / "log").write_text(LOG)
    (tmp_path / "perf.data").write_bytes(b"PERFILE2 and no more")
    with pytest.raises(InputError, match="nowhere"):
        FaultedLog(tmp_path / "nowhere", tmp_path / "log")
    with pytest.raises(InputError, match="nowhere"):
        FaultedLog(tmp_path / "log", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"perf\.data"):
        FaultedLog(tmp_path / "log", tmp_path / "perf.data")


SAMPLES = Path(__file__).parents[1] / "data" / "faults"  # touch.c, on Linux 6.18
TEXTS = {path.stem: path for path in sorted(SAMPLES.glob("*.txt")) if path.with_suffix(".log").exists()}


def _touched(events: list[Event]) -> list[tuple[str, int, int]]:
    """The faults on the mappings that the program itself made (of 8 pages; of 4 in the thread), its calls on them."""
    made = {}
    for event in events:
        if event.call == "mmap" and event.args[1] in (8 * 4096, 4 * 4096) and event.args[2] == 3:
            made[event.result or 0] = event.args[1]
    found = []
    for event in events:
        if event.call in ("fault", "mprotect", "munmap"):
            addr = event.args[0]
            found += [
                (event.call, (addr - start) >> 12, length >> 12)
                for start, length in made.items()
                if start <= addr < start + length
            ]
    return found


@pytest.mark.parametrize("path", TEXTS.values(), ids=TEXTS)
def test_real_faults_stand_between_the_calls(path: Path) -> None:
    """perf script's layouts, trace-cmd report and ftrace's trace, in CLOCK_MONOTONIC, CLOCK_REALTIME and perf's own
    clock: the writes of a program that touches its mappings stand behind the mmap and before what follows."""
    reader = FaultedLog(path.with_suffix(".log"), path)
    events = list(reader.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    blind = path.stem == "perf-page-faults"  # the one fault on a page may have been a read
    assert _touched(events) == [
        *[("fault", 0, 8)] * (not blind),
        ("mprotect", 2, 8),
        *[("fault", 0, 4)] * (not blind),
        ("mprotect", 0, 4),
        ("munmap", 0, 4),
        ("mprotect", 2, 8),
        ("munmap", 0, 8),
    ]
    assert reader.header.faults == ("partial" if blind else "recorded")
    assert "threads that the log does not know" in (reader.header.note or "")  # strace's own


def test_perf_data_is_read_through_perf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A perf.data file is given to perf script; without perf, the error says so."""
    data = tmp_path / "perf.data"
    data.write_bytes(b"PERFILE2 and more")
    program = tmp_path / "bin" / "perf"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n[ "$1" = script ] && exec /bin/cat {SAMPLES / "perf-mono.txt"}\necho exceptions:x\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    log = SAMPLES / "perf-mono.log"
    calls = [event.call for event in FaultedLog(log, data).events()]
    assert calls == [event.call for event in FaultedLog(log, SAMPLES / "perf-mono.txt").events()]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="only perf can read it"):
        FaultedLog(log, data)
