"""Growth: the exponents fitted are those of the curves, and a curve that is not as claimed is said to be none."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks import growth, plot
from benchmarks.fit import Series, power_law
from benchmarks.measure import machine


def test_a_power_law_is_found() -> None:
    """Exponent and factor of exact points, with no error; of noisy ones within three standard errors."""
    exponent, error, factor = power_law([(n, 3 * n**1.5) for n in (10, 100, 1_000, 10_000)])
    assert exponent == pytest.approx(1.5) and factor == pytest.approx(3) and error == pytest.approx(0, abs=1e-9)
    rng = random.Random(3)
    exponent, error, _ = power_law([(2**n, 2**n * rng.uniform(0.9, 1.1)) for n in range(20)])
    assert 0 < error < 0.02 and abs(exponent - 1) < 3 * error


def test_what_is_not_as_claimed_is_said() -> None:
    """A quadratic is no line, a line no constant; where there is no least, less is as good."""
    sizes = (100, 1_000, 10_000)
    assert Series("job", "events", growth.LINEAR, [(n, n * 2e-6) for n in sizes]).holds
    bad = Series("job", "events", growth.LINEAR, [(n, n * n * 1e-9) for n in sizes])
    assert not bad.holds and "NOT as claimed" in bad.line() and bad.steepest == pytest.approx(2)
    assert not Series("job", "events", growth.CONSTANT, [(n, n * 2e-6) for n in sizes]).holds
    assert Series("job", "VMAs", growth.CONSTANT, [(n, 1 / n) for n in sizes]).holds
    bent = Series("job", "events", growth.LINEAR, [(100, 1), (1_000, 10), (10_000, 1_000)])
    assert bent.steepest == pytest.approx(2)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A growth run of sizes that mean little."""
    folder = tmp_path_factory.mktemp("growth")
    work = pytest.MonkeyPatch()
    work.setattr(growth, "_WORK", 4_500)
    work.setattr(growth, "_RUNS", 1)
    work.setattr(growth, "_PROBES", 3)
    try:
        series = growth.by_vmas([20, 100, 300], folder) + growth.by_events([4_500, 6_000, 9_000], folder)
    finally:
        work.undo()
    assert not list(folder.iterdir()), "stores are left over"
    about = {"machine": machine(), "build": "pure", "load_at_the_end": [0.0]}
    return about | {"series": [one.to_json() for one in series]}


def test_every_claim_is_measured(document: dict) -> None:
    """Each job that something is claimed of has both curves, of growing sizes and times above 0."""
    found = {(one["job"], one["axis"]) for one in document["series"]}
    assert found == {(job, axis) for job in growth.CLAIMS for axis in ("events", "VMAs")}
    for one in document["series"]:
        sizes = [size for size, _ in one["points"]]
        assert len(sizes) == 3 and sizes == sorted(set(sizes)) and all(seconds > 0 for _, seconds in one["points"])
    shown = json.loads(json.dumps(document["series"]))
    assert [Series.from_json(one).to_json() for one in shown] == shown


def test_the_page_shows_every_curve(document: dict, tmp_path: Path) -> None:
    """The table has a row a curve, and the figure names each job with its exponent; the same twice."""
    made = plot.markdown(document)
    assert made.count("\n| ") == 1 + len(document["series"])
    pytest.importorskip("matplotlib", reason="pip install vmastore[bench]")
    plot.figure(document, tmp_path / "one.svg")
    plot.figure(document, tmp_path / "two.svg")
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text() and "<svg" in drawn
    for one in document["series"]:
        assert f"{one['job']}: {one['exponent']:.2f}" in drawn
