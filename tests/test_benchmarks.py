"""The benchmarks measure what they say, beside baselines that do the same job. No time decides here."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import recording, table
from benchmarks.bare import BareEngine, bare_import, bare_rows
from benchmarks.engine import to_events
from benchmarks.measure import BUILD, pair, percentile
from benchmarks.rows import Goal, Row, from_json, to_json
from benchmarks.stream import Call, calls, log
from vmastore.importers.detect import open_traces

# what each section gives; points in time and queries at 65 k in a full run only
KEYS = {
    "imports": {"import-1", "import-4", "memory-import"},
    "recording": {"record-replay", "record-import"},
    "replays": {"replay-1k", "derived", "memory-replay"},
    "engine": {"engine-1k", "engine-65k", "engine-hot", "engine-hot-ratio"},
    "long": {"point-1k", "queries-1k", "bisect", "bisect-outcomes"},
    "start-up": {"start-version", "start-sql"},
    "store": {"append-batch", "append-single", "bytes"},
    "reduce": {"isolate", "reduce-1", "reduce-2", "reduce-3"},
}


@pytest.mark.parametrize("section", KEYS)
def test_every_figure_is_there(section: str, tmp_path: Path) -> None:
    """A quick run of a section gives its rows, each with a figure, and a verdict wherever there is a goal."""
    rows = runner.SECTIONS[section](True, tmp_path)
    assert {row.key for row in rows} == KEYS[section]
    for row in rows:
        if row.skipped:
            assert section == "recording" and recording.missing() == row.skipped
            continue
        assert row.ours and row.ours > 0 and row.build in ("pure", BUILD)
        assert (row.met is None) == (not row.goals)
        assert (row.ratio is None) == (row.baseline is None) == (not row.against)


def test_all_sections_are_named() -> None:
    """The list above is the runner's."""
    assert list(KEYS) == list(runner.SECTIONS) and set(runner.BUILT) <= set(KEYS)


def flags_by_page(stream: list[Call]) -> dict[int, int]:
    """The same calls on an array of pages."""
    pages: dict[int, int] = {}
    for name, args, _ in stream:
        if name in ("mmap", "mprotect"):
            pages.update(dict.fromkeys(range(args[0] >> 12, (args[0] + args[1]) >> 12), args[2]))
    return pages


def test_the_bare_engine_splits_and_merges() -> None:
    """After random calls on few pages its ranges are those of an array of pages, as few as there can be."""
    rng = random.Random(5)
    for _ in range(200):
        bare, done = BareEngine(), []
        for _ in range(40):
            page, pages = rng.randrange(12), rng.randrange(1, 6)
            done.append(Call("mprotect", (page << 12, pages << 12, rng.choice((1, 3))), 0))
            bare.run(done[-1:])
            shown = flags_by_page(done)
            found = list(bare.vmas.items())
            assert {n: f for s, (e, f) in found for n in range(s >> 12, e >> 12)} == shown, done
            assert all((e, f) != (s2, f2) for (_, (e, f)), (s2, (_, f2)) in pairwise(found)), done


@pytest.mark.parametrize("threads", [1, 4])
def test_the_bare_import_reads_the_same_fields(threads: int, tmp_path: Path) -> None:
    """Its rows have the calls, threads, addresses, lengths, results and lines that our import has."""
    path = tmp_path / "app.strace"
    path.write_text("\n".join(log(400, 100, threads)) + "\n")
    ours = {}
    for event in open_traces(path)[0].events():
        if event.call in ("mmap", "mprotect", "madvise"):
            ours[event.source_line] = (event.tid, event.call, *event.args[:2], event.result)
    bare = {}
    for row in bare_rows(str(path), threads):
        _, _, _, tid, _, name, addr, length, *_, result, _, line = row
        bare[line] = (tid, name.decode(), addr, length, result)  # type: ignore[attr-defined]
    assert len(bare) > 400
    assert sorted(bare.values()) == sorted(ours.values())
    assert bare_import(str(path), str(tmp_path / "bare.db"), threads) == len(bare)


def test_the_program_that_strace_records_makes_the_same_calls(tmp_path: Path) -> None:
    """The log of the compiled program holds the stream's calls; its faults are its own."""
    if lacks := recording.missing():
        pytest.skip(lacks)
    stream = list(calls(300, 50))
    (tmp_path / "calls").write_bytes(recording.pack(stream))
    recording.of_child(["gcc", "-O2", "-o", str(tmp_path / "load"), str(recording.SOURCE)])
    program = [str(tmp_path / "load"), str(tmp_path / "calls")]
    recording.of_child(["strace", "-f", "-e", "trace=memory", "-o", str(tmp_path / "log"), *program])
    base = 0x200000000000
    found = []
    for event in open_traces(tmp_path / "log")[0].events():
        if event.call in ("mmap", "mprotect", "madvise") and event.args[0] and event.args[0] >> 40 == base >> 40:
            found.append((event.call, event.args[0] - base, event.args[1]))
    want = [(c.name, c.args[0] - 0x7F0000000000, c.args[1]) for c in stream if c.name != "fault"]
    assert found == want


