"""Mutated logs: events and counted skips, or one documented error. `make fuzz` runs 200,000 of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutation import inputs, run

from vmastore.importers.strace import StraceImporter
from vmastore.mm.rules import resolve
from vmastore.replay.verify import Verifier
from vmastore.replay.world import World

COUNT, PARTS = 1500, 3


@pytest.mark.parametrize("part", range(PARTS))
def test_mutated_inputs_end_well(tmp_path: Path, part: int) -> None:
    """Real logs with bytes, tokens and lines changed: nothing but InputError is raised."""
    seen = set()
    for number, name, text, rng in inputs(COUNT, seed=part):
        try:
            seen.add(run(name.partition(":")[0], text, rng, tmp_path))
        except BaseException as error:
            raise AssertionError(f"input {number} ({name}): {text!r}") from error
    assert {"events", "skips alone", "InputError"} <= seen


_TEXTS = b"7 ;[pid  8] ;mmap(;munmap(0x1000, 4096;) = 0;<... mmap resumed>; <unfinished ...>;\n".split(b";")
_PIECES = st.sampled_from(_TEXTS)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=12) | _PIECES, max_size=30).map(b"".join), st.integers(0, 99))
@example(b"7 clone(" * 3, 0)
def test_any_bytes_end_well(tmp_path: Path, text: bytes, seed: int) -> None:
    """Bytes that are no log, and what looks like pieces of one."""
    for kind in ("strace", "perf", "maps", "faults"):
        assert run(kind, text, random.Random(seed), tmp_path)


def test_a_range_that_the_log_does_not_show_is_taken_from_the_answer() -> None:
    """userfaultfd calls whose argument is a bad pointer (found by mutation; real in the corpus): no traceback."""
    importer = StraceImporter(name="x", source="x")
    lines = b"7 userfaultfd(0) = 3\n7 ioctl(3, UFFDIO_UNREGISTER, 0x1) = -1 EFAULT (Bad address)\n"
    lines += b"7 ioctl(3, UFFDIO_REGISTER, 0x1) = -1 EFAULT (Bad address)"
    events = importer.feed_batch(lines.split(b"\n")) + importer.finish()
    report = Verifier(World(importer.header, importer.files, resolve("6.18"))).run(events)
    assert (report.events, report.errno_mismatches) == (3, 0)
