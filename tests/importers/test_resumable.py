"""An import that is killed leaves whole batches, and the same command completes it to the same hashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from behind import ask

DATA = Path(__file__).parents[1] / "data"
LOG = DATA / "strace" / "threads.log"
BATCH = 7

# Runs `vmastore import` with small batches, and kills itself at batch `n`: before its rows are inserted, when they
# are but not committed, or right behind the commit. 0: never.
PROGRAM = """
import functools, os, signal, sys
from vmastore.cli.main import main
from vmastore.store import Store, appending

n, when = int(sys.argv.pop(1)), sys.argv.pop(1)
count = 0

def kill(moment):
    if count == n and moment == when:
        os.kill(os.getpid(), signal.SIGKILL)

append, inner = Store.append, appending.append_batch

def counted(self, *args, **options):
    global count
    count += 1
    kill("before")
    done = append(self, *args, **options)
    kill("committed")
    return done

def inserted(*args, **options):
    done = inner(*args, **options)
    kill("inserted")
    return done

Store.append, appending.append_batch = counted, inserted
Store.import_events = functools.partialmethod(Store.import_events, batch=BATCH)
main()
""".replace("BATCH", str(BATCH))


def run(store: str, n: int, when: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(n), when, "import", *map(str, words), "--store", store]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})


def state(store: str) -> tuple[int, int, bytes, bool, int]:
    """Events of the only trace, those that its head says, its head's hash, whether it is complete, its skips."""
    ((head, digest, complete),) = ask(store, "SELECT head_seq, head_hash, complete FROM trace_t")
    ((events, skips),) = ask(store, "SELECT (SELECT count(*) FROM event_t), (SELECT count(*) FROM skip_t)")
    return events, head, digest, bool(complete), skips


@pytest.fixture(scope="module")
def whole(new_place: Callable[[], str]) -> tuple[int, int, bytes, bool, int]:
    """What one run comes to."""
    store = new_place()
    done = run(store, 0, "never", LOG)
    assert done.returncode == 0, done.stderr
    return state(store)


# numbers without a pattern: the first batch, the last, some between
@pytest.mark.parametrize(
    ("n", "when"),
    [(1, "inserted"), (2, "before"), (4, "committed"), (5, "inserted"), (9, "inserted"), (10, "before")],
)
def test_a_killed_import_goes_on(place: str, whole: tuple[int, int, bytes, bool, int], n: int, when: str) -> None:
    """SIGKILL at any batch and moment: whole batches, then the same events and hash as one run, and nothing twice."""
    store = place
    killed = run(store, n, when, LOG)
    assert killed.returncode == -signal.SIGKILL
    events, head, _, complete, _ = state(store)
    batches = n if when == "committed" else n - 1
    assert events == head == batches * BATCH and not complete
    again = run(store, 0, "never", LOG)
    assert again.returncode == 0 and state(store) == whole, again.stderr
    third = run(store, 1, "before", LOG)
    assert "already imported" in third.stdout and state(store) == whole


def test_killed_twice_and_with_maps_beside(new_place: Callable[[], str]) -> None:
    """The same where events are put beside the log's: each kill leaves more, the end is that of one run."""
    words = [DATA / "attach" / "attach.log", "--maps", DATA / "attach" / "start.smaps"]
    words += ["--maps", f"{DATA / 'attach' / 'end.maps'}@20"]
    store, once = new_place(), new_place()
    assert run(once, 0, "never", *words).returncode == 0
    for n, when in ((1, "committed"), (1, "inserted")):
        assert run(store, n, when, *words).returncode == -signal.SIGKILL
        assert state(store)[0] == BATCH
    assert run(store, 0, "never", *words).returncode == 0
    assert state(store) == state(once)


def test_strict_stops_where_the_first_line_is_skipped(tmp_path: Path, place: str) -> None:
    """--strict: an error that names the line, whole batches before it, and the import can go on without it."""
    log, store = tmp_path / "x.log", place
    lines = [f"7 munmap(0x{n}000, 4096) = 0\n" for n in range(1, 40)]
    lines[30] = "7 munmap(0x31000, LATER) = 0\n"
    lines[35] = "something else\n"
    log.write_text("".join(lines))
    done = run(store, 0, "never", log, "--strict")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"Error: {log}:31: unparsed: munmap: becomes no event (--strict)"
    assert run(store, 0, "never", log).returncode == 0
    assert state(store)[0] == 37 and state(store)[4] == 2
