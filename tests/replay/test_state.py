"""The state that a snapshot holds is whole: replay goes on from it exactly as it would have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from trace_walk import FILES, Walk, header

from vmastore.events import Event, TraceHeader
from vmastore.importers.detect import open_traces
from vmastore.mm.mm import Env, Mm
from vmastore.mm.rules import preset, resolve
from vmastore.mm.vma import AnonVma, File, UffdCtx, Vma, VmaAttrs
from vmastore.replay.maps import observed
from vmastore.replay.state import FILE_VALUES, MM_STRUCTURE, MM_VALUES, decode, encode
from vmastore.replay.world import Outcome, World

DATA = Path(__file__).parents[1] / "data"
KERNELS = ("6.1", "6.7", "6.8", "6.12", "6.18", "7.3", "series-v1")


def told(outcome: Outcome) -> tuple[object, ...]:
    """All that an outcome says."""
    return tuple(outcome)


def hop(worlds: tuple[World, World], fresh: World, events: Iterable[Event], every: int) -> int:
    """Fold events into both worlds, the second taken apart and put together again every so often.

    Returns how often; asserts that outcomes, decisions, maps and the state itself are the same.
    """
    linear, hopping = worlds
    hops = 0
    for event in events:
        assert told(linear.apply(event)) == told(hopping.apply(event)), event
        if event.seq % every == 0:
            data = encode(hopping)
            assert data == encode(linear), event
            other = World(fresh.header, fresh.infos, fresh.rules)
            other.env.faults = fresh.env.faults
            hopping = decode(data, other)
            assert encode(hopping) == data, event
            hops += 1
            for number, mm in linear.mms.items():
                assert observed(mm) == observed(hopping.mms[number])
                assert (mm.map_count, len(mm.index)) == (
                    hopping.mms[number].map_count,
                    len(hopping.mms[number].index),
                )
    return hops


def hop_reader(path: Path, every: int, kernel: str | None = None) -> int:
    """`hop` over the traces of a recording."""
    hops = 0
    for reader in open_traces(path):
        release = resolve(reader.header.release or "6.18", reader.header.version)
        rules = preset(kernel) if kernel else release
        worlds = [World(reader.header, lambda reader=reader: reader.files, rules) for _ in range(3)]  # type: ignore[misc]
        hops += hop((worlds[0], worlds[1]), worlds[2], reader.events(), every)
    return hops


@pytest.mark.parametrize("kernel", KERNELS)
def test_random_traces_go_on_the_same(kernel: str) -> None:
    """Forks, files, policies, names, userfaultfds, locks: nothing that matters later is lost at any event."""
    for seed, faults in enumerate(("recorded", "none", "recorded")):
        worlds = [World(header(faults), FILES, preset(kernel)) for _ in range(3)]
        hops = hop((worlds[0], worlds[1]), worlds[2], Walk(seed).events(300), 2)
        assert hops == 150


@pytest.mark.parametrize(
    ("sample", "every"),
    [
        ("vmafuzz/all-6.1.jsonl.gz", 3),
        ("vectors/two-seeds-6.12.txt", 3),
        ("maprec/ls.maprec.jsonl.gz", 1),
        ("strace/sh.log", 1),
        ("strace/threads.log", 1),
        ("vmatrace/v1.vmatrace.jsonl", 1),
    ],
)
def test_recordings_go_on_the_same(sample: str, every: int) -> None:
    """The small recordings that come with the tests."""
    assert hop_reader(DATA / sample, every) > 0


PROGRAMS = ("gcc", "git", "node-hello", "python-threads", "sqlite3", "stress-brk-fork")
FUZZ = ("6.1/all-1", "6.1-anonname/all-1", "6.12/all-2", "6.12-anonname/all-2", "6.18/all-3")


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("form", ["maprec.jsonl.gz", "strace.gz"])
def test_programs_go_on_the_same(corpus: Path, name: str, form: str) -> None:
    """Real programs, with page faults recorded and without."""
    path = corpus / "programs" / f"{name}.{form}"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    assert hop_reader(path, 97) > 0


@pytest.mark.parametrize("name", FUZZ)
def test_random_calls_on_real_kernels_go_on_the_same(corpus: Path, name: str) -> None:
    """Recordings of random calls."""
    path = corpus / "fuzz" / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    assert hop_reader(path, 211) > 0


def test_what_an_attach_left_open_comes_back() -> None:
    """Pieces of one VMA still have one base after a snapshot, other VMAs another, and the exec is remembered."""
    head = TraceHeader("t", "t", "record", faults="recorded")
    world = World(head, [], preset("6.12"))
    rows = [
        [0x10000, 0x18000, "rw-p", 0, "00:00", 0, "", None, True],
        [0x20000, 0x21000, "rw-p", 0, "00:00", 0, "", None, None],
    ]
    world.apply(Event(1, 1, 1, 1, None, "maps", ("baseline", 2, None, rows), None, 0))
    world.apply(Event(2, 1, 1, 1, None, "mprotect", (0x12000, 0x1000, 1), 0, 0))
    world.apply(Event(3, 2, 2, 2, None, "execve", ("/x", None, 3), 0, 0))
    back = decode(encode(world), World(head, [], preset("6.12")))
    bases = [vma.base for vma in back.mms[1].vmas()]
    assert bases[0] is bases[1] is bases[2] is not None and bases[3] not in (None, bases[0])
    assert [b.written for b in bases if b] == [True, True, True, False] and back.mms[1].attached
    assert back.begun == {3} and encode(back) == encode(world)


def test_every_field_is_accounted_for() -> None:
    """A field added to the model is either in a snapshot or known not to be state: this list is the proof."""
    assert not set(MM_VALUES) & MM_STRUCTURE
    assert set(Mm.__slots__) == set(MM_VALUES) | MM_STRUCTURE
    assert set(Vma.__slots__) == {
        "anon_vma", "attrs", "base", "chain", "label", "next", "prev", "unsure", "vm_end", "vm_start",
    }  # fmt: skip
    assert set(File.__slots__) == set(FILE_VALUES)
    assert set(UffdCtx.__slots__) == {"features", "file", "mm", "released"}
    assert set(AnonVma.__slots__) == {"number", "parent", "root"}
    assert set(VmaAttrs.__slots__) == {
        "_memo", "anon_delta", "anon_name", "close", "compat", "delta", "special", "splittable", "table", "uffd",
        "vm_file", "vm_flags", "vm_policy", "whys",
    }  # fmt: skip
    world = World(header(), FILES, preset("6.18"))
    assert set(vars(world)) == {
        "header", "rules", "env", "infos", "files", "images", "mms", "limits", "watch", "oops", "begun",
    }  # fmt: skip
    assert set(vars(world.limits)) == {"_guests", "_spaces"}
    assert set(vars(Env(preset("6.18")))) == {
        "rules", "config", "sticky", "table", "soft_dirty", "uffds", "forked_uffds", "zero_dev", "inferred", "faults",
        "fs_known", "open_offsets", "judged", "seals_first",
    }  # fmt: skip
    world.mm(1)
    for name in MM_VALUES:  # plain values, which JSON keeps
        assert isinstance(getattr(world.mms[1], name), (int, str, dict, type(None))), name


def test_a_state_that_lacks_something_is_noticed() -> None:
    """The comparison can fail: dropping anon_vma sharing changes what is encoded."""
    world = World(header(), FILES, preset("6.18"))
    shared: list[Vma] = []
    for event in Walk(1).events(300):
        world.apply(event)
        written = [v for mm in world.mms.values() for v in mm.vmas() if v.anon_vma is not None]
        shared = [v for v in written if sum(w.anon_vma is v.anon_vma for w in written) > 1]
        if shared:
            break
    data = encode(world)
    shared[0].anon_vma = AnonVma()
    assert encode(world) != data
