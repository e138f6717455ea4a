"""`bisect find GOOD BAD --each`: runs of several processes."""

from __future__ import annotations

import json
from pathlib import Path

from test_cli import Shell

from vmastore.events import Event, TraceHeader
from vmastore.store import open_store


def test_two_runs_of_several_processes(tmp_path: Path) -> None:
    """--each pairs the children and explains the one that parts first; all alike is exit status 1."""
    base = 0x100000000000

    def events(prot: int) -> list[Event]:
        calls = [
            (1, "mmap", (base, 32768, 3, 0x32, -1, 0), base),
            (1, "fork", (0, 2), 2),
            (1, "fork", (0, 3), 3),
            (2, "mprotect", (base, 4096, 1), 0),
            (3, "mprotect", (base + 8192, 4096, prot), 0),
            (1, "munmap", (base, 4096), 0),
        ]
        return [Event(n, mm, mm, mm, None, *call, 0) for n, (mm, *call) in enumerate(calls, 1)]

    shell = Shell(tmp_path)
    with open_store(tmp_path / "t.db") as store:
        for name, prot in (("good", 1), ("bad", 0), ("same", 1)):
            header = TraceHeader(name, "test", "jsonl", release="6.18.44", faults="recorded")
            store.append(store.create_trace(header).trace, events(prot))
    place = ("--store", str(tmp_path / "t.db"), "bisect", "find", "good")
    found = json.loads(shell.ok(*place, "bad", "--each", "--json"))
    assert [(s["mms"], s["partings"]) for s in found["spaces"]] == [([1, 1], 0), ([2, 2], 0), ([3, 3], 1)]
    assert found["mms"] == [3, 3] and found["found"]["a"] == [5] and found["only_mms"] == [[], []]
    text = shell.ok(*place, "bad", "--each")
    assert "mm2 / bad mm2: 1 calls in both, alike" in text and "the first to part: mm3 / mm3" in text
    assert shell.run(*place, "same", "--each").returncode == 1
    assert "--mm" in shell.fails(*place, "bad", "--each", "--mm", "1")
    assert "two runs" in shell.fails(*place, "--when", "splits", "--each")
