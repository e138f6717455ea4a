"""Mutated inputs for the importers: real logs with some bytes, tokens or lines changed.

    python tests/importers/mutation.py [COUNT [SEED [WORKERS]]]

runs that many and prints what came of them; `make fuzz` runs 200,000. Each must end as events and counted
skips, or as one InputError: nothing else may be raised, no line be unaccounted for, no value not fit the store.
"""

from __future__ import annotations

import gzip
import io
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmastore.errors import InputError
from vmastore.events import Event
from vmastore.events.codec import encode_args
from vmastore.importers.base import TraceReader
from vmastore.importers.detect import open_traces
from vmastore.importers.faults import FaultReader
from vmastore.importers.perftrace import to_strace
from vmastore.importers.strace import StraceImporter
from vmastore.mm.rules import resolve
from vmastore.replay.verify import Verifier
from vmastore.replay.world import World

DATA = Path(__file__).parents[1] / "data"
CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "strace-logs"
_MEMORY = 2 << 30  # bytes of address space that a worker may have
_HANG_S = 60  # for one input, of milliseconds
_PRINTED = rb"""
<unfinished ...>;; <detached ...>;<... mmap resumed>;<... ; resumed>;) = ;) = ?;= -1 E;0x;-1;18446744073709551616
99999999999999999999999;0xffffffffffffffff;1e9;";\;[;{;(;];};);<;>;, ;|;/*;*/;=>;...;NULL;?;<<MAP_HUGE_SHIFT
strace: Process 7 attached;+++ exited with 0 +++;+++ superseded by execve in pid 9 +++;[pid  9] ;--- SIGSEGV {
 > /lib/x(f+0x1) [0x2];clone(;execve(;vfork(;% time     seconds;23:59:59.999999 ;9999999999.999999999 ;     0.000001
(+     0.1) ;= 0 (INJECTED);{start=0x1000, len=0x1000};[0x1, 0x2];4</a b>(deleted);exit_group(0) = ?
"""
_TOKENS = _PRINTED.replace(b"\n", b";").split(b";")
_TOKENS += [b"\r", b"\n", b"\t", b"\x00", b"\xff\xfe", b"\x1b[0m", b";"]


def seeds() -> dict[str, list[bytes]]:
    """The lines of the real inputs to mutate, by name; what kind they are is the name's first part."""
    found = {}
    strace = [*(DATA / "strace").rglob("*"), DATA / "attach" / "attach.log", *(DATA / "faults").glob("*.log")]
    kinds = {
        "strace": [*strace, *CORPUS.rglob("*.log"), *CORPUS.rglob("*.log.gz"), *CORPUS.rglob("log.*")],
        "perf": (DATA / "perf").glob("*.txt"),
        "faults": (DATA / "faults").glob("*.txt"),
        "maps": [*(DATA / "maps").iterdir(), DATA / "attach" / "start.smaps"],
    }
    for kind, paths in kinds.items():
        for path in sorted(paths):
            if path.is_file():
                raw = path.read_bytes()
                text = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
                found[f"{kind}:{path.parent.name}/{path.name}"] = text.splitlines(True)
    return found


def mutate(rng: random.Random, lines: list[bytes], other: list[bytes]) -> bytes:
    """Some neighbouring lines, changed in one to eight places."""
    length = min(len(lines), 1 + int(rng.expovariate(1 / 12)))
    begin = rng.randrange(len(lines) - length + 1)
    chosen = lines[begin : begin + length]
    for _ in range(rng.choice((0, 0, 1, 2))):
        _change_lines(rng, chosen, other)
    text = bytearray(b"".join(chosen))
    for _ in range(rng.randint(1, 8)):
        _change_bytes(rng, text)
    return bytes(text)


def _change_lines(rng: random.Random, lines: list[bytes], other: list[bytes]) -> None:
    at = rng.randrange(len(lines) + 1)
    way = rng.randrange(4)
    if way == 0:
        lines.insert(at, rng.choice(other))
    elif way == 1 and len(lines) > 1:
        lines.pop(at - 1)
    elif way == 2:
        rng.shuffle(lines)
    elif lines:
        lines.insert(at, rng.choice(lines))


def _change_bytes(rng: random.Random, text: bytearray) -> None:
    at = rng.randrange(len(text) + 1)
    way = rng.randrange(7)
    if way == 0:
        text[at:at] = rng.choice(_TOKENS)
    elif way == 1:
        text[at : at + rng.randint(1, 12)] = b""
    elif way == 2 and at < len(text):
        text[at] = rng.randrange(256)
    elif way == 3:
        text[at : at + rng.randint(1, 20)] = rng.choice(_TOKENS)
    elif way == 4:
        end = at + rng.randint(1, 40)
        text[at:at] = text[at:end] * rng.choice((1, 1, 1, 2, 50))
    elif way == 5 and rng.random() < 0.2:
        del text[at:]
    elif at < len(text):
        text[at] ^= 1 << rng.randrange(8)