def test_pairs_are_rates_and_ratios_of_the_same_round() -> None:
    """Medians of the rates; the ratio is the median of each round's, not of the medians."""
    ours, base = iter([(10, 1.0), (10, 2.0), (10, 4.0)]), iter([(10, 1.0), (10, 4.0), (10, 2.0)])
    found = pair(3, lambda: next(ours), lambda: next(base))
    assert (found["rate"], found["p95"], found["baseline"]) == (5, 2, 5)
    assert (found["ratio"], found["ratio_least"], found["ratio_most"]) == (1.0, 0.5, 2.0)
    assert percentile(range(100), 95) == 95 and percentile([3.0], 99) == 3.0


def test_a_goal_is_met_or_not() -> None:
    """Each of a row's goals counts; without a figure there is no verdict."""
    row = Row("k", "job", "ms", 40.0, 4000.0, "linear", 100.0, [Goal("ours", most=50), Goal("ratio", least=100)])
    assert row.met
    assert from_json(json.loads(json.dumps(to_json(row)))) == row
    assert Row("k", "job", "ms", 51.0, 5100.0, "linear", 100.0, row.goals).met is False
    assert Row("k", "job", "ms", 40.0, 3960.0, "linear", 99.0, row.goals).met is False
    assert Row("k", "job", "ms", goals=row.goals, skipped="gcc is missing").met is None
    assert Row("k", "job", "ms", 1.0, goals=[Goal("of_allowed", most=1)], more={"of_allowed": 1.1}).met is False


def test_the_table_is_made_from_the_json(tmp_path: Path) -> None:
    """Rows, goals and verdicts go into the page between its marks, as often as asked; a page without is refused."""
    goal = [Goal("ratio", least=0.6)]
    rows = [
        Row("a", "import", "lines/s", 60_000.0, 90_000.0, "bare", 0.667, goal),
        Row("b", "import", "lines/s", 60_000.0, 120_000.0, "bare", 0.5, goal, "compiled"),
        Row("c", "replay", "calls/s", goals=goal, skipped="strace is missing"),
    ]
    about = {
        "machine": runner.machine(),
        "mode": "full",
        "load_at_the_end": [1.0],
        "rows": [to_json(r) for r in rows],
    }
    made = table.markdown(about)
    assert "| import | pure | 60,000 lines/s | 90,000 (bare) | 0.667 | ≥ 0.6 × the baseline | yes |" in made
    assert "| import | compiled | 60,000 lines/s | 120,000 (bare) | 0.5 | ≥ 0.6 × the baseline | **no** |" in made
    assert "| replay | pure | not measured: strace is missing |  |  | ≥ 0.6 × the baseline |  |" in made
    page = "# Speed\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nend\n"
    once = table.written(page, made)
    assert "old" not in once and once.endswith("end\n") and table.written(once, made) == once
    with pytest.raises(ValueError, match="0 places"):
        table.written("# Speed\n", made)
    assert "**" not in table.plain(about)


def test_runs_of_sections_become_one_table() -> None:
    """Every section's rows, the newer of the same job and build; loads from the least to the most."""

    def document(load: float, *rows: Row) -> dict:
        machine = runner.machine() | {"load": [load, 0.0, 0.0]}
        return {"machine": machine, "mode": "full", "load_at_the_end": [load + 1], "not_compiled": "make compiled",
                "rows": [to_json(row) for row in rows]}  # fmt: skip

    first = document(2.0, Row("a", "import", "s", 1.0), Row("b", "replay", "s", 2.0))
    again = document(5.0, Row("b", "replay", "s", 3.0), Row("b", "replay", "s", 4.0, build="compiled"))
    found = table.joined([first, again])
    assert [(row["key"], row["ours"]) for row in found["rows"]] == [("a", 1.0), ("b", 3.0), ("b", 4.0)]
    assert "load 2.0 to 6.0" in table.heading(found) and "not measured" not in table.markdown(found)
    assert "make compiled" in table.markdown(table.joined([first]))


def test_a_stale_compiled_engine_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """build/compiled counts only where it was made from this source."""
    monkeypatch.setattr(runner, "COMPILED", tmp_path)
    assert "missing" in runner.stale()
    folder = tmp_path / "vmastore" / "mm"
    folder.mkdir(parents=True)
    (folder / "vma.so").touch()
    (folder / "vma.py").write_bytes((runner.ROOT / "vmastore/mm/vma.py").read_bytes())
    assert runner.stale() == ""
    (folder / "vma.py").write_text("other")
    assert "vma.py differs" in runner.stale()


def test_the_other_build_is_measured_by_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the asked sections come back; vmastore is the one of that folder."""
    monkeypatch.setattr(runner, "COMPILED", tmp_path)
    shutil.copytree(runner.ROOT / "vmastore", tmp_path / "vmastore", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "vmastore" / "version.py").write_text('VERSION = "of the other build"\n')
    with pytest.raises(subprocess.CalledProcessError):  # it has no engine(), which the replay asks for
        runner.compiled(True, ["replays"])
    shutil.copy(runner.ROOT / "vmastore" / "version.py", tmp_path / "vmastore" / "version.py")
    assert {row.key for row in runner.compiled(True, ["engine"])} == KEYS["engine"]


def test_events_of_a_stream_keep_its_order() -> None:
    """Sequence numbers from 1, faults with what the event format asks of them."""
    stream = list(calls(200, 10))
    events = to_events(stream)
    assert [e.seq for e in events] == list(range(1, len(stream) + 1))
    assert {e.args[2:] for e in events if e.call == "fault"} == {("w", None, "user")}
