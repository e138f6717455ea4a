"""The replay equals real kernels, and a difference is found, named and counted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmastore.events import Event
from vmastore.importers.detect import open_traces
from vmastore.mm.rules import preset, resolve
from vmastore.replay.resync import clone_mm
from vmastore.replay.settle import alternatives
from vmastore.replay.verify import Verifier
from vmastore.replay.verify_report import Report
from vmastore.replay.world import World

DATA = Path(__file__).parent.parent / "data"


def verify(path: Path, kernel: str | None = None, rule: tuple[str, bool] | None = None) -> Report:
    """The sums of one recording, under its own kernel or another."""
    total = Report()
    for reader in open_traces(path):
        header = reader.header
        rules = preset(kernel) if kernel else resolve(header.release or "", header.version)
        if rule:
            rules = rules.with_rule(*rule)
        world = World(header, lambda reader=reader: reader.files, rules)  # type: ignore[misc]
        total.add(Verifier(world).run(reader.events()))
    return total


def sound(report: Report) -> bool:
    return not (report.mismatches or report.mismatches_assumed or report.errno_mismatches)


@pytest.mark.parametrize(
    "sample",
    [
        "vmafuzz/all-6.1.jsonl.gz",
        "vectors/two-seeds-6.12.txt",
        "maprec/ls.maprec.jsonl.gz",
        "maprec/uffd-fork.maprec.jsonl.gz",
    ],
)
def test_samples_of_real_kernels_are_reproduced(sample: str) -> None:
    """Small recordings that come with the tests have no difference at all."""
    report = verify(DATA / sample)
    assert sound(report) and report.compared > 0


def test_another_kernel_is_told_apart() -> None:
    """The same recording under another kernel's rules differs: the comparison can fail."""
    report = verify(DATA / "vmafuzz/all-6.1.jsonl.gz", "6.18")
    assert report.mismatches > 0
    first = report.first_mismatch
    assert first is not None and first.certain and first.seq > 0


def test_an_error_counts_once() -> None:
    """After a difference the observation is taken over: dropping one event costs few mismatches."""
    reader = open_traces(DATA / "vmafuzz/all-6.1.jsonl.gz")[0]
    world = World(reader.header, lambda: reader.files, resolve(reader.header.release or "", reader.header.version))
    verifier = Verifier(world)
    dropped: Event | None = None
    for event in reader.events():
        if dropped is None and event.call == "mmap" and not event.errno and event.seq > 40:
            dropped = event
            continue
        verifier.step(event)
    assert 1 <= verifier.report.mismatches <= 3


@pytest.mark.parametrize("kernel", ["6.1", "6.1-anonname", "6.12", "6.12-anonname", "6.18"])
@pytest.mark.parametrize("profile", ["basic", "anon-touch", "file", "madvise", "mremap", "mlock", "policy", "uffd"])
def test_recordings_of_random_calls(corpus: Path, kernel: str, profile: str) -> None:
    """0 differences of lines, VmFlags and errno on every recording of the profile, nothing assumed."""
    _recordings(corpus, kernel, profile)


@pytest.mark.parametrize("kernel", ["6.1", "6.1-anonname", "6.12", "6.12-anonname", "6.18"])
@pytest.mark.parametrize(
    "profile", ["name", "brk", "fork", "seal", "growsdown", "errors", "all", "maxmap", "regular"]
)
def test_recordings_of_rarer_calls(corpus: Path, kernel: str, profile: str) -> None:
    """0 differences of lines, VmFlags and errno on every recording of the profile, nothing assumed."""
    _recordings(corpus, kernel, profile)


def _recordings(corpus: Path, kernel: str, profile: str) -> None:
    paths = sorted((corpus / "fuzz" / kernel).glob(f"{profile}*.jsonl.gz"))
    if not paths:
        pytest.skip(f"no recording {profile} of {kernel}")
    for path in paths:
        report = verify(path)
        assert sound(report) and report.assumed == 0, f"{path.name}: {report.first_mismatch}"


@pytest.mark.parametrize("kernel", ["6.8", "6.12", "6.18", "7.3"])
def test_vectors(corpus: Path, kernel: str) -> None:
    """0 differences on the anonymous-memory vectors of four kernels."""
    report = verify(corpus / "vectors" / f"real-kernel-{kernel}.txt.gz")
    assert sound(report) and report.compared >= 4000


@pytest.mark.parametrize(
    "name", ["ls", "gcc", "git", "perl", "python-import", "python-threads", "sqlite3", "node-hello"]
)
def test_real_programs(corpus: Path, name: str) -> None:
    """Real programs, whose recordings show no faults: no certain difference, under 2 % assumed ones."""
    report = verify(corpus / "programs" / f"{name}.maprec.jsonl.gz")
    assert report.mismatches == 0 and report.errno_mismatches == 0
    assert report.mismatches_assumed <= 0.02 * report.compared


@pytest.mark.parametrize("name", ["sqlite3", "node-hello", "stress-brk-fork", "stress-mmap"])
def test_assumed_is_no_escape(corpus: Path, name: str) -> None:
    """Wherever an outcome is called assumed, another state of a VMA that it names decides otherwise."""
    reader = open_traces(corpus / "programs" / f"{name}.maprec.jsonl.gz")[0]
    rules = resolve(reader.header.release or "", reader.header.version)
    world = World(reader.header, lambda: reader.files, rules)
    seen = 0
    for event in reader.events():
        before = world.mms.get(event.mm)
        copy = clone_mm(before) if before is not None else None
        outcome = world.apply(event)
        if outcome.certain or copy is None:
            continue
        seen += 1
        answers = alternatives(world, event, copy, outcome)
        assert len(set(answers)) > 1, f"event {event.seq}: every state decides alike"
    assert seen > 0