def _fits(event: Event) -> bool:
    """Whether the store can hold an event."""
    encode_args(event.args)
    small = (event.mm, event.pid, event.tid, event.ts_ns or 0, event.file or 0)
    return all(-(1 << 63) <= n < 1 << 63 for n in small) and -(1 << 63) <= (event.result or 0) < 1 << 64


def _check_importer(importer: StraceImporter, events: list[Event]) -> None:
    account = importer.account
    assert account.unaccounted == 0, "a line unaccounted for"
    assert account.lines == account.recorded + account.halves + account.frames + account.skipped_lines, "the account"
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), "the sequence"
    assert all(map(_fits, events)), "a value that does not fit"
    assert all(event.file is None or 0 < event.file <= len(importer.files) for event in events), "a file unknown"


def _strace(text: bytes, rng: random.Random) -> str:
    importer = StraceImporter(
        name="x",
        source="x",
        stacks=b"\n > " in text,
        main_tid=rng.choice((None, 7)),
        one_process=rng.choice((None, 0)),
    )
    lines = text.split(b"\n")
    cut = lines.pop()
    events = importer.feed_batch(lines)
    events += importer.feed_cut(cut) if cut else []
    events += importer.finish()
    _check_importer(importer, events)
    if rng.random() < 0.2:
        Verifier(World(importer.header, importer.files, resolve("6.18"))).run(events)
    return "events" if events else "skips alone"


def _file(text: bytes, kind: str, folder: Path) -> str:
    """Through a file and the recognition of formats, as the command reads it."""
    path = folder / "x.log"
    path.write_bytes(text)
    readers: list[TraceReader] = open_traces(path, "auto" if kind == "strace" else kind)
    events = [event for reader in readers for event in reader.events()]
    assert all(map(_fits, events)), "a value that does not fit"
    return "events" if events else "skips alone"


def run(kind: str, text: bytes, rng: random.Random, folder: Path) -> str:
    """What came of one input; anything but an InputError is raised."""
    try:
        if kind == "faults":
            found = len(list(FaultReader(text.split(b"\n"))))
            return "faults" if found else "no faults"
        if kind != "strace" or rng.random() < 0.1:
            if kind == "perf":
                for line in text.split(b"\n"):
                    to_strace(line)
            return _file(text, kind, folder)
        return _strace(text, rng)
    except InputError as error:
        assert error.message and "\n" not in error.message.strip(), "an error of several lines"
        return "InputError"


def inputs(count: int, seed: int) -> Iterator[tuple[int, str, bytes, random.Random]]:
    """Inputs by number: the same for the same seed."""
    found = seeds()
    names = sorted(found)
    strace = [name for name in names if name.startswith("strace:")]
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        name = rng.choice(strace if rng.random() < 0.8 else names)
        other = found[rng.choice(names)]
        yield number, name, mutate(rng, found[name], other), rng


def work(job: tuple[int, int, int, int]) -> tuple[Counter[str], list[str], int]:
    """One worker's share: (outcomes, failures, peak KiB)."""
    count, seed, part, parts = job
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGALRM, _hangs)
    outcomes: Counter[str] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for number, name, text, rng in inputs(count, seed):
            if number % parts != part:
                continue
            signal.alarm(_HANG_S)
            try:
                outcomes[run(name.partition(":")[0], text, rng, Path(folder))] += 1
            except BaseException:  # whatever it is, it is a failure to be shown
                failures.append(f"input {number} of seed {seed} ({name}): {text!r}\n{traceback.format_exc()}")
                outcomes["FAILED"] += 1
            signal.alarm(0)
    return outcomes, failures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _hangs(*_: Any) -> None:
    raise TimeoutError(f"an input took more than {_HANG_S} s")


def main(words: list[str]) -> int:
    """Run them all; 1 if any failed."""
    count, seed, workers = (*map(int, words), *(200_000, int(time.time()), os.cpu_count() or 1)[len(words) :])
    out = io.StringIO()
    with multiprocessing.Pool(workers) as pool:
        shares = pool.map(work, [(count, seed, part, workers) for part in range(workers)])
    outcomes = sum((share[0] for share in shares), Counter())
    failures = [failure for share in shares for failure in share[1]]
    print(f"{sum(outcomes.values())} mutated inputs of {len(seeds())} logs, seed {seed}", file=out)
    for outcome, number in sorted(outcomes.items()):
        print(f"  {number:7} {outcome}", file=out)
    print(f"  {max(share[2] for share in shares) >> 10} MiB at most in one of {workers} workers", file=out)
    print("\n".join(failures[:10]), file=out)
    print(out.getvalue().rstrip())
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
