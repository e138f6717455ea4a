"""The names that `import vmastore` offers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmastore
from vmastore.events import Event
from vmastore.replay.trace import StoredTrace

STRACE = shutil.which("strace")
DATA = Path(__file__).parent / "data"
SAMPLE = DATA / "vmafuzz" / "all-6.1.jsonl.gz"


@pytest.mark.parametrize("name", vmastore.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each name of __all__ can be taken from the package."""
    assert getattr(vmastore, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as Python's own do."""
    with pytest.raises(AttributeError, match="open_stoer"):
        vmastore.open_stoer  # noqa: B018


def test_importing_the_package_loads_no_layer() -> None:
    """`import vmastore` imports neither SQLAlchemy nor typer nor any layer."""
    code = "import sys, vmastore; print(sorted(m for m in sys.modules if m.split('.')[0] in "
    code += "('vmastore', 'sqlalchemy', 'alembic', 'typer', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['vmastore', 'vmastore.version']\n"


def test_import_and_replay_through_the_api(place: str) -> None:
    """Import a recording, fold its events, query the store: with the public names alone."""
    (reader,) = vmastore.open_traces(SAMPLE)
    with vmastore.open_store(place) as store:
        info = store.import_events(store.create_trace(reader.header), reader)
        trace = vmastore.StoredTrace(store, info)
        world, outcome = trace.at(50, vmastore.resolve(str(trace.header.release), trace.header.version))
        assert outcome is not None and outcome.seq == 50 and world.mms
        columns, rows = vmastore.query(store, "SELECT count(*) AS n FROM events")
        assert columns == ["n"] and list(rows) == [(info.events,)]


@pytest.fixture
def db(place: str) -> Iterator[vmastore.Database]:
    """A store with a recording of random calls."""
    with vmastore.connect(place, create=True) as found:
        found.import_file(SAMPLE, "fuzz")
        yield found


@pytest.mark.skipif(not STRACE or not Path("/bin/true").exists(), reason="strace is not installed")
def test_import_takes_the_programs_that_ran(db: vmastore.Database, tmp_path: Path) -> None:
    """A log of a program run here, by a relative path too: what exec mapped is there unless it is not wanted."""
    pytest.importorskip("elftools", reason="pyelftools is not installed")
    log = tmp_path / "true.log"
    run = [str(STRACE), "-y", "-o", str(log), "-e", "trace=memory,process,desc", "./true"]
    if subprocess.run(run, cwd="/bin", check=False).returncode:
        pytest.skip("strace may not trace here")
    for name, execs, image in (("found", None, 1), ("none", (), 0), ("named", ["/bin/true"], 1)):
        (trace,) = db.import_file(log, name, execs=execs)
        assert [e.args[0] for e in trace if e.call == "maps"] == ["image"] * image
        names = {vma.name for vma in trace.at(-2).vmas}
        assert (str(Path("/bin/true").resolve()) in names) is bool(image)
    with pytest.raises(vmastore.VmastoreError, match="nowhere"):
        db.import_file(log, "wrong", execs=["/nowhere"])


def test_import_takes_what_stands_beside_a_log(place: str) -> None:
    """Saved maps make a log of strace -p exact and are compared; page faults of the same run come in by time."""
    attach, faults = DATA / "attach", DATA / "faults"
    with vmastore.connect(place, create=True) as db:
        maps = [attach / "start.smaps", f"{attach / 'end.maps'}@20"]
        (trace,) = db.import_file(attach / "attach.log", "exact", maps=maps)
        assert [e.args[0] for e in trace if e.call == "maps"] == ["baseline", "check"]
        report = trace.verify("6.18")
        assert (report.compared, report.mismatches, report.mismatches_assumed) == (1, 0, 0)
        (plain,) = db.import_file(attach / "attach.log")
        assert "maps" not in {e.call for e in plain}
        (faulted,) = db.import_file(
            faults / "perf-mono.log", faults_from=f"{faults / 'perf-mono.txt'}@1795508705.616400"
        )
        assert faulted.header.faults == "recorded" and "fault" in {e.call for e in faulted}
        with pytest.raises(vmastore.VmastoreError, match="neither a line nor a time"):
            db.import_file(attach / "attach.log", maps=[f"{attach / 'end.maps'}@x"])
        with pytest.raises(vmastore.VmastoreError, match="no number of seconds"):
            db.import_file(faults / "perf-mono.log", faults_from=f"{faults / 'perf-mono.txt'}@soon")
        with pytest.raises(vmastore.VmastoreError, match="belong to a strace log"):
            db.import_file(SAMPLE, maps=[attach / "start.smaps"])
        assert [one.name for one in db.traces()] == ["exact", plain.name, faulted.name]


def test_the_same_import_is_made_once(db: vmastore.Database) -> None:
    """The trace that is there is given again, whatever name is asked for; nothing is added."""
    (first,) = db.traces()
    (again,) = db.import_file(SAMPLE, "other")
    assert (again.name, len(again), len(db.traces())) == ("fuzz", len(first), 1)


def test_an_import_that_stopped_goes_on(db: vmastore.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored before it was killed stays; the next import completes it to what one run gives."""
    log = DATA / "strace" / "ff"
    monkeypatch.setattr("vmastore.store.store.Store._finish", _killed)
    with pytest.raises(KeyboardInterrupt):
        db.import_file(log, "half")
    monkeypatch.undo()
    assert [one.stored.info.complete for one in db.traces()] == [True, False]
    (whole,) = db.import_file(log)
    assert (whole.name, whole.stored.info.complete, len(db.traces())) == ("half", True, 2)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_strict_import_stops_at_what_is_no_event(db: vmastore.Database, tmp_path: Path) -> None:
    """strict: the first line that becomes no event is named; else it is counted."""
    log = tmp_path / "a.log"
    log.write_text("brk(NULL) = 0x1000\nmunmap(0x1000, 4096) = ?\n")
    with pytest.raises(vmastore.VmastoreError, match=r"a\.log:2"):
        db.import_file(log, strict=True)
    assert len(db.import_file(log)[0]) == 1


def test_connect_makes_nothing_unasked(tmp_path: Path) -> None:
    """A store that is not there is an error, not an empty store."""
    with pytest.raises(vmastore.VmastoreError):
        vmastore.connect(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_traces_and_events(db: vmastore.Database) -> None:
    """A trace is iterated, asked for one event, counted from the end."""
    (trace,) = db.traces()
    assert trace.name == "fuzz" and trace.header.format == "vmafuzz"
    assert [e.seq for e in trace] == list(range(1, len(trace) + 1))
    assert [e.seq for e in trace.events(3, 5)] == [3, 4, 5]
    assert trace.event(-1).seq == len(trace)
    with pytest.raises(vmastore.VmastoreError, match="no event 99999999"):
        trace.event(99999999)


def test_append(db: vmastore.Database) -> None:
    """Events appended are there at once; a wrong expectation names both versions."""
    trace = db.create("own", release="6.18.44", faults="recorded", config={"max_map_count": 65530})
    event = vmastore.Event(1, 1, 7, 7, None, "mmap", (0x10000000, 4096, 3, 0x32, -1, 0), 0x10000000, 0)
    assert trace.append([event], expected_version=0) == 1 == len(trace)
    assert [(v.start, v.end, v.perms) for v in trace.at(1).vmas] == [(0x10000000, 0x10001000, "rw-p")]
    with pytest.raises(vmastore.VmastoreError, match="at event 1, not at 0"):
        trace.append([event._replace(seq=2)], expected_version=0)


def test_replay_at_and_diff(db: vmastore.Database) -> None:
    """Points in time are those of the maps observed at the end; a difference names the VMAs of either side."""
    trace = db.trace("fuzz")
    sums = trace.replay()
    assert sums.events == len(trace) and sums.peak > 0
    assert trace.verify().mismatches == 0
    assert len(trace.at(-1).vmas) == trace.at(-1).mm.map_count
    removed, added = trace.diff(10, 60)
    before, after = trace.at(10).vmas, trace.at(60).vmas
    assert [v for v in before if v not in removed] == [v for v in after if v not in added]
    assert trace.diff(10, 10) == ([], [])


def test_bisect_explain_and_parting(db: vmastore.Database) -> None:
    """The first event with a property, what it did, and the first that two kernels decide differently."""
    trace = db.trace("fuzz")
    most = trace.replay().peak
    first = trace.bisect(f"map_count >= {most}")
    assert first is not None and trace.explain(first).outcome.map_count == most
    assert trace.explain(first - 1).outcome.map_count < most
    assert trace.bisect(f"map_count > {most}") is None
    parted = trace.parting("6.1", "6.18")
    assert parted is not None and 0 < parted.event.seq <= len(trace)
    assert trace.parting("6.1", "6.1") is None
    for kernel in ("6.1", "6.18"):
        trace.replay(kernel)
    again = trace.parting("6.1", "6.18")  # from what the two replays have stored
    assert again is not None and (again.event, again.what) == (parted.event, parted.what)
    assert [o.cases for o in again.outcomes] == [o.cases for o in parted.outcomes]


def test_bisect_from_snapshots_looks_at_few_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a replay is stored, the API finds the event as the command line does: without a pass over all."""
    with vmastore.connect(tmp_path / "s.db", create=True) as db:
        trace = db.create("long", release="6.18.44", config={"max_map_count": 1 << 20})
        base, count = 1 << 40, 6000
        maps = (base + n * 8192 for n in range(count))
        trace.append(
            Event(n, 1, 7, 7, None, "mmap", (addr, 4096, 3, 0x32, -1, 0), addr, 0) for n, addr in enumerate(maps, 1)
        )
        assert trace.bisect("map_count >= 4321") == 4321  # every event
        trace.replay()
        read: list[int] = []
        events = type(trace.stored).events

        def counted(self: StoredTrace, start: int = 1, stop: int | None = None) -> Iterator[Event]:
            read.append((count if stop is None else stop) - start + 1)
            return events(self, start, stop)

        monkeypatch.setattr(StoredTrace, "events", counted)
        assert trace.bisect("map_count >= 4321") == 4321
        assert sum(read) <= 2000 < count


def test_sql(db: vmastore.Database) -> None:
    """Rows, dicts, saved queries, moments."""
    trace = db.trace("fuzz")
    trace.replay()
    assert db.sql("SELECT :a AS x, 2 AS y", {"a": 1}).dicts() == [{"x": 1, "y": 2}]
    count = db.sql("SELECT count(*) FROM vmas", as_of=("fuzz", 40)).rows()[0][0]
    assert count == len(trace.at(40).vmas)
    assert db.saved("calls").columns == ["call", "events", "failed"]


@pytest.mark.parametrize(("module", "method"), [("pandas", "df"), ("polars", "pl")])
def test_data_frames(db: vmastore.Database, module: str, method: str) -> None:
    """The same cells, with NULL and large numbers, in either kind of frame."""
    pytest.importorskip(module)
    frame = getattr(db.sql("SELECT seq, call, errno FROM events ORDER BY seq"), method)()
    rows = db.sql("SELECT seq, call FROM events ORDER BY seq").rows()
    assert list(frame.columns) == ["seq", "call", "errno"] and len(frame) == len(rows)
    assert list(zip(frame["seq"], frame["call"], strict=True)) == rows


def test_a_missing_library_is_named(db: vmastore.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas or polars the error says what to install."""
    for module, method in (("pandas", "df"), ("polars", "pl")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(vmastore.VmastoreError, match=f"{module} is not installed"):
            getattr(db.sql("SELECT 1"), method)()


def test_the_documented_program_runs(tmp_path: Path) -> None:
    """The program of docs/python.md does what it says."""
    root = Path(__file__).parent.parent
    (code,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "python.md").read_text(), re.S)
    code = code.replace('"app.db"', repr(str(tmp_path / "app.db"))).replace("docs/data", str(root / "docs" / "data"))
    exec(compile(code, "docs/python.md", "exec"), {})
